"""The public parameters of sealing, proved whenever they are made.

`crypto.planning` chooses them from (values, hospitals, grid). `SealingPlan` re-proves all of them
whenever one is made, also from JSON: fields (a value's place in a slot, `crypto.packing`) cannot
overflow, the lattice's noise keeps 13 standard deviations of room, the plain modulus batches and
differs from the coefficient primes, and SEAL's table gives the lattice at least 128-bit security.
A plan with a fault cannot exist. The noise model is in `crypto.parameters`; one-time keys have
their own, in `crypto.one_time_plans`.
"""

import hashlib
import json
import math
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from typing import Any

from crypto.errors import CapacityError
from crypto.one_time_plans import Layout, Ring, Sharing
from crypto.packing import plane_bytes
from crypto.parameters import (
    CKKS_SCALE_BITS,
    CKKS_UNIT_BITS,
    COEFFICIENT_PRIME,
    DEGREE,
    FRESH_NOISE_STDDEV,
    HEAD_BYTES,
    MAX_HOSPITALS,
    MAX_PLAIN_BITS,
    MAX_VALUES,
    MIN_TAG_BITS,
    ROOM_IN_STDDEVS,
    SEED_BYTES,
    SPECIAL_PRIME,
    is_prime,
    lattice_noise_stddev,
)
from crypto.roles import Quantiser

FORMAT_VERSION = 1
#: The schemes, in the order by which frames number them: a new one comes last.
SCHEME_NAMES = ("plain", "modular", "bfv", "ckks", "one-time")
KEY_MODES = ("symmetric", "public")
#: How the key of a sum comes: masked keys of all hospitals, or shares of any that are enough.
ONE_TIME_MODES = ("full", "threshold")
#: Attributes that JSON, and so the parameter id, knows by another name.
_JSON_NAMES = {"bits_cut_up": "dropped_up", "bits_cut_down": "dropped_down"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingPlan:
    """Public parameters of one sealed federation; see the module's text for what is proved.

    Attributes:
        scheme: "plain", "modular", "bfv", "ckks" or "one-time".
        key_mode: "symmetric" or "public" for bfv and ckks, "full" or "threshold" for
            one-time, else "none".
        values: Length d of the vectors.
        hospitals: The most contributions a sum may hold, K.
        grid: The quantisation grid.
        values_per_slot: V.
        plain_modulus: t, prime, at least `radix**V`; 0 where no slots are used.
        bits_cut_up: Low bits that every residue of the first polynomial leaves out on the way up.
        bits_cut_down: The same on the way down, of the (first, second) polynomial.
        ring: Degree and modulus of one-time keys; None for every other scheme.
        sharing: How one-time keys are shared, in mode "threshold"; else None.
    """

    scheme: str
    key_mode: str
    values: int
    hospitals: int
    grid: Quantiser
    values_per_slot: int
    plain_modulus: int
    bits_cut_up: int
    bits_cut_down: tuple[int, int]
    ring: Ring | None = None
    sharing: Sharing | None = None
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        self._check_whole()
        if self.version != FORMAT_VERSION:
            raise CapacityError(f"plan version {self.version}, expected {FORMAT_VERSION}")
        if self.scheme not in SCHEME_NAMES:
            raise CapacityError(f"unknown scheme {self.scheme!r}; known: {', '.join(SCHEME_NAMES)}")
        if (self.scheme == "one-time") is not (self.ring is not None):
            raise CapacityError("one-time keys have a ring, and no other scheme has one")
        modes = (KEY_MODES if self.encrypts else ("none",)) if self.ring is None else ONE_TIME_MODES
        if self.key_mode not in modes:
            raise CapacityError(
                f"key mode {self.key_mode!r} for {self.scheme}; known: {', '.join(modes)}"
            )
        check_counts(self.values, self.hospitals)
        if (self.key_mode == "threshold") is not (self.sharing is not None):
            raise CapacityError("keys are shared in mode threshold, and in no other")
        if self.sharing is not None:
            self.sharing.require(self.hospitals)
        if self.ring is not None:
            _ = self.layout
        if self.scheme in ("modular", "bfv"):
            self._check_fields()
        self._check_unused()
        if self.scheme == "bfv":
            self._check_lattice()
        if self.scheme == "ckks" and self.hospitals << (CKKS_SCALE_BITS + CKKS_UNIT_BITS) > 2**58:
            raise CapacityError(f"hospitals is {self.hospitals}, ckks has room for 1024")

    def _check_whole(self) -> None:
        numbers = [self.version, self.values_per_slot, self.plain_modulus, self.bits_cut_up]
        numbers += self.bits_cut_down
        if self.ring is not None:
            numbers += astuple(self.ring)
        if self.sharing is not None:
            numbers += self.sharing.dropouts, self.sharing.holders, self.sharing.threshold
            numbers += self.sharing.seeds
        if any(type(number) is not int for number in numbers):
            raise CapacityError(f"the numbers {numbers} of a plan must be whole")

    def _check_unused(self) -> None:
        """Two plans that mean the same have one id: a number without a use has one value."""
        packs = self.scheme in ("modular", "bfv", "one-time")
        unused = {
            "values per slot": (packs, self.values_per_slot, 1),
            "plain modulus": (self.scheme in ("modular", "bfv"), self.plain_modulus, 0),
            "bits cut up": (self.scheme in ("bfv", "one-time"), self.bits_cut_up, 0),
            "bits cut down": (self.scheme == "bfv", self.bits_cut_down, (0, 0)),
        }
        for name, (used, found, expected) in unused.items():
            if not used and found != expected:
                raise CapacityError(f"{self.scheme} has no use for {name} {found}, not {expected}")

    def _check_fields(self) -> None:
        if self.values_per_slot < 1:
            raise CapacityError(f"values per slot is {self.values_per_slot}, expected at least 1")
        if self.plain_modulus < self.radix**self.values_per_slot:
            raise CapacityError(
                f"plain modulus {self.plain_modulus} is below {self.radix}**"
                f"{self.values_per_slot}: fields would overflow; lower the bits, the hospitals "
                "or the values per slot"
            )
        if not MIN_TAG_BITS < self.plain_modulus.bit_length() <= MAX_PLAIN_BITS:
            raise CapacityError(
                f"plain modulus has {self.plain_modulus.bit_length()} bits, expected "
                f"{MIN_TAG_BITS + 1} to {MAX_PLAIN_BITS}; lower the bits or the hospitals"
            )
        if self.plain_modulus % (2 * DEGREE) != 1 or not is_prime(self.plain_modulus):
            raise CapacityError(f"plain modulus {self.plain_modulus} is no batching prime")

    def _check_lattice(self) -> None:
        if self.plain_modulus in (COEFFICIENT_PRIME, SPECIAL_PRIME):
            raise CapacityError("the plain modulus equals a coefficient prime")
        widths = (self.bits_cut_up, *self.bits_cut_down)
        allowed = range(0, 29, 4)
        if len(widths) != 3 or not all(isinstance(n, int) and n in allowed for n in widths):
            raise CapacityError(f"bits cut {widths}, expected multiples of 4 in 0 .. 28")
        if self.lattice_noise_stddev * ROOM_IN_STDDEVS > self.noise_limit:
            room = self.noise_limit / self.lattice_noise_stddev
            raise CapacityError(
                f"noise room is {room:.1f} standard deviations, expected {ROOM_IN_STDDEVS:.0f}: "
                f"lower the hospitals ({self.hospitals}) or the bits ({self.grid.bits})"
            )

    @property
    def radix(self) -> int:
        """One more than the largest field of a sum."""
        return self.hospitals * (self.grid.levels - 1) + 1

    @property
    def encrypts(self) -> bool:
        """Whether the scheme hides anything."""
        return self.scheme in ("bfv", "ckks", "one-time")

    @property
    def needs_pairs(self) -> bool:
        """Whether sealing takes keys between pairs of hospitals (`crypto.pairs`)."""
        return self.ring is not None

    @property
    def layout(self) -> Layout:
        """How values lie under one-time keys; proved anew by being made."""
        if self.ring is None:
            raise CapacityError(f"{self.scheme} has no one-time keys")
        return _layout(self)

    @property
    def degree(self) -> int:
        """Coefficients of a ciphertext's polynomial."""
        return self.ring.degree if self.ring else DEGREE

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
        if self.ring:
            return self.layout.blocks
        return -(-self.values // (self.values_per_slot * self.data_slots))

    @property
    def coefficient_prime(self) -> int:
        """The ciphertext modulus q of bfv."""
        return COEFFICIENT_PRIME

    @property
    def special_prime(self) -> int:
        """The prime that public-key encryption divides its noise by; 0 where there is none."""
        return SPECIAL_PRIME if self.key_mode == "public" else 0

    def residue_bits(self, *, total: bool) -> tuple[int, int]:
        """Bits a residue of the (first, second) polynomial takes on the wire; 0: a seed instead."""
        bits = COEFFICIENT_PRIME.bit_length()
        if total:
            return bits - self.bits_cut_down[0], bits - self.bits_cut_down[1]
        return bits - self.bits_cut_up, 0 if self.key_mode == "symmetric" else bits

    @property
    def slot_bits(self) -> int:
        """Bits that a slot of modular takes: those of t, up to a whole nibble, at least 32."""
        return max(32, -(-self.plain_modulus.bit_length() // 4) * 4)

    def body_bytes(self, *, total: bool) -> int:
        """Bytes of a sealed vector, or of a sum, behind the frame's head."""
        if self.scheme == "plain":
            return 8 * self.values
        if self.ring:
            masked = self.layout.key_bytes if self.sharing is None else 0
            return self.ciphertexts * self.layout.block_bytes + masked
        if self.scheme == "modular":
            return self.ciphertexts * plane_bytes(DEGREE, self.slot_bits)
        first, second = self.residue_bits(total=total)
        tail = plane_bytes(DEGREE, second) if second else SEED_BYTES
        return self.ciphertexts * (plane_bytes(DEGREE, first) + tail)

    @property
    def bytes_up(self) -> int:
        """Bytes that a hospital sends a round."""
        return HEAD_BYTES + self.body_bytes(total=False)

    @property
    def bytes_down(self) -> int:
        """Bytes of a sealed sum."""
        return HEAD_BYTES + self.body_bytes(total=True)

    @property
    def lattice_noise_stddev(self) -> float:
        """Standard deviation of the encryption's own noise, a coefficient of the sum of K: at most.

        It is no privacy noise, and opening takes it away.
        """
        return lattice_noise_stddev(
            self.key_mode, self.hospitals, self.bits_cut_up, self.bits_cut_down
        )

    @property
    def noise_limit(self) -> float:
        """The noise at which fields come out wrong: q/(2t)."""
        return COEFFICIENT_PRIME / (2 * self.plain_modulus)

    @property
    def error_bound_of_mean(self) -> float:
        """Largest error that rounding puts on a mean of the hospitals' clamped vectors."""
        if self.scheme == "ckks":  # 13 stddevs of decryption noise, n**0.5 larger in slots
            noise = ROOM_IN_STDDEVS * FRESH_NOISE_STDDEV[self.key_mode] * math.sqrt(self.degree)
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
        lattice: dict[str, Any] = {"degree": self.degree, "slots": self.slots}
        if self.ring:
            lattice = asdict(self.ring)
            if self.sharing:
                lattice |= {"sharing": asdict(self.sharing)}
        elif self.encrypts:
            lattice |= {"coefficient_prime": COEFFICIENT_PRIME, "special_prime": self.special_prime}
        if self.scheme == "ckks":
            lattice |= {"scale_bits": CKKS_SCALE_BITS, "unit_bits": CKKS_UNIT_BITS}
        named = {_JSON_NAMES.get(name, name): value for name, value in asdict(self).items()}
        del named["ring"], named["sharing"]  # they are the lattice
        return {**named, "lattice": lattice}

    @classmethod
    def from_json(cls, text: str) -> "SealingPlan":
        """Read and prove a plan.

        Raises:
            CapacityError: The text is no plan, or a plan without room.
        """
        try:
            document = json.loads(text)
            lattice = document.pop("lattice")
            sharing = lattice.pop("sharing", None)
            if sharing is not None:
                lists = {name: tuple(sharing[name]) for name in ("committee", "seeds")}
                sharing = Sharing(**{**sharing, **lists})
            ring = Ring(**lattice) if document.get("scheme") == "one-time" else None
            grid = Quantiser(**document.pop("grid"))
            up, down = document.pop("dropped_up"), tuple(document.pop("dropped_down"))
            plan = cls(
                grid=grid,
                bits_cut_up=up,
                bits_cut_down=down,
                ring=ring,
                sharing=sharing,
                **document,
            )
        except CapacityError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise CapacityError(f"not a sealing plan: {type(fault).__name__}") from None
        if plan.to_json() != text:
            raise CapacityError("the plan's text is not canonical or names another lattice")
        return plan

    def describe(self) -> dict[str, int | float | str]:
        """What a person wants to see of a plan, in order."""
        rows: dict[str, int | float | str] = {
            "scheme": self.scheme,
            "key mode": self.key_mode,
            "values": self.values,
            "hospitals": self.hospitals,
            "grid step": self.grid.step,
            "grid bound": self.grid.bound,
            "bits per value": self.grid.bits,
            "values per slot": self.values_per_slot,
            "ciphertexts": self.ciphertexts,
            "bytes up": self.bytes_up,
            "bytes down": self.bytes_down,
            "bytes up / float32": self.bytes_up / (4 * self.values),
            "error bound of the mean": self.error_bound_of_mean,
        }
        if self.scheme in ("modular", "bfv"):
            rows["plain modulus"] = self.plain_modulus
            rows["tag bits"] = self.plain_modulus.bit_length() - 1
        if self.encrypts:
            rows["polynomial degree"] = self.degree
        if self.ring:
            rows["modulus bits"] = self.ring.modulus_bits
            rows["core-SVP bits, two honest hospitals"] = int(self.layout.security_bits)
            if self.sharing:
                rows |= self.sharing.describe(self.layout)
        elif self.encrypts:
            rows["coefficient prime"] = COEFFICIENT_PRIME
        if self.scheme == "bfv":
            rows["noise room (stddevs)"] = self.noise_limit / self.lattice_noise_stddev
        rows["parameter id"] = self.parameter_id
        return rows


@lru_cache(maxsize=64)
def _parameter_id(plan: SealingPlan) -> str:
    return hashlib.sha256(b"asclepias plan\n" + plan.to_json().encode()).hexdigest()


def check_counts(values: int, hospitals: int) -> None:
    """Refuse numbers of values or hospitals that cannot be."""
    for name, value, most in (
        ("values", values, MAX_VALUES),
        ("hospitals", hospitals, MAX_HOSPITALS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise CapacityError(f"{name} is {value!r}, expected an integer in 1 .. {most}")


@lru_cache(maxsize=64)
def _layout(plan: SealingPlan) -> Layout:
    assert plan.ring is not None
    return Layout(
        values=plan.values,
        hospitals=plan.hospitals,
        grid=plan.grid,
        degree=plan.ring.degree,
        modulus_bits=plan.ring.modulus_bits,
        fields=plan.values_per_slot,
        bits_cut=plan.bits_cut_up,
    )
