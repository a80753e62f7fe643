"""A hospital's copy of the model, which steps on opened sums.

Every hospital holds the same model because every hospital opens the same sums: nothing but sums
travels. Momentum, Adam and the like act on what was opened, so they are post-processing of a
private release and cost nothing. One replica serves all hospitals of a process.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from accounting.private import Unreleased
from clients.learning.class_shares import NAME as _COUNTS
from clients.learning.class_shares import ClassCounts, ClassShares
from clients.learning.device import CPU, Forward
from clients.learning.frames import frame_digest, frame_from_bytes, frame_size, frame_to_bytes
from clients.learning.optimizers import make_optimizer
from clients.learning.per_sample import PerSample
from clients.models.weights import set_parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings
    from clients.learning.processors import Processors

    #: (outputs, targets) -> the sum of the records' losses, none of which depends on another.
    SummedLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


#: Names in a frame: parameters, what the optimizer remembers of each, the average that is released.
_MODEL, _SLOT, _AVERAGE, _ROUND, _CHAIN = "model.", "optimizer.", "average", "round", "chain"
_DIGEST = 32
#: Names in a frame that are no tensor's.
FRAME_NAMES = frozenset({_AVERAGE, _COUNTS, _ROUND, _CHAIN})


def state_to_bytes(state: Mapping[str, object]) -> bytes:
    """Serialise state dicts, tensors, numbers and words by name, for one's own disk alone."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def state_from_bytes(data: bytes) -> dict[str, Any]:
    """Return what `state_to_bytes` wrote; nothing but tensors and plain values is unpickled."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return state


class Replica(Unreleased):
    """The model after ``round`` opened sums, its optimizer, and a digest of what was opened.

    Args:
        module: where it begins.
        settings: the run's.
        classes: how many there are; needed where their shares are learnt.
        device: where gradients and logits are computed. The replica itself stays on processors, so
            that it is the same bits at hospitals with other devices.
        loss: (outputs, targets) -> the sum of records' losses; None for cross-entropy.
        bounds: lowest and highest value of an input; public.
        processors: free ones, which gradients may take for a while.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Settings,
        classes: int = 0,
        device: torch.device = CPU,
        loss: SummedLoss | None = None,
        bounds: tuple[float, float] = (0.0, 1.0),
        processors: Processors | None = None,
    ) -> None:
        self.module = module
        self.device = device
        self.round = 0
        #: Chain of every roster and sum applied so far; equal at every honest hospital.
        self.digest = ""
        self._settings = settings
        self._bounds = bounds
        self._processors = processors
        self._loss = loss
        self._per_sample: PerSample | None = None
        self._forward: Forward | None = None
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(settings, self._parameters)
        self._averaging = settings.training.averaging
        self._average = self.vector() if self._averaging else None
        self._counts = (
            ClassCounts(classes, settings.privacy.l2_clip)
            if settings.training.learns_shares
            else None
        )

    @property
    def per_sample(self) -> PerSample:
        """The model with per-sample gradients; hooks are attached on first use."""
        if self._per_sample is None:
            training, shares = self._settings.training, None
            if training.class_shares:
                shares = ClassShares(training.shares, self._counts, training.balance)
            radius = training.adversarial
            self._per_sample = PerSample(
                self.module,
                shares,
                self.device,
                self._loss,
                adversary=(radius, self._bounds) if radius else None,
                processors=self._processors,
            )
        return self._per_sample

    @property
    def forward(self) -> Forward:
        """Logits of the model, or of other weights in it."""
        if self._forward is None:
            self._forward = Forward(self.module, self.device)
        return self._forward

    @property
    def dimensions(self) -> int:
        """Values of a sum, d: trainable parameters, and classes where these are counted."""
        counted = self._counts.classes if self._counts is not None else 0
        return sum(p.numel() for p in self._parameters) + counted

    def vector(self) -> NDArray[np.float64]:
        """Return the trainable parameters as one vector, float64."""
        pieces = [p.detach().reshape(-1).double() for p in self._parameters]
        return np.asarray(torch.cat(pieces).numpy())

    @torch.no_grad()
    def load_vector(self, vector: NDArray[np.float64]) -> None:
        """Set the trainable parameters from one vector, float64."""
        offset = 0
        for parameter in self._parameters:
            piece = torch.from_numpy(vector[offset : offset + parameter.numel()])
            parameter.copy_(piece.reshape(parameter.shape))
            offset += parameter.numel()

    def begin_at(self, vector: NDArray[np.float64]) -> None:
        """Set the trainable parameters and forget what the optimizer remembers."""
        self.load_vector(vector)
        self._optimizer = make_optimizer(self._settings, self._parameters)

    def step(self, mean_gradient: NDArray[np.float64], chain: str) -> None:
        """Apply one opened mean gradient, float64 ``[d]``, and move to the next round.

        Args:
            mean_gradient: float64 ``[d]``.
            chain: of all sums up to this one, hex; "" where nothing was opened.
        """
        offset = 0
        for parameter in self._parameters:
            size = parameter.numel()
            piece = mean_gradient[offset : offset + size].astype(np.float32)
            parameter.grad = torch.from_numpy(piece).reshape(parameter.shape)
            offset += size
        self._optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None
        if self._counts is not None:
            self._counts.add(mean_gradient[offset:])
        self.digest = chain
        self.round += 1
        if self._average is not None:
            # The start weighs little: De et al. (2022), section 3.4, after Tan and Le (2019).
            past = min(self._averaging, (1 + self.round) / (10 + self.round))
            self._average = past * self._average + (1 - past) * self.vector()

    def arrays(self) -> dict[str, torch.Tensor]:
        """Return the model's named parameters, trained or frozen, detached; never a buffer.

        What steps on opened sums is private; a buffer would be what a layer noted of patients.
        """
        return {name: parameter.detach() for name, parameter in self.module.named_parameters()}

    def released(self) -> dict[str, torch.Tensor]:
        """Return what is released: the average of the models so far, where one is kept.

        An average of models that were made from opened sums is post-processing of these sums.
        Training goes on from the last model, never from the average.
        """
        arrays = self.arrays()
        if self._average is None:
            return arrays
        offset = 0
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                piece = self._average[offset : offset + parameter.numel()].astype(np.float32)
                arrays[name] = torch.from_numpy(piece).reshape(parameter.shape)
                offset += parameter.numel()
        return arrays

    def state_digest(self) -> bytes:
        """Return SHA-256 of :meth:`to_bytes`: equal wherever the same sums were stepped on."""
        return frame_digest(self._state())

    def to_bytes(self) -> bytes:
        """Serialise model, optimizer, round and digest: what a hospital needs to catch up.

        A frame of a size that the terms decide; settings of the optimizer are not in it.
        """
        return frame_to_bytes(self._state())

    def restore(self, data: bytes) -> None:
        """Take over what :meth:`to_bytes` wrote at another hospital of the same training.

        Raises:
            ValueError: it is no such frame; nothing was taken over.
        """
        slots = self._first_slots()
        like = self._parts(slots, 1, "")
        if len(data) == frame_size(unstepped := self._parts({}, 0, "")):
            slots, like = {}, unstepped
        found = frame_from_bytes(data, like)
        tensors = {name: torch.from_numpy(one.copy()) for name, one in found.items()}
        model = {n: tensors[f"{_MODEL}{n}"] for n in self.arrays()}
        for index, named in slots.items():
            for name, one in named.items():
                if one is not None:
                    named[name] = tensors[f"{_SLOT}{index}.{name}"]
        set_parameters(self.module, model)
        self._optimizer.load_state_dict({"state": slots})
        if self._average is not None:
            self._average = found[_AVERAGE].copy()
        if self._counts is not None:
            self._counts.total = found[_COUNTS].copy()
        self.round, self.digest = told_in(found)

    def _state(self) -> dict[str, NDArray[Any]]:
        """Return all that a frame of this replica holds, as it is now."""
        slots = self._optimizer.state_dict()["state"]
        return self._parts(slots, self.round, self.digest)

    def _parts(
        self, slots: Mapping[int, Mapping[str, Any]], round: int, chain: str
    ) -> dict[str, NDArray[Any]]:
        """Return all that a frame holds, by name."""
        parts = {f"{_MODEL}{name}": one.numpy() for name, one in self.arrays().items()}
        for index, named in slots.items():
            for name, one in named.items():
                if one is not None:
                    parts[f"{_SLOT}{index}.{name}"] = torch.as_tensor(one).numpy()
        if self._average is not None:
            parts[_AVERAGE] = self._average
        if self._counts is not None:
            parts[_COUNTS] = self._counts.total
        parts[_ROUND] = np.asarray([round], dtype=np.int64)
        opened = bytes.fromhex(chain)
        padded = bytes([len(opened)]) + opened.ljust(_DIGEST, b"\0")
        parts[_CHAIN] = np.frombuffer(padded, dtype=np.uint8)
        return parts

    def _first_slots(self) -> dict[int, dict[str, Any]]:
        """Return what an optimizer of this training remembers after a step, of another model."""
        others = [torch.nn.Parameter(torch.zeros_like(p)) for p in self._parameters]
        optimizer = make_optimizer(self._settings, others)
        for parameter in others:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        slots: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
        return slots


def told_in(frame: Mapping[str, NDArray[Any]]) -> tuple[int, str]:
    """Return the round and the chain that a frame is of."""
    size, *opened = frame[_CHAIN].tobytes()
    return int(frame[_ROUND][0]), bytes(opened[:size]).hex()
