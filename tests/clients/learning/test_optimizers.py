"""Steps on opened sums are torch's own, bit for bit, without the compiler that it would import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clients.learning.optimizers import OPTIMIZERS

_RATE, _MOMENTUM = 0.05, 0.9
THEIRS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda given, momentum: torch.optim.SGD(given, lr=_RATE, momentum=momentum),
    "adagrad": lambda given, _: torch.optim.Adagrad(given, lr=_RATE),
    "adam": lambda given, momentum: torch.optim.Adam(given, lr=_RATE, betas=(momentum, 0.999)),
    "rmsprop": lambda given, momentum: torch.optim.RMSprop(given, lr=_RATE, momentum=momentum),
}


def _parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(5)
    return [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in ((7, 3), (3,))]


@pytest.mark.parametrize("momentum", [0.0, _MOMENTUM])
@pytest.mark.parametrize("name", THEIRS)
def test_steps_and_what_is_remembered_are_torchs_own(name: str, momentum: float) -> None:
    ours, theirs = _parameters(), _parameters()
    optimizer, reference = OPTIMIZERS[name](ours, _RATE, momentum), THEIRS[name](theirs, momentum)
    generator = torch.Generator().manual_seed(6)
    for _ in range(20):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        optimizer.step()
        reference.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    kept, expected = optimizer.state_dict()["state"], reference.state_dict()["state"]
    for number in range(len(ours)):
        mine, other = kept.get(number, {}), expected.get(number, {})
        assert list(mine) == [key for key, value in other.items() if value is not None]
        assert all(torch.equal(mine[key], other[key]) for key in mine)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_that_takes_over_goes_on_with_the_same_steps(name: str) -> None:
    first, second = _parameters(), _parameters()
    one, other = (OPTIMIZERS[name](each, _RATE, _MOMENTUM) for each in (first, second))

    def step(optimizer: Any, each: list[torch.nn.Parameter]) -> None:
        for parameter in each:
            parameter.grad = parameter.detach() + 1.0
        optimizer.step()

    step(one, first)
    with torch.no_grad():
        for mine, theirs in zip(second, first, strict=True):
            mine.copy_(theirs)
    other.load_state_dict({"state": {
        number: {key: value.clone() for key, value in memory.items()}
        for number, memory in one.state_dict()["state"].items()
    }})  # fmt: skip
    step(one, first)
    step(other, second)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def test_a_replica_that_steps_imports_no_compiler() -> None:
    script = """
import sys
import numpy as np, torch
from clients.contract.settings import Settings
from clients.learning.replica import Replica
replica = Replica(torch.nn.Linear(3, 2), Settings.from_config({}))
replica.step(np.ones(8), "")
replica.restore(replica.to_bytes())
print(sorted(one for one in sys.modules if one in ("torch._dynamo", "sympy")))
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert found.stdout == "[]\n"
