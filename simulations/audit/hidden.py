"""What travels sealed, opened with other keys than the training's, or without any.

Updates of these trainings are known, once they are opened with the hospitals' own keys. Whoever
lacks them must read nothing: not with the key of nought, nor with a made-up one, of a polynomial by
itself, of the difference of two or of a sum. Of one-time keys, which nobody has, all hospitals
together do; they stay hidden from each hospital, and so do shares of them.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from accounting.audit_gates import Gate, spread_gate
from accounting.audit_turns import Turns, turn_gates
from accounting.vocabulary import EXCHANGES, SCHEMES
from clients.audit.hidden import Shown, residues_of, rows_of, turns_of, words_of
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply
from clients.contract.visit_messages import VisitReply
from crypto.bfv import lattice_of, make_lattice_keys
from crypto.coins import Coins
from crypto.encrypted_blocks import Sealing, decrypt_blocks
from crypto.envelope import unwrap
from crypto.errors import EnvelopeError, TagMismatchError
from crypto.frames import Content, read_frame
from crypto.headers import Header, SignedHeader
from crypto.lattice import Scaler, scratch
from crypto.pairs import stream_sum
from crypto.parameters import CKKS_SCALE_BITS, HEAD_BYTES
from crypto.polynomials import Small
from crypto.roles import Sealed
from crypto.schemes import make_adder
from crypto.security import FRESH_STDDEV
from crypto.tags import derive_key
from simulations.audit.gates import exact_gate
from simulations.audit.opened import first_answers
from simulations.audit.opened_sums import opener_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from crypto.plans import SealingPlan
    from crypto.roles import Place
    from simulations.audit.wire import Sent, Wire

MADE_UP = "what is sealed opens with no made-up key"
ERRORS = "errors under one-time keys, as a share of what is stated"
ENVELOPES = "envelopes open with no made-up key"


class _Answer(NamedTuple):
    """A sealed update, its header, and how it is named."""

    shown: Shown
    header: Header


def hidden_gates(wire: Wire, settings: Settings, terms: Terms, stopped: str) -> list[Gate]:
    """Return whether anything sealed can be read without the training's keys.

    Args:
        wire: of a run.
        settings: its settings.
        terms: its terms.
        stopped: why it ended early; its keys are looked at only where it did not.
    """
    keys = None if stopped else opener_keys(wire.out, terms.training)
    gates = [] if keys is None else [exact_gate(ENVELOPES, list(_opened(wire, terms, keys)))]
    if not EXCHANGES[settings.exchange.name].sums or not SCHEMES[settings.sealing.scheme].hides:
        return gates
    plan, answers = terms.sealing, [*_answers(wire.sent, ""), *_answers(wire.copied, "'s copy")]
    parts = turns_of([one.shown for one in answers], plan)
    if keys is None:
        return gates + turn_gates(parts)
    if plan.ring is not None:
        gates.append(exact_gate(MADE_UP, list(_opened_blocks(answers, plan, keys))))
        if plan.sharing is None:
            gates.append(_errors_gate(answers, plan, keys))
            parts.append(_seen_by_hospitals(answers, plan, keys))
        return gates + turn_gates(parts)
    known, gate = _opened_anyhow(answers, plan, keys)
    return [*gates, *turn_gates([*parts, *known]), gate]


def _answers(sent: Sequence[Sent], whose: str) -> Iterator[_Answer]:
    for kind in (Kind.TRAIN, Kind.BACKWARD):
        for one in first_answers(sent, kind):
            assert one.content is not None
            reply = RoundReply.read(one.content)
            if reply.sealed:
                header = SignedHeader.from_bytes(reply.header).header
                name = f"{one.hospital}{whose}, round {header.round}, attempt {header.attempt}"
                place = None if whose else (header.round, header.attempt)
                yield _Answer(Shown(name, reply.sealed, place), header)


def _opened_anyhow(
    answers: Sequence[_Answer], plan: SealingPlan, keys: Keys
) -> tuple[list[Turns], Gate]:
    """Open updates with keys that are not the training's, beside those that are.

    Returns:
        What is left of first polynomials without their values (bfv); and the gate of values that
        come out right.
    """
    lattice = lattice_of(plan)
    own = lattice.decryptor(keys.secret)
    other = lattice.decryptor(make_lattice_keys(plan).secret)
    values = np.empty((len(answers), plan.ciphertexts, plan.slots), dtype=_slots_are(plan))
    alike = looked = 0
    where = "all updates"
    with scratch() as file:
        for one, slots in zip(answers, values, strict=True):
            adder = make_adder(plan)
            adder.add(Sealed(payload=one.shown.payload))
            total = read_frame(adder.total(), plan, content=Content.TOTAL, key_id=None)
            for row, (first, second) in enumerate(zip(*residues_of(total, plan), strict=True)):
                slots[row] = own.decrypt(first, second, file)
                nought = own.decrypt(first, np.zeros_like(second), file)
                for found in (nought, other.decrypt(first, second, file)):
                    count = int(np.count_nonzero(np.abs(found.astype(float) - slots[row]) < 1.0))
                    where = one.shown.name if count else where
                    alike, looked = alike + count, looked + found.size
    gate = Gate(
        name=MADE_UP,
        subject=f"{where}: values that come out right",
        found=float(alike),
        expected=looked * _rate(plan),
        chance=float(stats.binom.sf(alike - 1, looked, _rate(plan))),
    )
    return [_without(answers, values, plan)] if plan.scheme == "bfv" else [], gate


def _slots_are(plan: SealingPlan) -> type[np.generic]:
    """Return what slots are: whole numbers for bfv, reals for ckks."""
    return np.uint64 if plan.plain_modulus else np.float64


def _rate(plan: SealingPlan) -> float:
    """Return the chance that a value comes out right, or within 1, from uniform polynomials.

    Of ckks a slot is then nearly normal, with a standard deviation of this over 1.
    """
    if plan.plain_modulus:
        return 1.0 / plan.plain_modulus
    return float(np.sqrt(24.0 / plan.degree) * 2.0**CKKS_SCALE_BITS / plan.coefficient_prime)


def _without(answers: Sequence[_Answer], values: NDArray[Any], plan: SealingPlan) -> Turns:
    """Return first polynomials as they travel, less the values that are in them."""
    prime = np.uint64(plan.coefficient_prime)
    left = np.empty((len(answers), plan.ciphertexts, plan.degree), dtype=np.uint64)
    with scratch() as file:
        scaler = Scaler(lattice_of(plan), file)
        for one, slots, out in zip(answers, values, left, strict=True):
            frame = read_frame(
                Sealed(payload=one.shown.payload), plan, content=Content.SINGLE, key_id=None
            )
            firsts, _ = residues_of(frame, plan)
            for first, row, rest in zip(firsts, slots, out, strict=True):
                scaled = np.zeros_like(first)
                scaler.add(row, scaled)
                rest[:] = (first + prime - scaled) % prime
    shown = [one.shown for one in answers]
    return rows_of("first polynomials less the values", shown, left / plan.coefficient_prime)


def _seen_by_hospitals(answers: Sequence[_Answer], plan: SealingPlan, keys: Keys) -> Turns:
    """Return masked keys less what every hospital can take off; all of a place add up to a key."""
    rows = np.stack([_masked_key(one, plan, keys)[None] for one in answers])
    return rows_of(
        "masked keys as hospitals see them",
        [one.shown for one in answers],
        rows / 2.0**16,
        points=2**16,
        whole=False,
    )


def _masked_key(one: _Answer, plan: SealingPlan, keys: Keys) -> NDArray[np.uint16]:
    """Return a masked key less what every hospital can take off, uint16 ``[n]``."""
    place, name, nonce = one.header.place, one.header.sender.encode(), one.header.nonce
    label = keys.parameter_id.encode()
    pad = derive_key(keys.group_key, b"key pad", place, name, nonce, label)
    sent = np.frombuffer(one.shown.payload[-2 * plan.degree :], dtype="<u2")
    return sent - stream_sum([(pad, True)], plan.degree)


def _errors_gate(answers: Sequence[_Answer], plan: SealingPlan, keys: Keys) -> Gate:
    """Return whether sums under one-time keys hold the errors that every hospital must add.

    Without errors whoever has no key finds it by linear algebra. The sum of a place's keys is known
    to hospitals, and with it the sum of errors: what blocks are above a multiple of their scale.
    """
    layout, found = plan.layout, []
    places: dict[Place, list[_Answer]] = defaultdict(list)
    for one in answers:
        places[one.header.place].append(one)
    for place, given in places.items():
        if len(given) == plan.hospitals:
            found.append(_errors(given, plan, keys, place))
    if not found:
        return exact_gate(ERRORS, ["no place was answered by all"])
    errors = np.concatenate(found)
    each = FRESH_STDDEV**2 + (4.0**layout.bits_cut - 1.0) / 12.0
    return spread_gate(
        ERRORS,
        "sums of all hospitals",
        squares=float((errors**2).sum()),
        count=errors.size,
        stddev=float(np.sqrt(plan.hospitals * each)),
    )


def _errors(
    given: Sequence[_Answer], plan: SealingPlan, keys: Keys, place: Place
) -> NDArray[np.float64]:
    """Return the errors in the sum of a place, from the sum of its keys, ``[blocks * n]``."""
    layout, pairs = plan.layout, keys.pairs
    assert pairs is not None
    masked = np.stack([_masked_key(one, plan, keys) for one in given]).sum(axis=0, dtype=np.uint16)
    secret = Small(masked.view(np.int16).astype(np.int64))
    words = words_of([one.shown for one in given], plan).sum(axis=0, dtype=np.uint64)
    sealing = Sealing(layout=layout, keys=keys, bind=pairs.bind, place=place)
    shared, product = sealing.polynomials(), np.empty_like(words)
    for first in range(0, layout.blocks, shared.rows):
        out = product[first : first + shared.rows]
        spectrum = np.empty((len(out), layout.degree // 2), dtype=np.complex128)
        shared.chunk(first, secret.norm).times(secret, out, spectrum)
    left = (words << np.uint64(layout.bits_cut)) - product
    room, cut = 2**layout.noise_bits, len(given) * (2**layout.bits_cut - 1) / 2.0
    errors = (left & np.uint64(room - 1)).astype(np.float64).ravel() + cut
    return np.asarray(errors - room * np.rint(errors / room))


def _opened_blocks(answers: Sequence[_Answer], plan: SealingPlan, keys: Keys) -> Iterator[str]:
    """Yield updates that a hospital opens with a one-time key that it made up."""
    layout, pairs = plan.layout, keys.pairs
    assert pairs is not None
    end = layout.blocks * layout.block_bytes
    nought = np.zeros(plan.degree, dtype=np.int64)
    for one in answers:
        place, header = one.header.place, one.header
        sealing = Sealing(layout=layout, keys=keys, bind=pairs.bind, place=place)
        body = np.frombuffer(one.shown.payload, dtype=np.uint8)[HEAD_BYTES:][:end]
        pads = sealing.pads({header.sender: header.nonce})
        for what, key in (("nought", nought), ("no hospital's", Coins().binomial(plan.degree))):
            try:
                decrypt_blocks(body.reshape(layout.blocks, -1), Small(key), sealing, pads)
            except TagMismatchError:
                continue
            yield f"{one.shown.name}: it opens with a key of {what}"


def _opened(wire: Wire, terms: Terms, keys: Keys) -> Iterator[str]:
    """Yield envelopes that open with a key that is not theirs."""
    for where, envelope, context, others in _envelopes(wire, terms, keys):
        digests = sha256(context).digest(), sha256(terms.training.encode()).digest()
        for key in (bytes(32), 2 * keys.key_id, *digests, *others):
            try:
                unwrap(key, envelope, context)
            except EnvelopeError:
                continue
            yield where


def _envelopes(
    wire: Wire, terms: Terms, keys: Keys
) -> Iterator[tuple[str, bytes, bytes, tuple[bytes, ...]]]:
    """Yield envelopes that left, with their contexts and keys of others that must not open them."""
    for sent in wire.sent:
        if sent.content is None or ARRAYS not in sent.content.array_records:
            continue
        where = f"{sent.hospital} at {sent.place}"
        if sent.kind is Kind.VISIT:
            carried = VisitReply.read(sent.content).model
            if carried:
                header = SignedHeader.from_bytes(carried.header).header
                context = f"visit {terms.training} {header.round} {header.sender}".encode()
                yield f"a model of {where}", carried.envelope, context, ()
        elif sent.kind in (Kind.TRAIN, Kind.BACKWARD):
            reply = RoundReply.read(sent.content)
            if reply.snapshot:
                (size,) = struct.unpack_from("<H", reply.snapshot)
                context = f"snapshot {terms.training} {reply.snapshot_round}".encode()
                yield f"a snapshot of {where}", reply.snapshot[2 + size :], context, ()
            yield from _shares(where, reply, terms, keys)


def _shares(
    where: str, reply: RoundReply, terms: Terms, keys: Keys
) -> Iterator[tuple[str, bytes, bytes, tuple[bytes, ...]]]:
    """Yield shares of a one-time key: no hospital but the holder opens one, by what all have."""
    if not reply.envelopes or keys.pairs is None:
        return
    header = SignedHeader.from_bytes(reply.header).header
    for holder, envelope in reply.envelopes.items():
        labels = header.sender.encode(), holder.encode(), keys.parameter_id.encode()
        context = header.place.digest(
            b"asclepias envelope 1", *labels, keys.pairs.bind, header.nonce
        )
        yield f"a share of {where} for {holder}", envelope, context, (keys.group_key,)
