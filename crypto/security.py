"""How hard the lattice problems are that sealing under one-time keys rests on: an estimate.

The estimate is core-SVP: the cost 2**(0.292*beta) of one call to the best known sieve in the block
size beta that the cheaper of two attacks needs (Alkim, Ducas, Poeppelmann and Schwabe 2016): the
primal one, which finds the unusually short vector that secret and error make, and the dual one,
which tells samples from uniform numbers. Basis profiles follow the geometric series assumption.
Everything else such an attack costs is left out, which makes the estimate low by some 30 bits
beside the cost models of other tables.

What is attacked is not the fresh secret. Who opens a sum of keys and errors knows, of two honest
hospitals' secrets, their sum S; a coefficient of one of them is then hypergeometric around S/2
with variance (4096 - S**2)/508, 8.0 on average instead of 16. Of the errors the attacker may also
pick those samples whose sum is largest, where that variance is smallest.
"""

import math
from bisect import bisect_left
from functools import lru_cache

CLASSICAL, QUANTUM = 0.292, 0.265
#: Bits of core-SVP that a plan must have, after what an opened sum gives away.
LEAST_BITS = 128
#: Coefficients of secrets and errors: heads of this many coins, less half of them.
COINS = 64
FRESH_STDDEV = math.sqrt(COINS) / 2
#: Samples that an attack works on; fewer could be picked more sharply, and would not suffice.
_SAMPLES_NEEDED = 4_600
#: No plan is credited with more: the samples picked of some five million.
_MOST_STDDEV = 2.69
_LEAST_BLOCK, _MOST_BLOCK = 60, 4_000


def _log_delta(beta: int) -> float:
    """Natural logarithm of the root Hermite factor that block size beta reaches (Chen 2013)."""
    body = math.log(beta / (2 * math.pi * math.e)) + math.log(math.pi * beta) / beta
    return body / (2 * (beta - 1))


def _primal_succeeds(beta: int, degree: int, log_q: float, stddev: float) -> bool:
    """Whether the projected short vector stands out, at the best number of samples."""
    log_delta = _log_delta(beta)
    dimension = max(degree + 2.0, math.sqrt((degree + 1) * log_q / log_delta))
    gap = (2 * beta - dimension) * log_delta + (1 - (degree + 1) / dimension) * log_q
    return math.log(stddev) + 0.5 * math.log(beta) <= gap


def _dual_bits(beta: int, degree: int, log_q: float, stddev: float) -> float:
    """Cost of telling samples from uniform ones by short dual vectors, log2."""
    log_delta = _log_delta(beta)
    dimension = math.sqrt(degree * log_q / log_delta)
    log_length = dimension * log_delta + degree / dimension * log_q
    spread = math.exp(min(log_length + math.log(stddev) - log_q, 50.0))
    advantage = 2.0 - 2 * math.pi**2 * spread**2 / math.log(2)  # log2, of 4*exp(-2*(pi*spread)**2)
    # A sieve gives 2**(0.2075*beta) vectors at once; 1/advantage**2 of them are needed.
    return CLASSICAL * beta + max(0.0, -2 * advantage - 0.2075 * beta)


@lru_cache(maxsize=512)
def block_size(degree: int, modulus_bits: int, stddev: float) -> int:
    """The block size at which the primal attack succeeds.

    Args:
        degree: n, the dimension of the secret.
        modulus_bits: k; the modulus is 2**k.
        stddev: Of the coefficients of secret and error alike.
    """
    log_q = modulus_bits * math.log(2)
    low, high = _LEAST_BLOCK, _MOST_BLOCK
    while low < high:
        middle = (low + high) // 2
        if _primal_succeeds(middle, degree, log_q, stddev):
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=512)
def core_svp_bits(degree: int, modulus_bits: int, stddev: float) -> float:
    """Classical core-SVP of the cheaper attack, in bits; see the module's text."""
    log_q = modulus_bits * math.log(2)
    primal = block_size(degree, modulus_bits, stddev)
    dual = min(
        _dual_bits(beta, degree, log_q, stddev) for beta in range(_LEAST_BLOCK, primal + 100)
    )
    return min(CLASSICAL * primal, dual)


@lru_cache(maxsize=64)
def stddev_after_hints(samples: int) -> float:
    """What an attacker who saw the sum of two still has to guess, at the samples it would pick.

    Args:
        samples: Coefficients of one sealed vector that the attacker may pick from.
    """
    pair = 2 * COINS
    left, weight, kept = min(1.0, _SAMPLES_NEEDED / samples), 0.0, 0.0
    for distance in range(COINS, -1, -1):
        ways = math.comb(pair, COINS + distance) * (2 if distance else 1)
        chance = min(ways / 2**pair, left)
        weight += chance
        kept += chance * (pair**2 / 4 - distance**2) / (4 * (pair - 1))
        left -= chance
        if left <= 0.0:
            break
    return min(_MOST_STDDEV, math.sqrt(kept / weight))


def most_modulus_bits(degree: int, samples: int) -> int:
    """The largest k <= 64 at which a ring of this degree still has 128 bits, or 0."""
    return _most_modulus_bits(degree, stddev_after_hints(samples))


@lru_cache(maxsize=64)
def _most_modulus_bits(degree: int, stddev: float) -> int:
    widths = range(8, 65)
    # A wider modulus is weaker, so the widths that are strong enough come first.
    enough = bisect_left(widths, 1, key=lambda k: core_svp_bits(degree, k, stddev) < LEAST_BITS)
    return widths[enough - 1] if enough else 0
