"""Split learning: the server holds the middle of the model, hospitals hold its ends.

A round has three turns (two where head and loss are the server's). The middle learns from the
gradients that come back; the ends learn from a sealed sum that the server adds blindly, as in every
exchange of sums. With noise, everything below works on messages that are private already, and the
server's own clip only steadies its steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from flwr.app import Message

from clients.contract.kinds import Kind
from clients.contract.layer_messages import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS,
    FACTORS,
    FEATURE_GRADIENTS,
    FEATURES,
    LABELS,
    OWNERS,
    SQUARED_NORMS,
    TurnRequest,
)
from clients.contract.messages import RoundRequest
from clients.contract.visit_messages import JudgeRequest
from clients.learning.cuts import Parts, cut_model, slots_of, values_of_messages
from clients.learning.device import find_device
from clients.learning.dp_sgd import clip_factors
from clients.learning.optimizers import make_optimizer
from clients.learning.replica import state_from_bytes, state_to_bytes
from clients.learning.shapes import parameters_of
from clients.learning.split_ends import Part, by_patient
from strategies.agreement import SharedPart
from strategies.conversation import fault_code
from strategies.extras_due import LAG
from strategies.federation import Federation
from strategies.replies import MALFORMED, BadReply, ModelForm, one_bad_reply, read_layer
from strategies.secure_fedavg import Extras

if TYPE_CHECKING:
    from flwr.app import RecordDict
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from strategies.ceremony import Ceremony
    from strategies.holdout import Holdout
    from strategies.teaching import TrainingContext

#: Rows of a batch that is not padded, whose size is no secret: more are no batch.
_MOST_ROWS = 1 << 20


@dataclass
class HospitalBatch:
    """What the server holds of one hospital's batch while a round lasts.

    Attributes:
        activations: at the cut, ``[n, ...]``.
        owners: whose record a row is; one row per patient where messages are noised.
        patients: how many there are.
        gradient: at the middle's output, once it has come.
        labels: where head and loss are the server's.
        factors: how each patient was clipped, once it is known.
    """

    activations: torch.Tensor
    owners: torch.Tensor
    patients: int
    gradient: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    labels: torch.Tensor | None = None
    factors: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def weights(self) -> torch.Tensor:
        """What each record's loss weighs: 1/R_p."""
        counts = torch.bincount(self.owners, minlength=self.patients)
        return 1.0 / counts[self.owners].float()


class Split(Federation):
    """A training of a model that is cut in two or three."""

    first_turn = Kind.FORWARD

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        super().__init__(context, ceremony)
        module = copy.deepcopy(self.holdout.module).train()
        self._parts: Parts = cut_model(self.settings, module)
        self._names = self._parts.names_away(module)
        with torch.no_grad():
            self._cut_shape = self._parts.bottom(torch.zeros(1, *self.holdout.shape)).shape[1:]
        self._middle = Part(self._parts.middle, find_device(self.settings.run.device))
        self._optimizer = None
        if self._middle.parameters:
            self._optimizer = make_optimizer(self.settings, self._middle.parameters)
        self._untrained = self._to_bytes()
        #: The server's own tensors after rounds whose sums hospitals may still release.
        self._own: dict[int, dict[str, torch.Tensor]] = {}
        kept = self._journal.read_middles()
        for number in sorted(n for n in kept if n <= self.state.round):
            self._restore(kept[number])
            self._own[number] = self._own_tensors()
        #: Rows of a noised batch, padding included: a public number.
        batches = self.terms.schedule.batches
        self._slots = slots_of(context.holdout.largest_hospital, batches) if batches else 0
        self._classes = len(context.holdout.facts.classes)

    @staticmethod
    def shared(settings: Settings, holdout: Holdout) -> SharedPart:
        """Return the ends that hospitals train together, and what their messages hold."""
        module = copy.deepcopy(holdout.module).train()
        parts = cut_model(settings, module)
        values = values_of_messages(settings, parts, holdout.shape, holdout.largest_hospital)
        for parameter in parts.away:
            parameter.requires_grad_(False)
        return SharedPart(parameters=parameters_of(module), message_values=values)

    @staticmethod
    def form(settings: Settings, holdout: Holdout) -> ModelForm:
        """Return what a hospital releases: the model without the server's part."""
        module = copy.deepcopy(holdout.module).train()
        parts = cut_model(settings, module)
        return ModelForm.of(module).without(parts.names_away(module))

    def _exchange(self, number: int, request: RoundRequest) -> None:
        """Have the hospitals take their turns, then add their sums and step the middle."""
        faults: dict[str, str] = {}
        extras: dict[str, Extras] = {}
        batches: dict[str, HospitalBatch] = {}
        content = request.content()
        asked = [Message(content, self._nodes.ids[name], Kind.FORWARD) for name in self._asked()]
        replies = self._ask_again(
            asked, self._conversation.ask(asked), lambda: len(batches) >= self._agreement.least
        )
        for name, reply in self._answers(self._helped(replies, request), faults):
            with self._naming(name, faults):
                found = self.strategy.extras(self.strategy.read(reply), name)
                batches[name] = self._batch(reply.content)
                extras[name] = found
        if self._parts.head is not None:
            self._heads(request, batches, faults)
        down = {}
        for name, batch in batches.items():
            with self._naming(name, faults):
                down[name] = self._backward(batch)
        asked = self._turn(request, Kind.BACKWARD, down)
        replies = self._ask_again(asked, self._conversation.ask(asked), self._enough)
        self.strategy.aggregate_train(number, self._watched(replies, batches))
        outcome = self.strategy.outcome
        outcome.faults.update(faults)
        for name in sorted(extras):
            self.strategy.keep(extras[name])
        if outcome.closed is not None:
            there = {n: batch for n, batch in batches.items() if n not in outcome.faults}
            self._step(there, outcome.faults)
            self._own[number] = self._own_tensors()
            for old in [n for n in self._own if n < number - LAG]:
                del self._own[old]
            self._journal.keep_middle(number, self._to_bytes())

    @contextmanager
    def _naming(self, name: str, faults: dict[str, str]) -> Iterator[None]:
        """Name whoever sent what the block cannot work with; the round goes on without it."""
        try:
            with one_bad_reply():
                yield
        except BadReply as bad:
            faults[name] = bad.code

    def _heads(
        self, request: RoundRequest, batches: dict[str, HospitalBatch], faults: dict[str, str]
    ) -> None:
        """Send features up to the heads and take their loss gradients."""
        with torch.no_grad():
            up = {
                name: {FEATURES: self._parts.middle(batch.activations).numpy()}
                for name, batch in batches.items()
            }
        asked = self._turn(request, Kind.HEAD, up)
        there: set[str] = set()
        replies = self._ask_again(
            asked, self._conversation.ask(asked), lambda: len(there) >= self._agreement.least
        )
        for name, reply in self._answers(replies, faults):
            with self._naming(name, faults):
                shape = up[name][FEATURES].shape
                gradient = read_layer(
                    reply.content, FEATURE_GRADIENTS, shape, most_rows=len(up[name][FEATURES])
                )
                batches[name].gradient = _tensor(gradient)
                there.add(name)
        for name in faults.keys() & batches.keys():
            del batches[name]

    def _batch(self, content: RecordDict) -> HospitalBatch:
        """Read a hospital's batch: padded to a public size where it is noised."""
        private, shape = self.settings.regime.private, tuple(self._cut_shape)
        most = self._slots if private else _MOST_ROWS
        activations = _tensor(read_layer(content, ACTIVATIONS, (-1, *shape), most_rows=most))
        rows = len(activations)
        if private:
            if not rows:
                raise BadReply
            return HospitalBatch(activations=activations, owners=torch.arange(rows), patients=rows)
        owners = _numbers(content, OWNERS, rows, below=max(rows, 1))
        labels = None
        if self._parts.head is None:
            labels = _numbers(content, LABELS, rows, below=self._classes)
        return HospitalBatch(
            activations=activations,
            owners=owners,
            patients=int(owners.max()) + 1 if rows else 0,
            labels=labels,
        )

    def _gradients(
        self, batch: HospitalBatch, factors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the middle's gradient of each record and that at the cut, rows scaled."""
        if batch.labels is not None:
            weights = batch.weights * factors
            return self._middle.backward_from_loss(batch.activations, batch.labels, weights)
        rows = factors.reshape(-1, *[1] * (batch.gradient.dim() - 1))
        return self._middle.backward(batch.activations, batch.gradient * rows)

    def _backward(self, batch: HospitalBatch) -> dict[str, NDArray[np.generic]]:
        """Return what a hospital needs to finish: the gradient at its cut, and squared norms."""
        records, at_cut = self._gradients(batch, torch.ones(len(batch.owners)))
        squares = by_patient(records, batch.owners, batch.patients).square().sum(dim=1)
        batch.factors = clip_factors(squares, self.settings.privacy.l2_clip)
        arrays: dict[str, NDArray[np.generic]] = {ACTIVATION_GRADIENTS: at_cut.numpy()}
        if not self.settings.regime.private:
            arrays[SQUARED_NORMS] = squares.numpy()
        return arrays

    def _watched(
        self, replies: Iterable[Message], batches: Mapping[str, HospitalBatch]
    ) -> Iterator[Message]:
        """Hand replies on, noting how each hospital clipped its patients."""
        for reply in replies:
            if reply.has_error() or self.settings.regime.private:
                yield reply
                continue
            name = self._nodes.name_of(reply.metadata.src_node_id)
            try:
                with one_bad_reply():
                    factors = read_layer(
                        reply.content,
                        FACTORS,
                        (batches[name].patients,),
                        most_rows=batches[name].patients,
                    )
                    if factors is None or (factors < 0).any() or (factors > 1).any():
                        raise BadReply
                    batches[name].factors = torch.as_tensor(np.asarray(factors, dtype=np.float64))
            except BadReply as bad:
                self.strategy.outcome.faults[name] = bad.code
                continue
            yield reply

    def _step(self, batches: Mapping[str, HospitalBatch], faults: dict[str, str]) -> None:
        """Step the middle on the mean over the same public denominator as the ends.

        A batch whose gradient overflows teaches the middle nothing, and its sender is named.
        """
        if self._optimizer is None:
            return
        total = torch.zeros(sum(p.numel() for p in self._middle.parameters), dtype=torch.float64)
        for name, batch in sorted(batches.items()):
            factors = batch.factors[batch.owners].float()
            share = self._on_grid(self._gradients(batch, factors)[0].double().sum(dim=0))
            if not bool(torch.isfinite(share).all()):
                faults[name] = MALFORMED
                continue
            total += share
        mean, offset = (total / self.terms.denominator).float(), 0
        for parameter in self._middle.parameters:
            size = parameter.numel()
            parameter.grad = mean[offset : offset + size].reshape(parameter.shape).clone()
            offset += size
        self._optimizer.step()
        for parameter in self._middle.parameters:
            parameter.grad = None

    def _on_grid(self, total: torch.Tensor) -> torch.Tensor:
        """Round a hospital's sum as those of the ends are, so that the cut changes no model."""
        if self.settings.regime.private:
            return total
        step = self.terms.grid.step
        return torch.round(total / step) * step

    def _turn(
        self,
        request: RoundRequest,
        kind: Kind,
        arrays: Mapping[str, Mapping[str, NDArray[np.generic]]],
    ) -> list[Message]:
        """Return one hospital's turn for each, with its own arrays."""
        return [
            Message(
                TurnRequest(
                    training=request.training,
                    bind=request.bind,
                    round=request.round,
                    attempt=request.attempt,
                    arrays=arrays[name],
                ).content(),
                self._nodes.ids[name],
                kind,
            )
            for name in sorted(arrays)
        ]

    def _answers(
        self, replies: Iterable[Message], faults: dict[str, str]
    ) -> Iterable[tuple[str, Message]]:
        """Yield sound replies by hospital; codes of the others go to `faults`."""
        for reply in replies:
            name = self._nodes.name_of(reply.metadata.src_node_id)
            if reply.has_error():
                faults[name] = fault_code(reply)
            else:
                yield name, reply

    def _released(self, model: Mapping[str, torch.Tensor], rounds: int) -> None:
        """Put the server's part of the same round beside the hospitals'."""
        if rounds in self._own:
            super()._released({**model, **self._own[rounds]}, rounds)

    def _own_tensors(self) -> dict[str, torch.Tensor]:
        own = dict(zip(self._names, self._parts.middle.parameters(), strict=True))
        return {name: tensor.detach().clone() for name, tensor in own.items()}

    def _step_back(self, number: int) -> None:
        """Bring the middle to where it stood after a round, those after it being void."""
        self._restore(self._journal.read_middles().get(number, self._untrained))
        self._own = {n: own for n, own in self._own.items() if n <= number}

    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the request to judge the whole model, both parts together."""
        request = JudgeRequest(
            training=self.training, bind=self._agreement.bind, models=(self.state.model,)
        )
        return Kind.EVALUATE_MODELS, request.content()

    def _to_bytes(self) -> bytes:
        optimizer = self._optimizer.state_dict() if self._optimizer else {}
        return state_to_bytes({"middle": self._parts.middle.state_dict(), "optimizer": optimizer})

    def _restore(self, data: bytes) -> None:
        state = state_from_bytes(data)
        self._parts.middle.load_state_dict(state["middle"])
        if self._optimizer:
            self._optimizer.load_state_dict(state["optimizer"])


def _tensor(values: NDArray[np.float64] | NDArray[np.int64] | None) -> torch.Tensor:
    """Return values as float32.

    Raises:
        BadReply: there are none, or such as are not finite in it.
    """
    if values is None:
        raise BadReply
    with np.errstate(over="ignore"):
        tensor = torch.as_tensor(np.asarray(values, dtype=np.float32))
    if not bool(torch.isfinite(tensor).all()):
        raise BadReply
    return tensor


def _numbers(content: RecordDict, name: str, rows: int, *, below: int) -> torch.Tensor:
    """Read one whole number for each row, from 0.

    Raises:
        BadReply: there are others.
    """
    values = read_layer(content, name, (rows,), most_rows=rows, kinds="iu")
    if values is None or (values < 0).any() or (values >= below).any():
        raise BadReply
    return torch.as_tensor(np.asarray(values, dtype=np.int64))
