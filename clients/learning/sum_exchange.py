"""A hospital's part in an exchange of sums: what it contributes, and what an opened sum does.

In the other exchanges whole models travel, or the two ends of a split one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from clients.learning.gradients import Gradients
from clients.learning.local_steps import LocalSteps
from clients.learning.own_loop import OwnLoop
from clients.models.own_model import check_loop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clients.contract.own_task import OwnTask
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from clients.learning.draws import Draws
    from clients.learning.replica import Replica


class SumExchange(Protocol):
    """A hospital's part in an exchange of sums."""

    def contribute(self, replica: Replica, draws: Draws) -> NDArray[np.float64]:
        """Return this hospital's contribution to a round, noise included, float64 ``[d]``.

        Formal guarantee: it is post-processing of what ``draws.noised`` returned, each call of
        which is one event of the noise plan. The replica is left as it was.
        """
        ...

    def apply(self, replica: Replica, opened_sum: NDArray[np.float64], chain: str) -> None:
        """Step the replica on an opened sum, float64 ``[d]``, in gradient units."""
        ...


_BUILDERS: Mapping[str, Callable[[Settings, Terms], SumExchange]] = {
    "gradients": lambda settings, terms: Gradients(terms),
    "weights": LocalSteps,
    # The layers at home are taught as whole models are; the hospital's split end contributes.
    "layers": lambda settings, terms: Gradients(terms),
}


def make_exchange(settings: Settings, terms: Terms, own: OwnTask | None = None) -> SumExchange:
    """Return the hospital's part of the exchange of sums that the settings name.

    Raises:
        ModelError: it is of an app's own loop, and the app has none; or the other way round.
    """
    check_loop(settings, own)
    if own is not None and own.loop is not None:
        return OwnLoop(terms, own.loop)
    return _BUILDERS[settings.exchange.name](settings, terms)
