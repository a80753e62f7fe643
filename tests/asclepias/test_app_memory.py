"""What an app is known again by: only what its own name leads to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from asclepias.memory import kept_for
from tests.asclepias.own_apps import load, net


class _Ward:
    """Records of one hospital, read by a method."""

    def load(self) -> None:
        """Read them."""


def _noted(read: Callable[..., object]) -> Callable[..., object]:
    @wraps(read)
    def noted(*given: object) -> object:
        return read(*given)

    return noted


def test_functions_that_their_name_leads_to_are_known_again_and_no_others() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    assert kept_for((net, load), make) is kept_for((net, load), make)
    for one, other in [
        (_Ward().load, _Ward().load),
        (_noted(load), _noted(load)),
        (_noted(load), load),
    ]:
        assert kept_for((net, one), make) is not kept_for((net, other), make)
