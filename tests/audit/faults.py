"""Faults: small patches that break a guarantee of the real pipeline while a block runs.

Each says which detector sees it, from what leaves hospitals and from their ledgers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from clients.learning import joint, local_steps, visits
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum
from simulations.run_audit import attack, planned_run
from simulations.scenario import find_scenario, resolve

Patch = Callable[[ExitStack], None]

AUDIT, DATA, RECONCILIATION = "audit", "audit --data", "reconciliation"
#: Who calls the sum of clipped gradients.
_SUMS = (joint, local_steps, visits)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault.

    Attributes:
        name: a few words.
        plant: applies it.
        caught_by: detectors that see it.
    """

    name: str
    plant: Patch
    caught_by: tuple[str, ...]


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Have the pipeline make a mistake for as long as the block runs."""
    with ExitStack() as stack:
        fault.plant(stack)
        yield


def named(faults: Collection[Fault], name: str) -> Fault:
    """Return the fault of a name."""
    [fault] = [one for one in faults if one.name == name]
    return fault


def attacked(*assignments: str) -> list[str]:
    """Audit what `default` promises under some settings; returns what does not hold."""
    settings = resolve(find_scenario("default"), list(assignments), {})
    return attack(settings, planned_run(settings), lambda *_: None).audit.failures


def swap(stack: ExitStack, where: object, name: str, value: object) -> None:
    """Put a value in the place of another for as long as the stack lasts."""
    stack.enter_context(mock.patch.object(where, name, value))


def in_sums(stack: ExitStack, made: Callable[[Any, Batch, float], GradientSum]) -> None:
    """Have sums of clipped gradients made in another way, wherever one is made."""

    def patched(model: Any, batch: Batch, *, l2_clip: float, **more: Any) -> GradientSum:
        return made(model, batch, l2_clip)

    for module in _SUMS:
        swap(stack, module, "clipped_gradient_sum", patched)
