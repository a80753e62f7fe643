"""Shared layers: a hospital that keeps the first layers of a model, and by default the last.

Split learning (Gupta and Raskar 2018; U-shaped, Vepakomma et al. 2018). In a round a hospital shows
the server one batch: activations up, then the loss gradient at the head up, then the gradient at
the cut comes down and the layers at home teach each other by a sealed sum, as in `gradients`.

*Without noise* a round is the pooled step exactly: records of a patient weigh 1/R_p each, and a
patient's gradient is clipped as a whole, its norm put together from the three parts' squared norms.

*With local noise* the server and whoever opens the sums see three noised messages about a record in
each pass: its activation, its loss gradient at the head, and its share in the sum. The first two
are clipped to norm C a row and carry sigma*C a coordinate; the third is clipped a patient. Batches
are fixed beforehand and padded to a public size, one record a patient and pass, so nothing is
amplified: R passes are 3R Gaussian events. Neighbours differ by one patient's slot being empty
("zero-out", Kairouz et al. 2021, section 2). What a batch's messages cost is spent when the pass
begins, before its first record is read.

A hospital's process may end between turns; what a later turn needs is in a file of its own folder,
which also refuses to be shown a turn twice.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.grid import noised_unpaid as noised
from clients.contract.faults import Code, Fault
from clients.contract.layer_messages import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS,
    FACTORS,
    FEATURE_GRADIENTS,
    FEATURES,
    LABELS,
    OWNERS,
    SQUARED_NORMS,
    Arrays,
    TurnRequest,
)
from clients.contract.messages import RoundReply, RoundRequest
from clients.contract.phases import Phases
from clients.contract.schedule import LAYER_MESSAGES
from clients.learning.cuts import slots_of
from clients.learning.dp_sgd import GradientSum, clip_factors
from clients.learning.split_ends import Ends, by_patient, clip_rows, padded
from crypto.roles import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.site.hospital import Hospital
    from clients.site.session import Session


@dataclass(frozen=True, kw_only=True)
class Slots:
    """A batch: rows, whose they are, and what each weighs in its patient's gradient."""

    inputs: torch.Tensor
    labels: torch.Tensor
    owners: torch.Tensor
    weights: torch.Tensor
    patients: int


class SplitHospital:
    """One hospital's end of a split model."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._noisy = hospital.settings.regime.private
        self._name = f"turns-{hospital.training}.npz"

    def forward(self, request: RoundRequest) -> tuple[RoundReply, Arrays]:
        """Open what was closed, pay for the pass, and show the batch's activations."""
        hospital = self._hospital
        phases = Phases()
        session = hospital.open_closed(request, phases)
        place = Place(training=hospital.training, round=request.round, attempt=request.attempt)
        if self._at() == (place.round, place.attempt) and not hospital.settings.seeded:
            raise Fault(Code.STALE_PLACE, f"round {place.round} was shown in this attempt already")
        self._pay(session, place)
        batch = self._batch(session, place.round)
        with torch.no_grad():
            activations = self._ends(session).bottom.module(batch.inputs)
        arrays = {ACTIVATIONS: self._shown(session, activations, place, ACTIVATIONS)}
        if not self._noisy:
            arrays[OWNERS] = batch.owners.numpy()
            if hospital.settings.exchange.labels == "server":
                arrays[LABELS] = batch.labels.numpy()
        self._keep(place, turn=1)
        return hospital.extras(session, request), arrays

    def head(self, request: TurnRequest) -> Arrays:
        """Compute the losses at home and show their gradients at the head's input."""
        place, session = self._continue(request, turn=1)
        batch = self._batch(session, place.round)
        features = self._received(request, FEATURES)
        _, at_input = self._head_gradients(session, batch, features)
        shown = self._shown(session, at_input, place, FEATURE_GRADIENTS)
        self._keep(place, turn=2, features=features.numpy())
        return {FEATURE_GRADIENTS: shown}

    def backward(self, request: TurnRequest) -> tuple[RoundReply, Arrays]:
        """Sum the gradients of the layers at home, seal the sum, and say how patients were clipped.

        Without noise the clip factors go to the server, which clips its own part by them.
        """
        at_home = self._hospital.settings.exchange.labels == "home"
        place, session = self._continue(request, turn=2 if at_home else 1)
        batch = self._batch(session, place.round)
        gradient = self._received(request, ACTIVATION_GRADIENTS)[: len(batch.labels)]
        records = [self._ends(session).bottom.backward(batch.inputs, gradient)[0]]
        if at_home:
            kept = torch.as_tensor(self._read()["features"])
            records.append(self._head_gradients(session, batch, kept)[0])
        patients = by_patient(torch.cat(records, dim=1), batch.owners, batch.patients)
        squares = patients.square().sum(dim=1)
        if not self._noisy:
            squares = squares + torch.as_tensor(request.arrays[SQUARED_NORMS]).double()
        factors = clip_factors(squares, session.terms.l2_clip)
        finite = torch.where((factors > 0)[:, None], patients, 0.0)
        total = GradientSum(
            total=np.asarray((factors @ finite).numpy()),
            patients=batch.patients,
            discarded=int((factors == 0).sum()),
        )
        phases = Phases()
        update = self._hospital.draws(session.terms, place, phases).noised(total, 0)
        reply = self._hospital.seal(session, update, place, phases)
        self._keep(place, turn=3)
        return reply, {} if self._noisy else {FACTORS: factors.numpy()}

    def _head_gradients(
        self, session: Session, batch: Slots, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the head's gradient of each record, and that at the head's input."""
        head = self._ends(session).head
        if head is None:
            raise Fault(
                Code.WRONG_EXCHANGE, "the head is the server's where exchange.labels = server"
            )
        return head.backward_from_loss(features[: len(batch.labels)], batch.labels, batch.weights)

    def _ends(self, session: Session) -> Ends:
        if session.ends is None:
            raise Fault(
                Code.WRONG_EXCHANGE, f"{self._hospital.settings.exchange.name!r} cuts no model"
            )
        return session.ends

    def _shown(
        self, session: Session, rows: torch.Tensor, place: Place, purpose: str
    ) -> NDArray[np.float32]:
        """Return rows as the server may see them: clipped, padded and noised, or as they are."""
        if not self._noisy:
            return np.asarray(rows.detach().numpy(), dtype=np.float32)
        whole = padded(clip_rows(rows, session.terms.l2_clip), self._slots(session))
        stream = self._hospital.stream(place, purpose)
        return (
            noised(whole.reshape(-1), session.terms.grid, stream)
            .reshape(whole.shape)
            .astype(np.float32)
        )

    def _received(self, request: TurnRequest, name: str) -> torch.Tensor:
        if name not in request.arrays:
            raise Fault(Code.MALFORMED, f"a turn came without {name}")
        return torch.as_tensor(np.asarray(request.arrays[name], dtype=np.float32))

    def _slots(self, session: Session) -> int:
        return slots_of(self._hospital.most_patients(), session.terms.schedule.batches)

    def _batch(self, session: Session, round: int) -> Slots:
        """Return the round's batch: patients by a fixed schedule, never by chance."""
        batches = session.terms.schedule.batches
        number, passed = (round - 1) % batches, (round - 1) // batches
        records = self._hospital.records()
        chosen = records.patient_ids[number::batches]
        if self._noisy:
            rows = [np.flatnonzero(records.patients == p) for p in chosen]
            records = records.take(np.array([r[passed % len(r)] for r in rows], dtype=np.int64))
        else:
            records = records.of_patients(chosen)
        members, owners = np.unique(records.patients, return_inverse=True)
        counts = np.bincount(owners, minlength=len(members))
        return Slots(
            inputs=torch.as_tensor(np.asarray(records.inputs)),
            labels=torch.as_tensor(records.labels),
            owners=torch.as_tensor(owners, dtype=torch.int64),
            weights=torch.as_tensor(1.0 / counts[owners], dtype=torch.float32),
            patients=len(members),
        )

    def _pay(self, session: Session, place: Place) -> None:
        """Pay for a pass when its first batch is shown, and for every batch that is shown again."""
        batches = session.terms.schedule.batches
        first = (place.round - 1) // batches * batches + 1
        ledger = self._hospital.site.ledger(self._hospital.cohort.info.name)
        paid = any(
            entry.training == place.training and first <= entry.round < first + batches
            for entry in ledger.entries()
        )
        if place.attempt > 1 or not paid:
            self._hospital.spend(session.terms, place, LAYER_MESSAGES)

    def _continue(self, request: TurnRequest, turn: int) -> tuple[Place, Session]:
        """Check that a turn follows the one before it, once, in the same attempt."""
        if self._at() != (request.round, request.attempt) or self._turn() != turn:
            raise Fault(Code.STALE_PLACE, f"a turn of round {request.round} came out of order")
        place = Place(training=request.training, round=request.round, attempt=request.attempt)
        return place, self._hospital.session()

    def _at(self) -> tuple[int, int]:
        """Return round and attempt of the last turn."""
        round, attempt, _ = self._read()["at"].tolist()
        return int(round), int(attempt)

    def _turn(self) -> int:
        return int(self._read()["at"][2])

    def _keep(self, place: Place, *, turn: int, **arrays: NDArray[np.generic]) -> None:
        """Write what the next turn needs to a file that only the owner can read."""
        buffer = io.BytesIO()
        np.savez(buffer, at=np.array([place.round, place.attempt, turn]), **arrays)  # type: ignore[arg-type]
        self._hospital.site.write_secret(self._name, buffer.getvalue())

    def _read(self) -> dict[str, NDArray[np.generic]]:
        data = self._hospital.site.read_secret(self._name)
        if data is None:
            return {"at": np.zeros(3, dtype=np.int64)}
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return dict(kept)
