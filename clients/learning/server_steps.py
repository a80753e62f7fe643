"""The server's step of FedAdagrad, FedAdam and FedYogi, taken on opened sums.

Reddi et al. (2021), Algorithm 2, as Flower's strategies of these names compute it. The mean change
of the weights is the mean gradient times the hospitals' own rate; what is done with it afterwards
is post-processing of an opened sum, so every hospital does it alike and the server need not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from clients.learning.steps import Memory, Steps

#: (second moment so far, square of the mean change, its decay) -> the second moment.
Second = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]

#: name -> how the second moment moves.
SERVER_STEPS: dict[str, Second] = {
    "fedadagrad": lambda second, square, _: second + square,
    "fedadam": lambda second, square, decay: decay * second + (1.0 - decay) * square,
    "fedyogi": lambda second, square, decay: (
        second - (1.0 - decay) * square * torch.sign(second - square)
    ),
}


class ServerStep(Steps):
    """Move weights as the server of an adaptive strategy would.

    Args:
        params: float32.
        name: a key of `SERVER_STEPS`.
        hospital_rate: eta_l, by which a gradient becomes a change of weights.
        rate: eta.
        betas: weights of the past in the first and the second moment; FedAdagrad has none.
        adaptivity: tau.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        name: str,
        hospital_rate: float,
        rate: float,
        betas: tuple[float, float],
        adaptivity: float,
    ) -> None:
        super().__init__(params)
        self._name = name
        self._hospital_rate, self._rate, self._adaptivity = hospital_rate, rate, adaptivity
        self._first, self._second = (0.0, 0.0) if name == "fedadagrad" else betas

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place."""
        change = -self._hospital_rate * gradient
        steps = memory.setdefault("steps", torch.zeros(()))
        steps += 1
        first = self._first * memory.get("first", torch.zeros_like(parameter))
        first = first + (1.0 - self._first) * change
        second = memory.get("second", torch.zeros_like(parameter))
        second = SERVER_STEPS[self._name](second, change.square(), self._second)
        memory["first"], memory["second"] = first, second
        rate = self._rate * self._correction(float(steps))
        parameter.addcdiv_(first, second.sqrt().add_(self._adaptivity), value=rate)

    def _correction(self, steps: float) -> float:
        """Return what makes up for moments that began at zero: FedAdam's alone has it.

        Flower counts from the round after, so this does too.
        """
        if self._name != "fedadam":
            return 1.0
        power = steps + 1.0
        return float((1.0 - self._second**power) ** 0.5 / (1.0 - self._first**power))
