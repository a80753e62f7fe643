"""The public parameters of sealing under one-time keys: how values lie in blocks, proved when made.

A block is one polynomial of n coefficients modulo 2**k. A coefficient holds V *fields* in mixed
radix above N bits of noise, and leaves its lowest r bits behind on the way::

    bits     k ............... N .......... r ..... 0
             | V fields, radix | noise room | not sent |

The last coefficients of a block hold its tag in digits whose sums cannot overflow, and the last
fields of the others hold *salt*: uniform numbers that make what a sum shows of the tags tell
nothing about any single update. Example: with 10 hospitals and 13 bits, n = 4096 and 2**58 hold 3
fields above 9 bits of noise, and 56 bits travel.

`Layout` re-proves all of it whenever one is made: fields cannot overflow, a wrong coefficient in
2**20 has probability at most 2**-64, and secrets and errors keep 128 bits of core-SVP after what an
opened sum gives away (`crypto.security`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from crypto.envelope import OVERHEAD
from crypto.errors import CapacityError
from crypto.packing import plane_bytes
from crypto.roles import Quantiser
from crypto.security import FRESH_STDDEV, core_svp_bits, most_modulus_bits, stddev_after_hints
from crypto.thresholds import MOST_HOLDERS, most_colluders

DEGREES = (2048, 4096)
#: |S| <= 32*1023 is below half of 2**16 and of 65521: sums of keys are recognised, never guessed.
MOST_HOSPITALS = 1023
#: Errors are sub-Gaussian: so many standard deviations are passed once in 2**84.
ROOM_IN_STDDEVS = 10.86
TAG_BITS = 48
#: A seed of noise is so many numbers below the prime that keys are shared by: 255.99 bits.
SEED_NUMBERS = 16
#: Entropy of a block's salt that is left when the sum of two salts is known, in bits.
SALT_BITS = 256
_LEAST_WIDTH, _MOST_CUT = 32, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Polynomials modulo X**n + 1 and 2**k.

    Attributes:
        degree: n, 2048 or 4096.
        modulus_bits: k.
    """

    degree: int
    modulus_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How keys are shared among holders, so that hospitals may be missing from a sum.

    Attributes:
        dropouts: d, hospitals that may be missing.
        holders: H.
        threshold: t, answers that open a sum.
        committee: The holders' names, sorted; empty where all hospitals hold shares, or where the
            holders are drawn in the ceremony.
        seeds: For each seed of noise that a hospital shares as well, the most missing hospitals at
            which it is given away (`crypto.seeds`); rising from 0.
    """

    dropouts: int
    holders: int
    threshold: int
    committee: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def is_drawn(self, hospitals: int) -> bool:
        """Whether the holders are drawn from so many hospitals, in the ceremony."""
        return not self.committee and self.holders < hospitals

    def require(self, hospitals: int) -> None:
        """Refuse numbers that hold against nobody.

        Raises:
            CapacityError: says which.
        """
        safe = self.most_colluders(hospitals)
        named = not self.committee or (
            len(self.committee) == self.holders
            and list(self.committee) == sorted(set(self.committee))
        )
        if not named or not (self.committee or self.holders == min(hospitals, MOST_HOLDERS)):
            raise CapacityError(f"{self.holders} holders, but a committee of {len(self.committee)}")
        if not 1 <= self.dropouts < hospitals or safe < 0 or self.threshold > self.holders:
            raise CapacityError(
                f"{self.threshold} of {self.holders} answers with {self.dropouts} of {hospitals} "
                "hospitals missing do not keep two sums of a place apart"
            )
        self._require_seeds()

    def _require_seeds(self) -> None:
        rising = list(self.seeds) == sorted(set(self.seeds)) and self.seeds[:1] in ((), (0,))
        if not rising or any(most >= self.dropouts for most in self.seeds):
            raise CapacityError(
                f"seeds are given away where {self.seeds} are missing, expected rising numbers "
                f"from 0 that are below the dropouts ({self.dropouts})"
            )

    def numbers(self, degree: int) -> int:
        """Numbers of two bytes in one share of a key, and of the seeds that are shared with it."""
        return degree + SEED_NUMBERS * len(self.seeds)

    def envelope_bytes(self, degree: int) -> int:
        """Bytes of an envelope with a share."""
        return 2 * self.numbers(degree) + OVERHEAD

    def describe(self, layout: "Layout") -> dict[str, int | float | str]:
        """What a person wants to see of it, in order; bytes are at most, with nobody missing."""
        envelopes = self.holders - self.threshold + 1
        given = 2 * SEED_NUMBERS * len(self.seeds) * layout.hospitals
        shares = envelopes * self.envelope_bytes(layout.degree) + layout.answer_bytes + given
        return {
            "bytes of shares and answer up": shares,
            "seeds of noise shared": len(self.seeds),
            "answers that open": self.threshold,
            "holders": self.holders,
            "colluders held": self.most_colluders(layout.hospitals),
        }

    def most_colluders(self, hospitals: int) -> int:
        """How many hospitals the scheme holds against, together with the server."""
        return most_colluders(
            hospitals=hospitals,
            holders=self.holders,
            threshold=self.threshold,
            dropouts=self.dropouts,
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Parameters of one-time keys for `hospitals` vectors of `values`; see the module's text.

    Attributes:
        values: Length d of the vectors.
        hospitals: K, the most contributions a sum may hold.
        grid: The quantisation grid.
        degree: n, coefficients of a block: 2048 or 4096.
        modulus_bits: k.
        fields: V, fields of a coefficient.
        bits_cut: r, low bits of a coefficient that do not travel.
    """

    values: int
    hospitals: int
    grid: Quantiser
    degree: int
    modulus_bits: int
    fields: int
    bits_cut: int

    def __post_init__(self) -> None:
        if not 1 <= self.hospitals <= MOST_HOSPITALS:
            raise CapacityError(
                f"hospitals is {self.hospitals}, one-time keys have room for {MOST_HOSPITALS}"
            )
        if self.degree not in DEGREES or not 1 <= self.fields <= 48:
            raise CapacityError(
                f"degree {self.degree} with {self.fields} fields a coefficient, expected one of "
                f"{DEGREES} and 1 to 48"
            )
        if self.wire_bits < _LEAST_WIDTH or self.wire_bits % 4 or not self.bits_cut >= 0:
            raise CapacityError(
                f"{self.wire_bits} bits of a coefficient travel, expected whole nibbles, 32 to 64"
            )
        if 2.0 ** (self.noise_bits - 1) < 1 + error_bound(self.hospitals, self.bits_cut):
            raise CapacityError(
                f"{self.noise_bits} bits hold no sum of {self.hospitals} errors with "
                f"{self.bits_cut} bits cut off; lower the hospitals or the bits ({self.grid.bits})"
            )
        if self.digit_bits < 8 or self.values_per_block < 1 or self.radix >= 2 ** (TAG_BITS - 1):
            raise CapacityError(
                f"a block of {self.degree} coefficients of {self.plain_bits} bits has no room for "
                f"tag, salt and values; lower the hospitals or the bits ({self.grid.bits})"
            )
        most = most_modulus_bits(self.degree, self.blocks * self.degree)
        if self.modulus_bits > most:
            raise CapacityError(
                f"a modulus of {self.modulus_bits} bits leaves less than 128 bits of security at "
                f"n = {self.degree}, at most {most}: lower the hospitals ({self.hospitals}) or the "
                f"bits ({self.grid.bits})"
            )

    @cached_property
    def radix(self) -> int:
        """Q, one more than the largest field of a sum."""
        return self.hospitals * (self.grid.levels - 1) + 1

    @cached_property
    def plain_bits(self) -> int:
        """w, bits that hold the fields of a coefficient of a sum."""
        return plain_bits(self.radix, self.fields)

    def middle_of_sum(self, contributions: int) -> int:
        """A coefficient of a sum whose every field is in the middle of what it may be."""
        digits: int = (self.radix**self.fields - 1) // (self.radix - 1)
        return contributions * self.grid.half * digits

    @cached_property
    def noise_bits(self) -> int:
        """N, room below the fields for the errors of a sum."""
        return self.modulus_bits - self.plain_bits

    @cached_property
    def wire_bits(self) -> int:
        """Bits of a coefficient that travel."""
        return self.modulus_bits - self.bits_cut

    @cached_property
    def digit_bits(self) -> int:
        """g, bits of a tag that one coefficient takes: sums of K digits stay below 2**w."""
        return self.plain_bits - (self.hospitals - 1).bit_length()

    @cached_property
    def tag_coefficients(self) -> int:
        """Coefficients at the end of a block that hold its tag."""
        return -(-TAG_BITS // self.digit_bits)

    @cached_property
    def data_coefficients(self) -> int:
        """Coefficients of a block that hold fields."""
        return self.degree - self.tag_coefficients

    @cached_property
    def salts(self) -> int:
        """Fields at the end of a block that hold salt."""
        return math.ceil(SALT_BITS / (math.log2(self.grid.levels) - 1.0))

    @cached_property
    def values_per_block(self) -> int:
        """Values that one block holds."""
        return self.data_coefficients * self.fields - self.salts

    @cached_property
    def blocks(self) -> int:
        """B, blocks of one sealed vector."""
        return -(-self.values // self.values_per_block)

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of a block on the way."""
        return plane_bytes(self.degree, self.wire_bits)

    @cached_property
    def security_bits(self) -> float:
        """Classical core-SVP of one update of two honest hospitals whose sum was opened."""
        samples = self.blocks * self.degree
        return core_svp_bits(self.degree, self.modulus_bits, stddev_after_hints(samples))

    @cached_property
    def key_bytes(self) -> int:
        """Bytes of a masked key, or of a share: two a coefficient."""
        return 2 * self.degree

    @cached_property
    def answer_bytes(self) -> int:
        """Bytes of a holder's answer: its sum of shares of keys, wrapped."""
        return self.key_bytes + OVERHEAD


def plain_bits(radix: int, fields: int) -> int:
    """Bits that hold `fields` digits of this radix."""
    most: int = radix**fields - 1
    return most.bit_length()


def error_bound(hospitals: int, bits_cut: int) -> float:
    """What the errors of a sum exceed with probability at most 2**-84, a coefficient.

    K errors of variance 16, and K uniform ones for the bits cut off: both sub-Gaussian with their
    own variances (their sum's mean is taken off where a sum is opened).
    """
    cut = (4.0**bits_cut - 1.0) / 12.0
    return ROOM_IN_STDDEVS * math.sqrt(hospitals * (FRESH_STDDEV**2 + cut))


def plan_layout(*, values: int, hospitals: int, grid: Quantiser, keys_sent: int = 1) -> Layout:
    """The layout that sends the fewest bytes.

    Args:
        values: Length d of the vectors.
        hospitals: K.
        grid: The quantisation grid.
        keys_sent: How many polynomials of two bytes a coefficient a hospital sends beside its
            blocks: its masked key, or shares of it.

    Raises:
        CapacityError: There is no room; the message says which number to change.
    """
    if not 1 <= hospitals <= MOST_HOSPITALS:
        raise CapacityError(f"hospitals is {hospitals}, expected 1 to {MOST_HOSPITALS}")
    found = list(_layouts(values, hospitals, grid))
    if not found:
        raise CapacityError(
            f"{grid.bits} bits per value for {hospitals} hospitals leave no room in 64 bits beside "
            "the noise of encryption: use a coarser grid or fewer hospitals"
        )
    return min(
        found,
        key=lambda one: (one.blocks * one.block_bytes + keys_sent * one.key_bytes, one.degree),
    )


def _layouts(values: int, hospitals: int, grid: Quantiser) -> Iterator[Layout]:
    """For every degree and number of fields, the narrowest that holds."""
    radix = hospitals * (grid.levels - 1) + 1
    for degree in DEGREES:
        for fields in range(1, 49):
            held = plain_bits(radix, fields)
            if held >= 64:
                break
            for width in range(_LEAST_WIDTH, 65, 4):
                layout = _with_width(values, hospitals, grid, degree, fields, width - held)
                if layout:
                    yield layout
                    break


def _with_width(
    values: int, hospitals: int, grid: Quantiser, degree: int, fields: int, room: int
) -> Layout | None:
    """The layout of least modulus in which `room` bits of noise travel."""
    for cut in range(_MOST_CUT + 1):
        if room + cut < 1 or 2.0 ** (room + cut - 1) < 1 + error_bound(hospitals, cut):
            continue
        try:
            return Layout(
                values=values,
                hospitals=hospitals,
                grid=grid,
                degree=degree,
                modulus_bits=plain_bits(hospitals * (grid.levels - 1) + 1, fields) + room + cut,
                fields=fields,
                bits_cut=cut,
            )
        except CapacityError:
            return None
    return None
