"""One-time keys: exact sums under keys that nobody holds and that open one sum each.

For every sum each hospital draws a secret polynomial s of its own and seals block i of its update
as ``a_i*s + e_i + 2**N*fields_i`` modulo 2**k (RLWE; Lyubashevsky, Peikert and Regev 2010), with
``a`` public and derived by all. The server adds blocks; the sum of the keys opens their sum. It
comes in one of two ways, which the plan fixes:

* *full*: s travels masked. Pairwise masks cancel in the sum over *all* hospitals, so a sum of all
  comes with the sum S of its keys, and with nothing else that opens anything. A last mask under the
  group key keeps S from the server too.
* *threshold*: s travels in shares, each for one holder. Holders answer one signed roster with the
  sum of its members' shares; enough answers give S (`crypto.thresholds`).

Formal guarantee. *Full*: the masked keys of honest hospitals are uniform but for their sum,
whatever the server shows to whom and whatever up to K - 2 hospitals send: one that is missing
leaves them uniform, and a place is answered once. *Threshold*: whatever the server and c_max
hospitals do, all answers together tell one sum of honest keys. Two honest hospitals' updates in an
opened sum are protected by RLWE with what S and the decoding errors give away counted in
(`crypto.security`). Keys and errors never touch a disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crypto.coins import Coins
from crypto.encrypted_blocks import Blocks, EmptyBlocks, Sealing, decrypt_blocks
from crypto.errors import ContributionError, KeysError, TagMismatchError
from crypto.frames import Content, Frame, read_frame, write_frame
from crypto.key_shares import Answers, candidates, deal, open_answers, seats_of
from crypto.keys import Keys
from crypto.one_time_plans import Layout
from crypto.packing import from_planes, write_planes
from crypto.pairs import Mask, PairKeys, stream_sum
from crypto.plans import SealingPlan
from crypto.polynomials import Small
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from crypto.security import COINS
from crypto.seeds import digests
from crypto.tags import derive_key
from crypto.vectors import check_contributors, check_seeds, check_vector, new_nonce

_ADDED = 16_384  # coefficients that the server adds at once


class Opening(NamedTuple):
    """An opened sum.

    Attributes:
        values: float64 `[d]`.
        suspects: Holders whose answers did not fit, sorted.
    """

    values: Vector
    suspects: tuple[str, ...]


def _pairs_of(keys: Keys, plan: SealingPlan) -> PairKeys:
    keys.require(plan)
    if keys.pairs is None or len(keys.pairs.others) != plan.hospitals - 1:
        found = "none" if keys.pairs is None else str(len(keys.pairs.others))
        raise KeysError(f"{found} pair keys, one-time keys need {plan.hospitals - 1}")
    return keys.pairs


def _key_pads(keys: Keys, place: Place, nonces: Mapping[str, bytes], degree: int) -> Mask:
    """What keeps keys from the server: words under the group key, summed over hospitals."""
    label, group_key = keys.parameter_id.encode(), keys.group_key
    return stream_sum(
        (
            (derive_key(group_key, b"key pad", place, name.encode(), nonce, label), True)
            for name, nonce in nonces.items()
        ),
        degree,
    )


class OneTimeSealer:
    """Quantises, packs, tags and encrypts under a key of its own for every vector."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        self._pairs = _pairs_of(keys, plan)
        if self._pairs.hospital != hospital:
            raise KeysError(f"pair keys of {self._pairs.hospital!r}, not of {hospital!r}")
        self._plan, self._layout, self._keys, self._hospital = plan, plan.layout, keys, hospital

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        """Draw a key, and do all that depends on no vector: masks, pads, products with the key.

        Raises:
            KeysError: The round is over for this hospital: its pair keys have moved on.
        """
        degree, pairs = self._layout.degree, self._pairs
        nonce, coins = new_nonce(), Coins()
        secret = coins.binomial(degree)
        sent: Mask | None = None
        if self._plan.sharing is None:
            sent = pairs.masks(place, degree)
            sent += secret.astype(np.uint16)
            sent += _key_pads(self._keys, place, {self._hospital: nonce}, degree)
        sealing = Sealing(layout=self._layout, keys=self._keys, bind=pairs.bind, place=place)
        pads = sealing.pads({self._hospital: nonce})[self._hospital]
        blocks = EmptyBlocks(Small(secret), coins, sealing, pads)
        key = _FreshKey(secret=secret, masked=sent, nonce=nonce)
        return Prepared(self._hospital, place, partial(self._finish, place, key, blocks))

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Seal float64 `[d]` for a sum at `place`; seeds of its noise are shared with its key.

        Raises:
            KeysError: The round is over for this hospital: its pair keys have moved on.
        """
        return self.prepare(place).seal(values, seeds)

    def _finish(
        self,
        place: Place,
        key: "_FreshKey",
        blocks: EmptyBlocks,
        values: Vector,
        seeds: Sequence[bytes],
    ) -> Sealed:
        plan = self._plan
        check_vector(values, plan.values)
        check_seeds(seeds, plan)
        envelopes: dict[str, bytes] = {}
        if plan.sharing is not None:
            envelopes = deal(key.secret, seeds, plan, self._pairs, place, key.nonce)
        body = blocks.filled(values)
        sealed = write_frame(
            plan,
            content=Content.SINGLE,
            key_id=self._keys.key_id,
            contributions=1,
            body=[body.reshape(-1).data, b"" if key.masked is None else key.masked.data.cast("B")],
            nonce=key.nonce,
        )
        return replace(sealed, envelopes=envelopes, seeds=digests(seeds))


class _FreshKey(NamedTuple):
    """A key that one vector is sealed under.

    Attributes:
        secret: Its coefficients, int64 `[n]`.
        masked: As it is sent; None where it goes in shares.
        nonce: Of the signed header.
    """

    secret: NDArray[np.int64]
    masked: Mask | None
    nonce: bytes

    def __repr__(self) -> str:
        return "_FreshKey(hidden)"


class OneTimeAdder:
    """Adds coefficients modulo 2**64 and masked keys modulo 2**16; holds public parameters only.

    Its memory is that of one vector of words, whatever K.
    """

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._layout, self._key_id = plan, plan.layout, key_id
        self._sum = np.zeros((plan.ciphertexts, plan.degree), dtype=np.uint64)
        self._keys = np.zeros(plan.degree if plan.sharing is None else 0, dtype=np.uint16)
        self._contributions = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector; on an error the sum is as before."""
        plan, layout = self._plan, self._layout
        frame = read_frame(sealed, plan, content=Content.SINGLE, key_id=self._key_id)
        if self._contributions >= plan.hospitals:
            raise ContributionError(f"more than the planned {plan.hospitals} contributions")
        blocks, masked = _parts(frame, layout)
        rows = max(1, _ADDED // layout.degree)
        incoming = np.empty((rows, layout.degree), dtype=np.uint64)
        for first in range(0, layout.blocks, rows):
            part = blocks[first : first + rows]
            from_planes(part, layout.wire_bits, incoming[: len(part)])
            self._sum[first : first + rows] += incoming[: len(part)]
        self._keys += masked
        self._key_id = frame.key_id
        self._contributions += 1

    def total(self) -> Sealed:
        """The sum so far."""
        layout = self._layout
        if not self._contributions or self._key_id is None:
            raise ContributionError("a sum of no contributions")
        body = np.empty((layout.blocks, layout.block_bytes), dtype=np.uint8)
        self._sum &= np.uint64(2**layout.wire_bits - 1)
        write_planes(self._sum, layout.wire_bits, body)
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=self._key_id,
            contributions=self._contributions,
            body=[body.reshape(-1).data, self._keys.data.cast("B")],
        )


class OneTimeOpener:
    """Opens sums whose key all hospitals, or enough holders of shares, have given together."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        self._pairs = _pairs_of(keys, plan)
        self._plan, self._layout, self._keys = plan, plan.layout, keys

    def open(
        self,
        total: Sealed,
        contributors: Mapping[str, bytes],
        place: Place,
        answers: Answers | None = None,
    ) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`.

        Args:
            total: What an adder returned.
            contributors: Each contributor's nonce by name.
            place: Where in the training the sum belongs.
            answers: Of the holders, where hospitals may be missing; see `recover`.

        Raises:
            ContributionError: Too few contributors, or answers; nothing can be opened.
            TagMismatchError: The sum is not of exactly these contributors at this place.
        """
        return self.recover(total, contributors, place, answers).values

    def recover(
        self,
        total: Sealed,
        contributors: Mapping[str, bytes],
        place: Place,
        answers: Answers | None = None,
    ) -> Opening:
        """As `open`, and name the holders whose answers do not fit the sum.

        A name is evidence against a hospital beside an honest server only: a server that works
        with one hospital can make honest ones look wrong. It is for the log; nobody is cut off.
        """
        plan = self._plan
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, plan.hospitals)
        least = plan.hospitals - (plan.sharing.dropouts if plan.sharing else 0)
        if len(contributors) < least:
            raise ContributionError(
                f"a sum of {len(contributors)}, but no key opens sums of fewer than {least}"
            )
        blocks, masked = _parts(frame, self._layout)
        bind = self._pairs.bind
        sealing = Sealing(layout=self._layout, keys=self._keys, bind=bind, place=place)
        pads = sealing.pads(contributors)
        if plan.sharing is None:
            secret = self._unmasked(masked, contributors, place)
            return Opening(decrypt_blocks(blocks, Small(secret), sealing, pads), ())
        if answers is None:
            raise ContributionError("a sum without its holders' answers opens nowhere")
        shares = open_answers(answers, plan, self._keys, bind, place)
        holders, threshold = seats_of(plan.sharing, self._pairs).holders, plan.sharing.threshold
        for candidate, agreeing in candidates(shares, holders, threshold, len(contributors)):
            try:
                values = decrypt_blocks(blocks, Small(candidate), sealing, pads)
            except TagMismatchError:
                continue
            return Opening(values, tuple(sorted(set(shares) - agreeing)))
        raise TagMismatchError(
            f"none of the keys that {threshold} of {len(shares)} answers agree on "
            "opens a sum of exactly these contributors at this place"
        )

    def _unmasked(
        self, masked: Mask, contributors: Mapping[str, bytes], place: Place
    ) -> NDArray[np.int64]:
        """The sum of all keys: their masks cancel, their pads are taken off."""
        total = masked - _key_pads(self._keys, place, contributors, self._layout.degree)
        secret = total.view(np.int16).astype(np.int64)
        if int(np.abs(secret).max()) > COINS // 2 * len(contributors):
            raise TagMismatchError(
                "the masked keys do not add up to a key: the sum is not of exactly these "
                "contributors at this place"
            )
        return secret


def _parts(frame: Frame, layout: Layout) -> tuple[Blocks, Mask]:
    """The blocks of a frame, uint8 `[blocks, bytes]`, and its masked key, uint16 `[n]` or none."""
    end = layout.blocks * layout.block_bytes
    return frame.body[:end].reshape(layout.blocks, -1), frame.body[end:].view("<u2")
