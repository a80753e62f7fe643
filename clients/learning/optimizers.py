"""How a replica steps on an opened mean gradient: SGD, Adagrad, Adam, RMSprop, Yogi, and servers'.

The first four are torch's own functions of these names, with what `torch.optim` has by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from clients.learning.server_steps import SERVER_STEPS, ServerStep
from clients.learning.steps import Memory, Steps

if TYPE_CHECKING:
    from clients.contract.settings import Settings

Parameters = Iterable[torch.nn.Parameter]


class _ByRate(Steps):
    """Steps with a rate, and what it calls momentum.

    Args:
        parameters: float32.
        rate: of learning.
        momentum: how much of the past stays in the next step.
    """

    def __init__(self, parameters: Parameters, rate: float, momentum: float) -> None:
        super().__init__(parameters)
        self.rate, self.momentum = rate, momentum


class Sgd(_ByRate):
    """Stochastic gradient descent with momentum."""

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        buffers = [memory.get("momentum_buffer")]
        sgd(
            [parameter], [gradient], buffers, foreach=False, lr=self.rate, momentum=self.momentum,
            weight_decay=0.0, dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        if buffers[0] is not None:
            memory["momentum_buffer"] = buffers[0]


class Adagrad(_ByRate):
    """Duchi et al. (2011)."""

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        steps = memory.setdefault("step", torch.tensor(0.0))
        total = memory.setdefault("sum", torch.zeros_like(parameter))
        adagrad(
            [parameter], [gradient], [total], [steps], foreach=False, lr=self.rate,
            weight_decay=0.0, lr_decay=0.0, eps=1e-10, maximize=False,
        )  # fmt: skip


class Adam(_ByRate):
    """Kingma and Ba (2015); its first decay is the momentum."""

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        steps = memory.setdefault("step", torch.tensor(0.0))
        first = memory.setdefault("exp_avg", torch.zeros_like(parameter))
        second = memory.setdefault("exp_avg_sq", torch.zeros_like(parameter))
        adam(
            [parameter], [gradient], [first], [second], [], [steps], foreach=False, amsgrad=False,
            beta1=self.momentum, beta2=0.999, lr=self.rate, weight_decay=0.0, eps=1e-8,
            maximize=False,
        )  # fmt: skip


class RmsProp(_ByRate):
    """Tieleman and Hinton (2012)."""

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        steps = memory.setdefault("step", torch.zeros(()))
        square = memory.setdefault("square_avg", torch.zeros_like(parameter))
        buffers = []
        if self.momentum > 0:
            buffers = [memory.setdefault("momentum_buffer", torch.zeros_like(parameter))]
        rmsprop(
            [parameter], [gradient], [square], [], buffers, [steps], foreach=False, lr=self.rate,
            alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=self.momentum, centered=False,
        )  # fmt: skip


class Yogi(_ByRate):
    """Adam whose second moment moves additively: Zaheer et al. (2018), Algorithm 2."""

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        square = gradient * gradient
        first = memory.setdefault("first", torch.zeros_like(parameter))
        second = memory.setdefault("second", square.clone())
        first.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
        second.add_(torch.sign(square - second) * square, alpha=1 - 0.99)
        parameter.addcdiv_(first, second.sqrt().add_(1e-3), value=-self.rate)


#: name -> steps on opened sums, from (parameters, rate, momentum).
OPTIMIZERS: dict[str, Callable[[Parameters, float, float], Steps]] = {
    "sgd": Sgd,
    "adagrad": Adagrad,
    "adam": Adam,
    "rmsprop": RmsProp,
    "yogi": Yogi,
}


def make_optimizer(settings: Settings, parameters: Parameters) -> Steps:
    """Return the optimizer that the settings name, without any state yet."""
    training, exchange = settings.training, settings.exchange
    if exchange.optimizer in SERVER_STEPS:
        return ServerStep(
            parameters,
            name=exchange.optimizer,
            hospital_rate=training.learning_rate,
            rate=exchange.server_rate,
            betas=(training.momentum, exchange.second_decay),
            adaptivity=exchange.adaptivity,
        )
    return OPTIMIZERS[exchange.optimizer](parameters, training.learning_rate, training.momentum)
