"""What moves parameters by their gradients, and remembers something of each.

In place of `torch.optim.Optimizer`, whose first use imports torch's compiler with all that it knows
of, sympy included: a second of every process, for nothing that is compiled here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

#: What is remembered of one parameter, by name.
Memory = dict[str, torch.Tensor]


class Steps:
    """Moves parameters, one step at a time; how is up to `move`.

    Args:
        parameters: float32.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._memories: dict[int, Memory] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient by one step."""
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                memory = self._memories.setdefault(number, {})
                self.move(parameter, parameter.grad, memory)

    def move(self, parameter: torch.Tensor, gradient: torch.Tensor, memory: Memory) -> None:
        """Move one parameter in place.

        Args:
            parameter: float32.
            gradient: of the same shape; stays as it is.
            memory: empty at the first step; what is put in is there at the next.
        """
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered of each parameter, by its number."""
        return {"state": {number: dict(one) for number, one in self._memories.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._memories = {number: dict(one) for number, one in state["state"].items()}
