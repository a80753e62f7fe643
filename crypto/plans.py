"""The public parameters of sealing, planned from (values, hospitals, grid) and proved when made.

`plan_sealing` chooses how many values share a slot, the plain modulus and how many low bits of a
ciphertext need not travel, so that fewest bytes go up. `SealingPlan` re-proves all of it whenever
one is made, also from JSON: fields cannot overflow, noise keeps 13 standard deviations of room, the
plain modulus batches and differs from the coefficient primes, and SEAL's table gives the lattice at
least 128-bit security. A plan with a fault cannot exist.

The noise of a ciphertext (BFV; Fan and Vercauteren 2012) must stay below q/(2t), or fields come out
wrong without any exception. Its standard deviation a coefficient is 3.25 for symmetric encryption
and 15.1 for public-key encryption, which SEAL makes modulo q times a special prime and divides.
Dropping the low r bits of a residue adds a uniform error of std 2**r/sqrt(12), in the second
polynomial times the norm of the ternary secret, sqrt(2n/3). Over K hospitals all adds in squares.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from crypto.errors import CapacityError
from crypto.roles import Grid

FORMAT_VERSION = 1
DEGREE = 4096
COEFFICIENT_PRIME = 0xFFFFFFFFFFFC001  # q: 60 bits, 1 mod 2n
SPECIAL_PRIME = 0x1FFFFFFFCE001  # 49 bits: with q 109, the most that is 128-bit secure at n = 4096
CKKS_SCALE_BITS = 28
CKKS_UNIT_BITS = 20  # slots are in units of bound/2**20; tags have 20 bits
NOISE_STDDEV = {"symmetric": 3.25, "public": 15.1}
ROOM_IN_STDDEVS = 13.0
MIN_TAG_BITS = 40
MAX_PLAIN_BITS = 52  # fields and tag products stay exact in int64 and float64
MAX_HOSPITALS = 100_000
MAX_VALUES = 2**31
SCHEME_NAMES = ("plain", "modular", "bfv", "ckks")
KEY_MODES = ("symmetric", "public")


def _is_prime(candidate: int) -> bool:
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
    while candidate < least or not _is_prime(candidate):
        candidate += 2 * degree
    return candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingPlan:
    """Public parameters of one sealed federation; see the module's text for what is proved.

    Attributes:
        scheme: "plain", "modular", "bfv" or "ckks".
        key_mode: "symmetric" or "public" for bfv and ckks, else "none".
        values: Length d of the vectors.
        hospitals: The most contributions a sum may hold, K.
        grid: The quantisation grid.
        values_per_slot: V.
        plain_modulus: t, prime, at least `radix**V`; 0 where no slots are used.
        dropped_up: Low bits of the first polynomial left out on the way up.
        dropped_down: Low bits of (first, second) polynomial left out on the way down.
    """

    scheme: str
    key_mode: str
    values: int
    hospitals: int
    grid: Grid
    values_per_slot: int
    plain_modulus: int
    dropped_up: int
    dropped_down: tuple[int, int]
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION:
            raise CapacityError(f"plan version {self.version}, expected {FORMAT_VERSION}")
        if self.scheme not in SCHEME_NAMES:
            raise CapacityError(f"unknown scheme {self.scheme!r}; known: {', '.join(SCHEME_NAMES)}")
        modes = KEY_MODES if self.encrypts else ("none",)
        if self.key_mode not in modes:
            raise CapacityError(
                f"key mode {self.key_mode!r} for {self.scheme}; known: {', '.join(modes)}"
            )
        _check_counts(self.values, self.hospitals)
        if self.scheme in ("modular", "bfv"):
            self._check_fields()
        if self.scheme == "bfv":
            self._check_lattice()
        if self.scheme == "ckks" and self.hospitals << (CKKS_SCALE_BITS + CKKS_UNIT_BITS) > 2**58:
            raise CapacityError(f"hospitals is {self.hospitals}, ckks has room for 1024")

    def _check_fields(self) -> None:
        if self.values_per_slot < 1:
            raise CapacityError(f"values per slot is {self.values_per_slot}, expected at least 1")
        if self.plain_modulus < self.radix**self.values_per_slot:
            raise CapacityError(
                f"plain modulus {self.plain_modulus} is below {self.radix}**"
                f"{self.values_per_slot}: fields would overflow; lower the bits, the hospitals "
                "or the values a slot"
            )
        if not MIN_TAG_BITS < self.plain_modulus.bit_length() <= MAX_PLAIN_BITS:
            raise CapacityError(
                f"plain modulus has {self.plain_modulus.bit_length()} bits, expected "
                f"{MIN_TAG_BITS + 1} to {MAX_PLAIN_BITS}; lower the bits or the hospitals"
            )
        if self.plain_modulus % (2 * DEGREE) != 1 or not _is_prime(self.plain_modulus):
            raise CapacityError(f"plain modulus {self.plain_modulus} is no batching prime")

    def _check_lattice(self) -> None:
        if self.plain_modulus in (COEFFICIENT_PRIME, SPECIAL_PRIME):
            raise CapacityError("the plain modulus equals a coefficient prime")
        widths = (self.dropped_up, *self.dropped_down)
        allowed = range(0, 29, 4)
        if len(widths) != 3 or not all(isinstance(n, int) and n in allowed for n in widths):
            raise CapacityError(f"dropped bits {widths}, expected multiples of 4 in 0 .. 28")
        if self.noise_stddev * ROOM_IN_STDDEVS > self.noise_limit:
            raise CapacityError(
                f"noise room is {self.noise_limit / self.noise_stddev:.1f} standard deviations, "
                f"expected {ROOM_IN_STDDEVS:.0f}: lower the hospitals ({self.hospitals}) or the "
                f"bits ({self.grid.bits})"
            )

    @property
    def radix(self) -> int:
        """One more than the largest field of a sum."""
        return self.hospitals * (self.grid.levels - 1) + 1

    @property
    def encrypts(self) -> bool:
        """Whether the scheme hides anything."""
        return self.scheme in ("bfv", "ckks")

    @property
    def degree(self) -> int:
        """Coefficients of a ciphertext's polynomial."""
        return DEGREE

    @property
    def slots(self) -> int:
        """Slots of a ciphertext: the tag's, then those of values."""
        return DEGREE // 2 if self.scheme == "ckks" else DEGREE

    @property
    def data_slots(self) -> int:
        """Slots of a ciphertext that hold values."""
        return self.slots - 1

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts of one sealed vector."""
        return -(-self.values // (self.values_per_slot * self.data_slots))

    @property
    def coefficient_prime(self) -> int:
        """The ciphertext modulus q of bfv."""
        return COEFFICIENT_PRIME

    @property
    def special_prime(self) -> int:
        """The prime that public-key encryption divides its noise by; 0 where there is none."""
        return SPECIAL_PRIME if self.key_mode == "public" else 0

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of a coefficient's noise in the opened sum of K, worst case."""
        return noise_stddev(self.key_mode, self.hospitals, self.dropped_up, self.dropped_down)

    @property
    def noise_limit(self) -> float:
        """The noise at which fields come out wrong: q/(2t)."""
        return COEFFICIENT_PRIME / (2 * self.plain_modulus)

    @property
    def error_bound_of_mean(self) -> float:
        """Largest error that rounding puts on a mean of the hospitals' clamped vectors."""
        if self.scheme == "ckks":  # 13 stddevs of decryption noise, n**0.5 larger in slots
            noise = ROOM_IN_STDDEVS * NOISE_STDDEV[self.key_mode] * math.sqrt(self.degree)
            return self.grid.bound * noise / 2.0 ** (CKKS_SCALE_BITS + CKKS_UNIT_BITS)
        return 0.0 if self.scheme == "plain" else self.grid.step / 2

    @property
    def parameter_id(self) -> str:
        """Digest over every public parameter, hex."""
        return _parameter_id(self)

    def to_json(self) -> str:
        """Canonical JSON: the same plan gives the same text."""
        return json.dumps(self._document(), sort_keys=True, separators=(",", ":"))

    def _document(self) -> dict[str, Any]:
        lattice = {"degree": self.degree, "slots": self.slots}
        if self.encrypts:
            lattice |= {"coefficient_prime": COEFFICIENT_PRIME, "special_prime": self.special_prime}
        if self.scheme == "ckks":
            lattice |= {"scale_bits": CKKS_SCALE_BITS, "unit_bits": CKKS_UNIT_BITS}
        return {**asdict(self), "lattice": lattice}

    @classmethod
    def from_json(cls, text: str) -> "SealingPlan":
        """Read and prove a plan.

        Raises:
            CapacityError: The text is no plan, or a plan without room.
        """
        try:
            document = json.loads(text)
            document.pop("lattice")
            grid = Grid(**document.pop("grid"))
            dropped = tuple(document.pop("dropped_down"))
            plan = cls(grid=grid, dropped_down=dropped, **document)
        except CapacityError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise CapacityError(f"not a sealing plan: {type(fault).__name__}") from None
        if plan.to_json() != text:
            raise CapacityError("the plan's text is not canonical or names another lattice")
        return plan

    def describe(self) -> dict[str, int | float | str]:
        """What a person wants to see of a plan, in order."""
        from crypto.frames import bytes_down, bytes_up

        rows: dict[str, int | float | str] = {
            "scheme": self.scheme,
            "key mode": self.key_mode,
            "values": self.values,
            "hospitals": self.hospitals,
            "grid step": self.grid.step,
            "grid bound": self.grid.bound,
            "bits a value": self.grid.bits,
            "values a slot": self.values_per_slot,
            "ciphertexts": self.ciphertexts,
            "bytes up": bytes_up(self),
            "bytes down": bytes_down(self),
            "bytes up / float32": bytes_up(self) / (4 * self.values),
            "error bound of the mean": self.error_bound_of_mean,
        }
        if self.scheme in ("modular", "bfv"):
            rows["plain modulus"] = self.plain_modulus
            rows["tag bits"] = self.plain_modulus.bit_length() - 1
        if self.encrypts:
            rows["polynomial degree"] = self.degree
            rows["coefficient prime"] = COEFFICIENT_PRIME
        if self.scheme == "bfv":
            rows["noise room (stddevs)"] = self.noise_limit / self.noise_stddev
        rows["parameter id"] = self.parameter_id
        return rows


@lru_cache(maxsize=64)
def _parameter_id(plan: SealingPlan) -> str:
    return hashlib.sha256(b"asclepias plan\n" + plan.to_json().encode()).hexdigest()


def noise_stddev(mode: str, hospitals: int, up: int, down: tuple[int, int]) -> float:
    """Std of the noise of a sum: fresh noise and dropped bits of K, dropped bits of the total."""
    fresh = NOISE_STDDEV[mode] ** 2 + _uniform(up)
    second = (2 * DEGREE / 3) * _uniform(down[1])
    return math.sqrt(hospitals * fresh + _uniform(down[0]) + second)


def _uniform(dropped: int) -> float:
    """Variance of an error uniform over `2**dropped` residues."""
    return 0.0 if dropped == 0 else 4.0**dropped / 12


def _check_counts(values: int, hospitals: int) -> None:
    for name, value, most in (
        ("values", values, MAX_VALUES),
        ("hospitals", hospitals, MAX_HOSPITALS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise CapacityError(f"{name} is {value!r}, expected an integer in 1 .. {most}")


def _drop(mode: str, hospitals: int, limit: float) -> tuple[int, tuple[int, int]] | None:
    """The most low bits that may stay behind, up first; None where even none do not fit."""
    if ROOM_IN_STDDEVS * noise_stddev(mode, hospitals, 0, (0, 0)) > limit:
        return None
    chosen = [0, 0, 0]
    for place in range(3):
        for bits in range(0, 29, 4):
            attempt = chosen.copy()
            attempt[place] = bits
            noise = noise_stddev(mode, hospitals, attempt[0], (attempt[1], attempt[2]))
            if ROOM_IN_STDDEVS * noise <= limit:
                chosen = attempt
    return chosen[0], (chosen[1], chosen[2])


def plan_sealing(
    *, values: int, hospitals: int, grid: Grid, scheme: str, key_mode: str = "auto"
) -> SealingPlan:
    """Plan the fewest bytes up that have room.

    Args:
        values: Length d of the vectors.
        hospitals: The most contributions a sum may hold, K.
        grid: The quantisation grid, as planned by the accounting.
        scheme: "plain", "modular", "bfv" or "ckks".
        key_mode: "symmetric" (with seed: smallest up), "public", or "auto" for the smaller.

    Raises:
        CapacityError: There is no room; the message says which number to change.
    """
    _check_counts(values, hospitals)
    if scheme not in SCHEME_NAMES:
        raise CapacityError(f"unknown scheme {scheme!r}; known: {', '.join(SCHEME_NAMES)}")
    if key_mode not in ("auto", *KEY_MODES):
        raise CapacityError(f"unknown key mode {key_mode!r}; known: auto, {', '.join(KEY_MODES)}")
    mode = "symmetric" if key_mode == "auto" else key_mode
    if scheme in ("plain", "ckks"):
        return SealingPlan(
            scheme=scheme,
            key_mode="none" if scheme == "plain" else mode,
            values=values,
            hospitals=hospitals,
            grid=grid,
            values_per_slot=1,
            plain_modulus=0,
            dropped_up=0,
            dropped_down=(0, 0),
        )
    return _smallest(values, hospitals, grid, scheme, mode)


def _smallest(values: int, hospitals: int, grid: Grid, scheme: str, mode: str) -> SealingPlan:
    from crypto.frames import bytes_up

    radix = hospitals * (grid.levels - 1) + 1
    found: list[SealingPlan] = []
    for per_slot in range(1, MAX_PLAIN_BITS):
        least = max(radix**per_slot, 2**MIN_TAG_BITS)
        if least.bit_length() > MAX_PLAIN_BITS:
            break
        modulus = batching_prime(least, DEGREE)
        drops = _drop(mode, hospitals, COEFFICIENT_PRIME / (2 * modulus))
        if drops is None or modulus.bit_length() > MAX_PLAIN_BITS:
            break
        sealed = scheme == "bfv"
        found.append(
            SealingPlan(
                scheme=scheme,
                key_mode=mode if sealed else "none",
                values=values,
                hospitals=hospitals,
                grid=grid,
                values_per_slot=per_slot,
                plain_modulus=modulus,
                dropped_up=drops[0] if sealed else 0,
                dropped_down=drops[1] if sealed else (0, 0),
            )
        )
    if not found:
        raise CapacityError(
            f"{grid.bits} bits a value for {hospitals} hospitals leave no room in one slot "
            f"(at most about {MAX_PLAIN_BITS} bits together): use a coarser grid or fewer hospitals"
        )
    return min(found, key=lambda plan: (bytes_up(plan), -plan.values_per_slot))
