"""The lattice's fixed numbers: primes, noise, and how much of a ciphertext need not travel.

The noise of a ciphertext, which hides it and is not the noise of privacy (BFV; Fan and Vercauteren
2012), must stay below q/(2t), or values come out wrong without any exception. Its standard
deviation is 3.25 per coefficient for symmetric encryption and 15.1 for public-key encryption, which
SEAL makes modulo q times a special prime and divides. Cutting the low r bits off a residue adds a
uniform error of std 2**r/sqrt(12), in the second polynomial times the norm of the ternary secret,
sqrt(2n/3). Over K hospitals the variances add up.
"""

import math
from functools import lru_cache

DEGREE = 4096
COEFFICIENT_PRIME = 0xFFFFFFFFFFFC001  # q: 60 bits, 1 mod 2n
SPECIAL_PRIME = 0x1FFFFFFFCE001  # 49 bits: with q 109, the most that is 128-bit secure at n = 4096
CKKS_SCALE_BITS = 28
CKKS_UNIT_BITS = 20  # slots are in units of bound/2**20; tags have 20 bits
FRESH_NOISE_STDDEV = {"symmetric": 3.25, "public": 15.1}
ROOM_IN_STDDEVS = 13.0
MIN_TAG_BITS = 40
MAX_PLAIN_BITS = 52  # fields and tag products stay exact in int64 and float64
MAX_HOSPITALS = 100_000
MAX_VALUES = 2**31
HEAD_BYTES = 80  # of a frame
SEED_BYTES = 64  # of SEAL's generator


def is_prime(candidate: int) -> bool:
    """Miller-Rabin, deterministic below 3.3e24 with these bases (Sorenson and Webster 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if candidate < 2 or any(candidate % base == 0 for base in bases):
        return candidate in bases
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        power = pow(base, odd, candidate)
        if power in (1, candidate - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % candidate
            if power == candidate - 1:
                break
        else:
            return False
    return True


@lru_cache(maxsize=256)
def batching_prime(least: int, degree: int) -> int:
    """The smallest prime >= `least` that is 1 modulo `2*degree`, so that slots exist."""
    candidate = (max(least, 2) - 2) // (2 * degree) * (2 * degree) + 1
    while candidate < least or not is_prime(candidate):
        candidate += 2 * degree
    return candidate


def lattice_noise_stddev(mode: str, hospitals: int, up: int, down: tuple[int, int]) -> float:
    """Std of a sum's noise: fresh noise and bits cut off K ciphertexts, bits cut off the sum."""
    fresh = FRESH_NOISE_STDDEV[mode] ** 2 + _uniform(up)
    second = (2 * DEGREE / 3) * _uniform(down[1])
    return math.sqrt(hospitals * fresh + _uniform(down[0]) + second)


def _uniform(cut: int) -> float:
    """Variance of an error uniform over `2**cut` residues."""
    return 0.0 if cut == 0 else 4.0**cut / 12


def most_bits_cut(mode: str, hospitals: int, limit: float) -> tuple[int, tuple[int, int]] | None:
    """The most low bits that may be cut off, up first; None where even uncut ones have no room."""
    if ROOM_IN_STDDEVS * lattice_noise_stddev(mode, hospitals, 0, (0, 0)) > limit:
        return None
    chosen = [0, 0, 0]
    for place in range(3):
        for bits in range(0, 29, 4):
            attempt = chosen.copy()
            attempt[place] = bits
            noise = lattice_noise_stddev(mode, hospitals, attempt[0], (attempt[1], attempt[2]))
            if ROOM_IN_STDDEVS * noise <= limit:
                chosen = attempt
    return chosen[0], (chosen[1], chosen[2])
