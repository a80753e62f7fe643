"""Shared layers: a hospital that keeps the first layers of a model, and by default the last.

Split learning (Gupta and Raskar 2018; U-shaped, Vepakomma et al. 2018). In a round a hospital shows
the server one batch: activations up, then the loss gradient at the head up, then the gradient at
the cut comes down and the layers at home teach each other by a sealed sum, as in `gradients`.

*Without noise* a round is the pooled step exactly: records of a patient weigh 1/R_p each, and a
patient's gradient is clipped as a whole, its norm put together from the three parts' squared norms.

*With local noise* the server and whoever opens the sums see three noised messages about a record in
each pass: its activation, its loss gradient at the head, and its share in the sum. The first two
are clipped to norm C a row and carry sigma*C a coordinate; the third is clipped a patient. Each
patient fills one secret slot of a pass with one record, and slots without a patient carry noise all
the same, so nothing is amplified: R passes are 3R Gaussian events. Neighbours differ by one
patient's slot being empty (`clients.learning.slots`). What a pass's messages cost is spent when the
pass begins, before its first record is read.

A hospital's process may end between turns; what a later turn needs is in a file of its own folder.
Which turn comes next is the book's to say.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.events import ExactEvent
from accounting.private import Private, Unreleased
from accounting.release import exact
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
    TurnReply,
    TurnRequest,
)
from clients.contract.phases import Phases
from clients.contract.schedule import LAYER_MESSAGES
from clients.learning.batch import chunks_of_patients
from clients.learning.cuts import slots_of
from clients.learning.dp_sgd import clip_factors
from clients.learning.late_rows import LateRows
from clients.learning.per_sample import FULL_RECORDS
from clients.learning.split_ends import Ends, by_patient, clip_rows, placed
from clients.site.contributing import Contributing
from clients.site.deals import Deals
from clients.site.releasing import Releasing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.receipts import Receipt, Use
    from clients.contract.messages import RoundRequest
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from clients.site.session import Session
    from crypto.roles import Place


@dataclass(frozen=True, kw_only=True)
class Slots(Unreleased):
    """A batch: rows, their places in what is shown, whose they are, and what each weighs.

    Rows are read and computed a few at a time: how many there are, and how large, must not decide
    on how much memory an answer takes.
    """

    inputs: LateRows
    places: torch.Tensor
    labels: torch.Tensor
    owners: torch.Tensor
    weights: torch.Tensor
    patients: int

    def __len__(self) -> int:
        return len(self.labels)

    def pieces(self) -> Iterator[torch.Tensor]:
        """Yield the numbers of some rows; a patient's stay together."""
        return chunks_of_patients(self.owners, FULL_RECORDS)

    def chunks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the same with their inputs; what cannot be read is no number."""
        for rows in self.pieces():
            try:
                yield rows, self.inputs.take(rows).made()
            except Exception:
                yield rows, torch.cat([self._alone(row) for row in torch.split(rows, 1)])

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        try:
            return self.inputs.take(row).made()
        except Exception:
            return torch.full((1, *self.inputs.shape[1:]), torch.nan)


class SplitHospital:
    """One hospital's end of a split model."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._noisy = hospital.settings.regime.private
        self._name = f"turns-{hospital.training}.npz"

    def forward(self, passage: Passage[RoundRequest]) -> Release:
        """Open what was closed, pay for the pass, and show the batch's activations."""
        hospital, place = self._hospital, passage.place
        session = hospital.open_closed(passage.request, Phases())
        extras = Releasing(hospital).extras(passage.request)
        receipt = self._pay(session, place)
        deals = self._deals(session)
        if deals is not None and deals.is_lost(place.round):
            deals.draw(place.round, hospital.own.records().patient_ids)
        use = receipt.use(place.round, 1)
        batch, ends = self._batch(session, place.round), self._ends(session)
        activations = torch.zeros(len(batch), *ends.activation)
        for rows, inputs in batch.chunks():
            activations[rows] = ends.bottom.outputs(inputs, ends.activation)
        arrays = {ACTIVATIONS: self._shown(session, activations, batch, ACTIVATIONS, place, use)}
        if not self._noisy:
            arrays[OWNERS] = batch.owners.numpy()
            if hospital.settings.exchange.labels == "server":
                arrays[LABELS] = batch.labels.numpy()
        reply = TurnReply(reply=extras.reply(), arrays=arrays)
        return passage.answer(reply, uses=[use], derived=extras.derived)

    def head(self, passage: Passage[TurnRequest]) -> Release:
        """Compute the losses at home and show their gradients at the head's input."""
        place, session = passage.place, self._hospital.session_at_place()
        ends, features = self._ends(session), self._received(passage.request, FEATURES, session)
        if ends.head is None:
            raise Fault(Code.WRONG_EXCHANGE, "the head is the server's by exchange.labels")
        self._require_slots(session, place)
        use = self._hospital.book.receipt(place).use(place.round, 2)
        batch = self._batch(session, place.round)
        mine, at_input = self._rows(features, batch), torch.zeros(len(batch), *ends.features)
        for rows in batch.pieces():
            at_input[rows] = ends.head.backward_from_loss(
                mine[rows], batch.labels[rows], batch.weights[rows]
            )[1]
        shown = self._shown(session, at_input, batch, FEATURE_GRADIENTS, place, use)
        self._keep(place, features=features.numpy())
        return passage.answer(TurnReply(arrays={FEATURE_GRADIENTS: shown}), uses=[use])

    def backward(self, passage: Passage[TurnRequest]) -> Release:
        """Sum the gradients of the layers at home, seal the sum, and say how patients were clipped.

        Without noise the clip factors go to the server, which clips its own part by them.
        """
        place, session = passage.place, self._hospital.session_at_place()
        received = self._received(passage.request, ACTIVATION_GRADIENTS, session)
        norms = None if self._noisy else self._norms(passage.request)
        features = self._kept(place) if self._ends(session).head else None
        self._require_slots(session, place)
        use = self._hospital.book.receipt(place).use(place.round, 3)
        batch = self._batch(session, place.round)
        if norms is not None and len(norms) != batch.patients:
            raise Fault(Code.MALFORMED, "a turn came without a squared norm for each patient")
        contributing, phases = Contributing(self._hospital), Phases()
        with contributing.ahead() as ahead:
            prepared = contributing.preparing(place, ahead)
            total, factors = self._clipped_sum(session, batch, received, features, norms)
            update = self._hospital.own.chances.released(
                Private(total), session.terms.grid, place, "noise", use
            ).vector
            arrays: Arrays = {} if self._noisy else {FACTORS: factors.numpy()}
            return contributing.seal(
                passage, update, [use], phases, prepared=prepared, arrays=arrays
            )

    def _clipped_sum(
        self,
        session: Session,
        batch: Slots,
        received: torch.Tensor,
        features: torch.Tensor | None,
        norms: torch.Tensor | None,
    ) -> tuple[NDArray[np.float64], torch.Tensor]:
        """Return the sum of clipped patients and by how much each was scaled; float64 both.

        Args:
            session: with both ends of the model.
            batch: of the round.
            received: the loss gradient at the cut, for each slot.
            features: at the head, for each slot; None where the head is the server's.
            norms: squared norms of the server's part of each patient's gradient, if it told them.
        """
        ends, gradient = self._ends(session), self._rows(received, batch)
        mine = None if features is None else self._rows(features, batch)
        total = np.zeros(session.terms.dimensions)
        factors = torch.zeros(batch.patients, dtype=torch.float64)
        for rows, inputs in batch.chunks():
            records = [ends.bottom.backward(inputs, gradient[rows])[0]]
            if ends.head is not None and mine is not None:
                at_head = mine[rows], batch.labels[rows], batch.weights[rows]
                records.append(ends.head.backward_from_loss(*at_head)[0])
            members, owner = torch.unique(batch.owners[rows], return_inverse=True)
            patients = by_patient(torch.cat(records, dim=1), owner, len(members))
            squares = patients.square().sum(dim=1)
            if norms is not None:
                squares = squares + norms[members]
            scale = factors[members] = clip_factors(squares, session.terms.l2_clip)
            total += (scale @ torch.where((scale > 0)[:, None], patients, 0.0)).numpy()
        if discarded := int((factors == 0).sum()):
            self._hospital.site.log(
                f"{discarded} of {batch.patients} patients had no gradient, or none that is "
                "finite; each counts as zero"
            )
        return total, factors

    def _ends(self, session: Session) -> Ends:
        if session.ends is None:
            raise Fault(
                Code.WRONG_EXCHANGE, f"{self._hospital.settings.exchange.name!r} cuts no model"
            )
        return session.ends

    def _shown(
        self,
        session: Session,
        rows: torch.Tensor,
        batch: Slots,
        purpose: str,
        place: Place,
        use: Use,
    ) -> NDArray[np.float32]:
        """Return rows as the server may see them: clipped, in their slots and noised, or exact."""
        if isinstance(use.event, ExactEvent):
            exactly = exact(Private(np.asarray(rows.detach().numpy(), dtype=np.float64)), use)
            return exactly.vector.astype(np.float32)
        whole = placed(clip_rows(rows, session.terms.l2_clip), batch.places, self._size(session))
        vector = self._hospital.own.chances.released(
            Private(whole.reshape(-1)), session.terms.grid, place, purpose, use
        ).vector
        return vector.reshape(whole.shape).astype(np.float32)

    def _received(self, request: TurnRequest, name: str, session: Session) -> torch.Tensor:
        """Return the rows that a turn brings."""
        ends, rows = self._ends(session), request.arrays.get(name)
        if rows is None or not np.issubdtype(rows.dtype, np.floating):
            raise Fault(Code.MALFORMED, f"a turn came without {name}")
        shape = ends.features if name == FEATURES else ends.activation
        if rows.ndim < 2 or rows.shape[1:] != shape:
            raise Fault(Code.MALFORMED, f"{name} of shape {rows.shape}, expected rows of {shape}")
        if self._noisy and len(rows) != self._size(session):
            raise Fault(Code.MALFORMED, f"{len(rows)} rows of {name}, expected one for each slot")
        return torch.as_tensor(np.asarray(rows, dtype=np.float32))

    @staticmethod
    def _norms(request: TurnRequest) -> torch.Tensor:
        """Return what a turn says of the server's part of each patient's norm, squared, ``[n]``."""
        norms = request.arrays.get(SQUARED_NORMS)
        if norms is None or not np.issubdtype(norms.dtype, np.floating) or norms.ndim != 1:
            raise Fault(Code.MALFORMED, "a turn came without squared norms")
        return torch.as_tensor(norms).double()

    def _rows(self, received: torch.Tensor, batch: Slots) -> torch.Tensor:
        """Return the rows of this hospital's records among those of all slots."""
        if len(batch.places) and len(received) <= int(batch.places.max()):
            raise Fault(Code.MALFORMED, f"{len(received)} rows are fewer than were shown")
        return received[batch.places]

    def _size(self, session: Session) -> int:
        return slots_of(self._hospital.own.most_patients(), session.terms.schedule.batches)

    def _batch(self, session: Session, round: int) -> Slots:
        """Return the round's batch: secret slots of a fixed schedule; without noise, by order."""
        batches = session.terms.schedule.batches
        number, passed = (round - 1) % batches, (round - 1) // batches
        records = self._hospital.own.records()
        if (deals := self._deals(session)) is not None:
            chosen, places = deals.batch(round, records.patient_ids)
            rows = [np.flatnonzero(records.patients == p) for p in chosen]
            records = records.take(np.array([r[passed % len(r)] for r in rows], dtype=np.int64))
            owners, members = np.arange(len(chosen)), len(chosen)
        else:
            records = records.of_patients(records.patient_ids[number::batches])
            found, owners = np.unique(records.patients, return_inverse=True)
            places, members = np.arange(len(records.labels)), len(found)
        counts = np.bincount(owners, minlength=members)
        return Slots(
            inputs=LateRows(records.inputs, torch.arange(len(records.labels))),
            places=torch.as_tensor(places, dtype=torch.int64),
            labels=torch.as_tensor(records.labels),
            owners=torch.as_tensor(owners, dtype=torch.int64),
            weights=torch.as_tensor(1.0 / counts[owners], dtype=torch.float32),
            patients=members,
        )

    def _deals(self, session: Session) -> Deals | None:
        """Return who is in which slot; None where batches go by order, without noise."""
        if not self._noisy:
            return None
        batches = session.terms.schedule.batches
        return Deals(self._hospital, batches=batches, size=self._size(session))

    def _require_slots(self, session: Session, place: Place) -> None:
        if (deals := self._deals(session)) is not None:
            deals.require(place)

    def _pay(self, session: Session, place: Place) -> Receipt:
        """Pay for a pass when its first batch is shown, and for every batch that is shown again."""
        state = self._hospital.book.state(place.training)
        batches = session.terms.schedule.batches
        last = min(-(-place.round // batches) * batches, session.terms.rounds)
        deals = self._deals(session)
        lost = deals is not None and deals.is_lost(place.round)
        if deals is not None and lost and state.covered >= place.round:
            deals.tell_lost(place)
        covered = 0 if lost else state.covered
        if covered < place.round:
            rounds = last - place.round + 1
            return self._hospital.spend(
                place, LAYER_MESSAGES, rounds=rounds, uses=LAYER_MESSAGES * rounds
            )
        if state.place[0] == place.round:
            return self._hospital.spend(place, LAYER_MESSAGES)
        return self._hospital.book.receipt(place)

    def _keep(self, place: Place, **arrays: NDArray[np.generic]) -> None:
        """Write what the next turn needs to a file that only the owner can read."""
        buffer = io.BytesIO()
        np.savez(buffer, at=np.array([place.round, place.attempt]), **arrays)  # type: ignore[arg-type]
        self._hospital.site.write_secret(self._name, buffer.getvalue())

    def _kept(self, place: Place) -> torch.Tensor:
        """Return the features that the turn before brought."""
        data = self._hospital.site.read_secret(self._name)
        if data is not None:
            with np.load(io.BytesIO(data), allow_pickle=False) as kept:
                if kept["at"].tolist() == [place.round, place.attempt]:
                    return torch.as_tensor(kept["features"])
        raise Fault(Code.STALE_PLACE, f"nothing is kept of the turn before at {place}")
