"""Split learning: the server holds the middle of the model, hospitals hold its ends.

A round has three turns (two where head and loss are the server's). The middle learns from the
gradients that come back; the ends learn from a sealed sum that the server adds blindly, as in every
exchange of sums. With noise, everything below works on messages that are private already, and the
server's own clip only steadies its steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from flwr.app import Message

from clients.contract.layer_messages import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS,
    BACKWARD,
    FACTORS,
    FEATURE_GRADIENTS,
    FEATURES,
    FORWARD,
    HEAD,
    LABELS,
    OWNERS,
    SQUARED_NORMS,
    TurnRequest,
    arrays_of,
)
from clients.contract.messages import RoundReply, RoundRequest
from clients.contract.visit_messages import JUDGE, JudgeRequest
from clients.learning.cuts import Parts, cut_model, values_of_messages
from clients.learning.dp_sgd import clip_factors
from clients.learning.replica import make_optimizer, state_from_bytes, state_to_bytes
from clients.learning.split_ends import Part, by_patient
from strategies.conversation import fault_code
from strategies.federation import Federation

if TYPE_CHECKING:
    from flwr.app import RecordDict
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from strategies.ceremony import Ceremony
    from strategies.holdout import Holdout
    from strategies.teaching import TrainingContext


#: What reading a reply of the wrong form raises.
_MALFORMED = (KeyError, ValueError, TypeError, RuntimeError)


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

    def __init__(self, context: TrainingContext, ceremony: Ceremony, terms: Terms) -> None:
        super().__init__(context, ceremony, terms)
        module = copy.deepcopy(self.holdout.module).train()
        self._parts: Parts = cut_model(self.settings, module)
        self._names = self._parts.names_away(module)
        with torch.no_grad():
            self._cut_shape = self._parts.bottom(torch.zeros(1, *self.holdout.shape)).shape[1:]
        self._middle = Part(self._parts.middle)
        self._optimizer = None
        if self._middle.parameters:
            self._optimizer = make_optimizer(self.settings, self._middle.parameters)
        if self.state.round:
            self._restore(self._journal.read_middle(self.state.round))

    @staticmethod
    def message_values(settings: Settings, holdout: Holdout) -> int:
        """Return how many noised values stand in the messages of a hospital's turns in a round."""
        parts = cut_model(settings, copy.deepcopy(holdout.module).train())
        return values_of_messages(settings, parts, holdout.shape, holdout.largest_hospital)

    def _exchange(self, number: int, request: RoundRequest) -> None:
        """Have the hospitals take their turns, then add their sums and step the middle."""
        faults: dict[str, str] = {}
        extras: list[RoundReply] = []
        batches: dict[str, HospitalBatch] = {}
        content = request.content()
        asked = [Message(content, self._nodes.ids[name], FORWARD) for name in self._nodes.names]
        for name, reply in self._answers(self._replies(asked, request, FORWARD), faults):
            try:
                batches[name] = self._batch(arrays_of(reply.content))
            except _MALFORMED:
                faults[name] = "malformed-frame"
                continue
            extras.append(RoundReply.read(reply.content))
        if self._parts.head is not None:
            self._heads(request, batches, faults)
        down = {name: self._backward(batch) for name, batch in batches.items()}
        asked = self._turn(request, BACKWARD, down)
        self.strategy.aggregate_train(number, self._watched(self._conversation.ask(asked), batches))
        outcome = self.strategy.outcome
        outcome.faults.update(faults)
        for extra in extras:
            outcome.model = extra.model or outcome.model
            outcome.snapshot = extra.snapshot or outcome.snapshot
        if outcome.model:
            # The ends that came are of the round before, as the middle is until it steps.
            outcome.model = {**self._own_tensors(), **outcome.model}
        if outcome.closed is not None:
            there = [batch for name, batch in sorted(batches.items()) if name not in outcome.faults]
            self._step(there)
            self._journal.keep_middle(number, self._to_bytes())

    def _heads(
        self, request: RoundRequest, batches: dict[str, HospitalBatch], faults: dict[str, str]
    ) -> None:
        """Send features up to the heads and take their loss gradients."""
        with torch.no_grad():
            up = {
                name: {FEATURES: self._parts.middle(batch.activations).numpy()}
                for name, batch in batches.items()
            }
        asked = self._turn(request, HEAD, up)
        for name, reply in self._answers(self._conversation.ask(asked), faults):
            try:
                gradient = arrays_of(reply.content)[FEATURE_GRADIENTS]
                batches[name].gradient = _tensor(gradient, up[name][FEATURES].shape)
            except _MALFORMED:
                faults[name] = "malformed-frame"
        for name in faults.keys() & batches.keys():
            del batches[name]

    def _batch(self, arrays: Mapping[str, NDArray[np.generic]]) -> HospitalBatch:
        activations = _tensor(arrays[ACTIVATIONS], (-1, *self._cut_shape))
        owners = torch.arange(len(activations))
        if OWNERS in arrays:
            owners = torch.as_tensor(np.asarray(arrays[OWNERS], dtype=np.int64))
        labels = arrays.get(LABELS)
        if owners.shape != (len(activations),) or (len(owners) and int(owners.min()) < 0):
            raise ValueError(f"{len(activations)} rows came with owners of shape {owners.shape}")
        return HospitalBatch(
            activations=activations,
            owners=owners,
            patients=int(owners.max()) + 1 if len(owners) else 0,
            labels=None if labels is None else torch.as_tensor(np.asarray(labels, dtype=np.int64)),
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
    ) -> Iterable[Message]:
        """Hand replies on, noting how each hospital clipped its patients."""
        for reply in replies:
            if not reply.has_error():
                name = self._nodes.name_of(reply.metadata.src_node_id)
                factors = arrays_of(reply.content).get(FACTORS)
                if factors is not None:
                    batches[name].factors = torch.as_tensor(np.asarray(factors, dtype=np.float64))
            yield reply

    def _step(self, batches: list[HospitalBatch]) -> None:
        """Step the middle on the mean over the same public denominator as the ends."""
        if self._optimizer is None:
            return
        total = torch.zeros(sum(p.numel() for p in self._middle.parameters), dtype=torch.float64)
        for batch in batches:
            factors = batch.factors[batch.owners].float()
            total += self._on_grid(self._gradients(batch, factors)[0].double().sum(dim=0))
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
        kind: str,
        arrays: Mapping[str, Mapping[str, NDArray[np.generic]]],
    ) -> list[Message]:
        """Return one hospital's turn for each, with its own arrays."""
        return [
            Message(
                TurnRequest(
                    training=request.training,
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
        super()._released({**self._own_tensors(), **model}, rounds)

    def _own_tensors(self) -> dict[str, torch.Tensor]:
        own = dict(zip(self._names, self._parts.middle.parameters(), strict=True))
        return {name: tensor.detach().clone() for name, tensor in own.items()}

    def judge_request(self) -> tuple[str, RecordDict]:
        """Return the request to judge the whole model, both parts together."""
        request = JudgeRequest(training=self.training, models=(self.state.model,))
        return JUDGE, request.content()

    def _to_bytes(self) -> bytes:
        optimizer = self._optimizer.state_dict() if self._optimizer else {}
        return state_to_bytes({"middle": self._parts.middle.state_dict(), "optimizer": optimizer})

    def _restore(self, data: bytes) -> None:
        state = state_from_bytes(data)
        self._parts.middle.load_state_dict(state["middle"])
        if self._optimizer:
            self._optimizer.load_state_dict(state["optimizer"])


def _tensor(values: NDArray[np.generic], shape: tuple[int, ...]) -> torch.Tensor:
    """Return values as float32 of a shape; -1 stands for any number of rows."""
    if values.shape[1:] != shape[1:] or shape[0] not in (-1, len(values)):
        raise ValueError(f"values of shape {values.shape} came, expected {shape}")
    return torch.as_tensor(np.asarray(values, dtype=np.float32))
