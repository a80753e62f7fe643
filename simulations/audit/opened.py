"""What an auditor who holds a hospital's keys reads from the wire: each noised sum as it left.

It is the strongest observer that the table of a run names, the server with a key holder. Sums are
opened with the run's own openers. Where whole models travel, a visit of so many steps is the sum of
as many noised sums: the model that left minus the model that came, times q*N_k over the step size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load

from accounting.vocabulary import EXCHANGES
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply, RoundRequest
from clients.contract.terms import Terms, agree_terms, hospitals_expected
from clients.contract.visit_messages import Carried, VisitReply, VisitRequest
from clients.learning.cuts import cut_model, values_of_messages
from clients.learning.replica import FRAME_NAMES, told_in
from clients.models import build_model, input_shape
from crypto.envelope import unwrap
from crypto.headers import SignedHeader
from crypto.keys import Keys
from crypto.roles import Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder, make_opener

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.data import DatasetInfo
    from simulations.audit.wire import Sent, Wire


@dataclass(frozen=True, kw_only=True)
class Release:
    """One noised vector that left a hospital.

    Attributes:
        hospital: whose.
        round: or the number of the visit.
        attempt: of the round.
        steps: noised sums of a hospital that it is the sum of.
        vector: float64 ``[d]``, gradient units.
        members: hospitals whose updates it is the sum of; none: it is one's own.
    """

    hospital: str
    round: int
    attempt: int
    steps: int
    vector: NDArray[np.float64]
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A few words for it."""
        return f"{self.hospital}, round {self.round}, attempt {self.attempt}"


def terms_of(settings: Settings, info: DatasetInfo, *, training: str, sigma: float) -> Terms:
    """Derive the terms of a run over declared patients from its public numbers.

    Args:
        settings: of the run.
        info: of its data; public.
        training: id.
        sigma: the noise multiplier.
    """
    module = build_model(settings, info, settings.public_seed)
    values, dimensions = 0, sum(one.numel() for one in module.parameters())
    if settings.exchange.name == "layers":
        parts = cut_model(settings, module)
        shape, largest = input_shape(settings, info), settings.data.largest_hospital
        values = values_of_messages(settings, parts, shape, largest)
        dimensions = sum(one.numel() for one in parts.home)
    if settings.training.learns_shares:
        dimensions += len(info.classes)
    return agree_terms(
        settings,
        training=training,
        dimensions=dimensions,
        patients=settings.data.patients,
        largest_hospital=settings.data.largest_hospital,
        noise_multiplier=sigma,
        message_values=values,
    )


def keys_of(out: Path, training: str) -> Keys:
    """Return the keys of a simulated training, as any of its hospitals keeps them."""
    path = next(iter(sorted((out / "sites").glob(f"*/keys-{training}.bin"))))
    return Keys.from_bytes(path.read_bytes())


def releases_of(
    sent: Sequence[Sent], settings: Settings, terms: Terms, keys: Keys
) -> list[Release]:
    """Return every noised vector that left, once each, in the order in which they left.

    Args:
        sent: answers of the run.
        settings: its settings; plain SGD without momentum where models travel.
        terms: its terms.
        keys: of the training.
    """
    if EXCHANGES[settings.exchange.name].sums:
        return list(_of_sums(sent, settings, terms, keys))
    return list(_of_visits(sent, settings, terms, keys))


def first_answers(answers: Sequence[Sent], kind: Kind) -> Iterator[Sent]:
    """Yield what left at each place, once: a second time it is the same, or the books say so."""
    seen = set()
    for sent in answers:
        if (
            sent.kind is kind
            and sent.content is not None
            and (sent.hospital, sent.place) not in seen
        ):
            seen.add((sent.hospital, sent.place))
            yield sent


def _of_sums(
    answers: Sequence[Sent], settings: Settings, terms: Terms, keys: Keys
) -> Iterator[Release]:
    opener = make_opener(terms.sealing, keys)
    steps = settings.exchange.local_steps if settings.exchange.name == "weights" else 1
    last = Kind.BACKWARD if settings.exchange.name == "layers" else Kind.TRAIN
    for sent in first_answers(answers, last):
        assert sent.content is not None
        reply = RoundReply.read(sent.content)
        header = SignedHeader.from_bytes(reply.header).header
        adder = make_adder(terms.sealing)
        adder.add(Sealed(payload=reply.sealed))
        vector = opener.open(adder.total(), {header.sender: header.nonce}, header.place)
        yield Release(
            hospital=sent.hospital,
            round=header.round,
            attempt=header.attempt,
            steps=steps,
            vector=vector,
        )


def _of_visits(
    answers: Sequence[Sent], settings: Settings, terms: Terms, keys: Keys
) -> Iterator[Release]:
    expected = terms.sampling_rate * terms.patients / hospitals_expected(settings)
    for sent in first_answers(answers, Kind.VISIT):
        assert sent.content is not None
        request, reply = VisitRequest.read(sent.asked), VisitReply.read(sent.content)
        left = _model(reply.model, keys, terms)
        if left is None:
            left = np.concatenate([one.numpy().ravel() for one in reply.released.values()])
        came = _model(request.model, keys, terms)
        moved = (0.0 if came is None else came) - left.astype(np.float64)
        yield Release(
            hospital=sent.hospital,
            round=request.round,
            attempt=request.attempt,
            steps=request.steps,
            vector=moved * expected / settings.training.learning_rate,
        )


def opened_visits(wire: Wire, terms: Terms, keys: Keys) -> list[str]:
    """Say which models left open without being one that was carried, or made at that visit."""
    carried, faults = set(), []
    for sent in wire.sent:
        if sent.content is None or sent.kind not in (Kind.VISIT, Kind.RELEASE_CARRIED):
            continue
        reply = VisitReply.read(sent.content)
        made = _model(reply.model, keys, terms)
        if made is not None:
            carried.add(made.tobytes())
        if not reply.released or (made is None and sent.kind is Kind.VISIT):
            continue
        left = np.concatenate([one.double().numpy().ravel() for one in reply.released.values()])
        if left.tobytes() not in carried:
            faults.append(f"{sent.hospital} released a model at {sent.place} that nobody made")
    return faults


def _model(carried: Carried, keys: Keys, terms: Terms) -> NDArray[np.float64] | None:
    if not carried:
        return None
    header = SignedHeader.from_bytes(carried.header).header
    context = f"visit {terms.training} {header.round} {header.sender}".encode()
    opened = unwrap(keys.group_key, carried.envelope, context)
    return np.frombuffer(opened, dtype=np.float32).astype(np.float64)


def closed_sums(wire: Wire, releases: Sequence[Release]) -> dict[int, list[Release]]:
    """Return what is in the sum of each round, as the rosters say that hospitals were shown.

    A round that was void is done again; the last roster of it counts.
    """
    by_place = {(one.hospital, one.round, one.attempt): one for one in releases}
    found: dict[int, list[Release]] = {}
    for sent in wire.sent:
        if sent.kind not in (Kind.TRAIN, Kind.CONFIRM):
            continue
        for number, closed in RoundRequest.read(sent.asked).closed.items():
            roster = Roster.from_bytes(closed.roster)
            places = [(name, number, roster.place.attempt) for name in roster.names]
            found[number] = [by_place[one] for one in places]
    return found


Models = Sequence[tuple[int, Mapping[str, "NDArray[np.float64]"]]]


def released_models(wire: Wire) -> Models:
    """Return every model that left open, with the last round in it (0: all of them)."""
    found: list[tuple[int, Mapping[str, NDArray[np.float64]]]] = []
    for sent in wire.sent:
        if sent.content is None or ARRAYS not in sent.content.array_records:
            continue
        if sent.kind in (Kind.TRAIN, Kind.RELEASE):
            reply = RoundReply.read(sent.content)
            if reply.model:
                model = {name: one.double().numpy() for name, one in reply.model.items()}
                found.append((reply.model_round, model))
    return found


def snapshots(wire: Wire, training: str, keys: Keys) -> tuple[Models, list[str]]:
    """Return the model of every snapshot that left for other hospitals, with its last round.

    Also what else is in one than a model, its optimizer and its round.
    """
    strange: list[str] = []
    found: list[tuple[int, Mapping[str, NDArray[np.float64]]]] = []
    for sent in wire.sent:
        if sent.kind is not Kind.TRAIN or sent.content is None:
            continue
        reply = RoundReply.read(sent.content)
        if not reply.snapshot:
            continue
        (size,) = struct.unpack_from("<H", reply.snapshot)
        context = f"snapshot {training} {reply.snapshot_round}".encode()
        state = load(unwrap(keys.group_key, reply.snapshot[2 + size :], context))
        for name in sorted(state):
            if not name.startswith(("model.", "optimizer.")) and name not in FRAME_NAMES:
                strange.append(f"a snapshot of {sent.hospital} holds {name!r}")
        model = {
            name.removeprefix("model."): one.astype(np.float64)
            for name, one in state.items()
            if name.startswith("model.")
        }
        found.append((told_in(state)[0], model))
    return found, strange
