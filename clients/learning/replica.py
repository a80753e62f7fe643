"""A hospital's copy of the model, which steps on opened sums.

Every hospital holds the same model because every hospital opens the same sums: nothing but sums
travels. Momentum, Adam and the like act on what was opened, so they are post-processing of a
private release and cost nothing. One replica serves all hospitals of a process.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from accounting.private import Unreleased
from clients.learning.dp_sgd import PerSample
from clients.models.weights import set_parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings


class Yogi(torch.optim.Optimizer):
    """Adam whose second moment moves additively: Zaheer et al. (2018), Algorithm 2."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-3,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter by one step."""
        for group in self.param_groups:
            first_decay, second_decay = group["betas"]
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                square = gradient * gradient
                if not state:
                    state["first"] = torch.zeros_like(parameter)
                    state["second"] = square.clone()
                first, second = state["first"], state["second"]
                first.mul_(first_decay).add_(gradient, alpha=1 - first_decay)
                second.add_(torch.sign(square - second) * square, alpha=1 - second_decay)
                parameter.addcdiv_(first, second.sqrt().add_(group["eps"]), value=-group["lr"])


Parameters = list[torch.nn.Parameter]
OptimizerBuilder = Callable[[Parameters, float, float], torch.optim.Optimizer]

#: name -> builder of an optimiser that steps on opened sums, from (parameters, rate, momentum).
OPTIMIZERS: dict[str, OptimizerBuilder] = {
    "sgd": lambda parameters, rate, momentum: torch.optim.SGD(
        parameters, lr=rate, momentum=momentum
    ),
    "adagrad": lambda parameters, rate, momentum: torch.optim.Adagrad(parameters, lr=rate),
    "adam": lambda parameters, rate, momentum: torch.optim.Adam(
        parameters, lr=rate, betas=(momentum, 0.999)
    ),
    "rmsprop": lambda parameters, rate, momentum: torch.optim.RMSprop(
        parameters, lr=rate, momentum=momentum
    ),
    "yogi": lambda parameters, rate, momentum: Yogi(parameters, lr=rate, betas=(momentum, 0.99)),
}


def make_optimizer(settings: Settings, parameters: Parameters) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name, without any state yet."""
    training = settings.training
    build = OPTIMIZERS[settings.exchange.optimizer]
    return build(parameters, training.learning_rate, training.momentum)


def state_to_bytes(state: Mapping[str, object]) -> bytes:
    """Serialise state dicts, tensors, numbers and words by name."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def state_from_bytes(data: bytes) -> dict[str, Any]:
    """Return what `state_to_bytes` wrote; nothing but tensors and plain values is unpickled."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return state


class Replica(Unreleased):
    """The model after ``round`` opened sums, its optimiser, and a digest of what was opened."""

    def __init__(self, module: nn.Module, settings: Settings) -> None:
        self.module = module
        self.round = 0
        #: Chain of every roster and sum applied so far; equal at every honest hospital.
        self.digest = ""
        self._settings = settings
        self._per_sample: PerSample | None = None
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(settings, self._parameters)
        self._averaging = settings.training.averaging
        self._average = self.vector() if self._averaging else None

    @property
    def per_sample(self) -> PerSample:
        """The model with per-sample gradients; hooks are attached on first use."""
        if self._per_sample is None:
            self._per_sample = PerSample(self.module, self._settings.training.shares)
        return self._per_sample

    @property
    def dimensions(self) -> int:
        """Number of trainable parameters, d."""
        return sum(p.numel() for p in self._parameters)

    def vector(self) -> NDArray[np.float64]:
        """Return the trainable parameters as one vector, float64 ``[d]``."""
        pieces = [p.detach().reshape(-1).double() for p in self._parameters]
        return np.asarray(torch.cat(pieces).numpy())

    @torch.no_grad()
    def load_vector(self, vector: NDArray[np.float64]) -> None:
        """Set the trainable parameters from one vector, float64 ``[d]``."""
        offset = 0
        for parameter in self._parameters:
            piece = torch.from_numpy(vector[offset : offset + parameter.numel()])
            parameter.copy_(piece.reshape(parameter.shape))
            offset += parameter.numel()

    def begin_at(self, vector: NDArray[np.float64]) -> None:
        """Set the trainable parameters and forget what the optimiser remembers."""
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

    def to_bytes(self) -> bytes:
        """Serialise model, optimiser, round and digest: what a hospital needs to catch up."""
        state: dict[str, object] = {
            "model": self.arrays(),
            "optimizer": self._optimizer.state_dict(),
            "round": self.round,
            "digest": self.digest,
        }
        if self._average is not None:
            state["average"] = torch.from_numpy(self._average)
        return state_to_bytes(state)

    def restore(self, data: bytes) -> None:
        """Take over what :meth:`to_bytes` wrote at another hospital of the same training."""
        state = state_from_bytes(data)
        set_parameters(self.module, state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average = state["average"].numpy()
        self.round, self.digest = int(state["round"]), str(state["digest"])
