"""Faults planted once the detectors were frozen a sixth time.

Of 27 that somebody who knew the pipeline alone had written down six were drawn by lot, before any
was run and none replaced; what was expected was not written down. `caught_by` says what sees each
now. Beside them are variants of the one that was missed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from clients.contract.terms import Terms
from clients.learning import batch, dp_sgd
from clients.site import split_hospital
from clients.site.chances import Chances
from crypto import bfv
from crypto.coins import Coins
from crypto.pairs import PairKeys
from crypto.parameters import COEFFICIENT_PRIME
from crypto.polynomials import Multiplicand
from crypto.prepared import Prepared
from crypto.security import COINS
from crypto.shared_polynomials import SharedPolynomials
from tests.audit.faults import DATA, RECONCILIATION, Fault, swap


def _in_pieces(stack: ExitStack) -> None:
    """Let a patient's records be in several passes, and clip each piece by itself."""

    def chunks(patients: Any, chunk_records: int = batch.CHUNK_RECORDS) -> Iterator[Any]:
        order = torch.argsort(patients, stable=True)
        if len(order):
            yield from torch.split(order, chunk_records)

    for module in (batch, split_hospital):
        swap(stack, module, "chunks_of_patients", chunks)


def _any_number(stack: ExitStack) -> None:
    """Close and open sums of any number of hospitals, whatever noise they carry."""
    swap(stack, Terms, "least", property(lambda _: 1))


def _nothing_to_hide(stack: ExitStack) -> None:
    """Answer with exact zeros, without noise, where nobody is in a batch."""
    real = Chances.noised_sum

    def noised_sum(self: Chances, total: Any, *given: Any) -> Any:
        made = real(self, total, *given)
        return made if total.any() else made._replace(vector=total.copy())

    swap(stack, Chances, "noised_sum", noised_sum)


def _until_somebody_is_in(stack: ExitStack) -> None:
    """Draw a batch again until somebody is in it."""

    def sampled(self: Chances, patients: Any, place: Any, step: int = 0) -> Any:
        stream, rate = self.stream(place, "sampling", step), self._settings.training.sampling_rate
        drawn = stream.bernoulli(len(patients), rate)
        while len(patients) and not drawn.any():
            drawn = stream.bernoulli(len(patients), rate)
        return patients[drawn]

    swap(stack, Chances, "sampled", sampled)


def _clip_of_the_pass(stack: ExitStack) -> None:
    """Clip at the median norm of a pass where that is below C."""
    real = dp_sgd.clip_factors

    def factors(squares: Any, clip: float) -> Any:
        known = squares[torch.isfinite(squares)]
        median = float(known.median().sqrt()) if len(known) else clip
        return real(squares, min(clip, max(median, 1e-9)))

    swap(stack, dp_sgd, "clip_factors", factors)


def _errors(count: int, degree: int) -> Any:
    """Centred binomial errors of standard deviation 2, uint64 ``[count, n]`` modulo q."""
    bits = np.unpackbits(np.frombuffer(os.urandom(2 * count * degree), dtype=np.uint8))
    heads = bits.reshape(2, count, degree, 8).sum(axis=3, dtype=np.int64)
    return ((heads[0] - heads[1]) % COEFFICIENT_PRIME).astype(np.uint64)


def _bare_noughts(plan: Any, _: Any) -> bfv.Noughts:
    """Encryptions of nought without what masks them: fresh errors, and a seed that says nothing."""
    first = _errors(plan.ciphertexts, plan.degree)
    if plan.key_mode == "symmetric":
        return bfv.Noughts(first, [os.urandom(64) for _ in first])
    return bfv.Noughts(first, list(_errors(plan.ciphertexts, plan.degree)))


class _Ignored:
    """Seeds that nobody expands."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def residues(self) -> Any:
        return list(np.zeros(self._shape, dtype=np.uint64))


def _noughts_are(stack: ExitStack, made: Any) -> None:
    """Have sealers of bfv add their values to noughts that are made in another way."""

    def prepare(self: bfv.BfvSealer, place: Any, *, ahead: bool = False) -> Prepared:
        tagging = bfv.Tagging(self._plan, self._keys, self._hospital, bfv.new_nonce(), place)
        noughts = made(self._plan, self._encryptor, place)
        return Prepared(self._hospital, place, partial(self._finish, tagging, noughts))

    swap(stack, bfv.BfvSealer, "prepare", prepare)


def _without_masking(stack: ExitStack) -> None:
    """Leave out the term that masks: errors are added, the seed that is sent is random and ignored.

    Sums open to the right values; the server, or anybody with any key, reads every single update.
    """
    real = bfv.BfvAdder.total

    def total(self: bfv.BfvAdder) -> Any:
        if self._plan.scheme != "bfv" or self._seeds is None:
            return real(self)
        kept, self._seeds = self._seeds, _Ignored(self._sum[0].shape)  # type: ignore[assignment]
        try:
            return real(self)
        finally:
            self._seeds = kept

    _noughts_are(stack, lambda plan, encryptor, _: _bare_noughts(plan, encryptor))
    swap(stack, bfv.BfvAdder, "total", total)


def _without_masking_once(stack: ExitStack) -> None:
    """Leave it out in the second round alone, under public keys: nothing else is another."""
    real = bfv.encrypt_noughts

    def made(plan: Any, encryptor: Any, place: Any) -> bfv.Noughts:
        return _bare_noughts(plan, encryptor) if place.round == 2 else real(plan, encryptor)

    _noughts_are(stack, made)


def _one_mask_for_all(stack: ExitStack) -> None:
    """Mask every message by the same u, with fresh errors: differences of two are in the open."""
    kept: dict[Any, bfv.Noughts] = {}
    real = bfv.encrypt_noughts

    def made(plan: Any, encryptor: Any, _: Any) -> bfv.Noughts:
        if plan not in kept:
            kept[plan] = real(plan, encryptor)
        first, second = kept[plan]
        prime, count = np.uint64(COEFFICIENT_PRIME), plan.ciphertexts
        new = _errors(count, plan.degree)
        fresh = [(one + error) % prime for one, error in zip(second, new, strict=True)]
        return bfv.Noughts((first + _errors(count, plan.degree)) % prime, fresh)

    _noughts_are(stack, made)


def _public_part_of_nought(stack: ExitStack) -> None:
    """Multiply one-time keys by nought, where a public polynomial belongs."""

    def made(self: SharedPolynomials, first: int, norm: float) -> Multiplicand:
        layout = self._layout
        rows = min(self.rows, layout.blocks - first)
        values = np.zeros((rows, layout.degree), dtype=np.uint64)
        return Multiplicand(values, layout.modulus_bits, norm)

    swap(stack, SharedPolynomials, "_made", made)


def _keys_unmasked(stack: ExitStack) -> None:
    """Send one-time keys without the masks of pairs: every hospital opens every update."""

    def masks(self: PairKeys, place: Any, count: int) -> Any:
        return np.zeros(count, dtype=np.uint16)

    swap(stack, PairKeys, "masks", masks)


def _without_errors(stack: ExitStack) -> None:
    """Add no errors under one-time keys, so that keys follow from blocks by linear algebra."""
    real = Coins.heads

    def binomial(self: Coins, count: int) -> Any:
        return real(self, count).astype(np.int64) - COINS // 2

    def heads(self: Coins, count: int) -> Any:
        return np.full(count, COINS // 2, dtype=np.uint8)

    swap(stack, Coins, "binomial", binomial)
    swap(stack, Coins, "heads", heads)


SIXTH: tuple[Fault, ...] = (
    Fault(name="a patient in pieces, each clipped", plant=_in_pieces, caught_by=(DATA,)),
    Fault(name="sums of any number of hospitals", plant=_any_number, caught_by=(DATA,)),
    Fault(name="exact zeros where nobody is drawn", plant=_nothing_to_hide, caught_by=(DATA,)),
    Fault(
        name="a batch drawn until somebody is in it",
        plant=_until_somebody_is_in,
        caught_by=(DATA,),
    ),
    Fault(
        name="an encryption without its masking term",
        plant=_without_masking,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="a clip at the median of a pass", plant=_clip_of_the_pass, caught_by=(DATA,)),
)

#: Of the fifth of them, in settings that show each: public keys, and one-time ones.
VARIANTS: tuple[Fault, ...] = (
    Fault(
        name="no masking term in one round",
        plant=_without_masking_once,
        caught_by=(RECONCILIATION,),
    ),
    Fault(
        name="one masking term for all messages",
        plant=_one_mask_for_all,
        caught_by=(RECONCILIATION,),
    ),
    Fault(
        name="one-time keys times nought",
        plant=_public_part_of_nought,
        caught_by=(RECONCILIATION,),
    ),
    Fault(name="one-time keys unmasked", plant=_keys_unmasked, caught_by=(RECONCILIATION,)),
    Fault(
        name="one-time keys without errors",
        plant=_without_errors,
        caught_by=(RECONCILIATION,),
    ),
)
