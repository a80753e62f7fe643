"""A run as its observers see it, from its settings and what was spent: public numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounting.runs import RunDescription
from clients.contract.schedule import LAYER_MESSAGES
from clients.contract.terms import held_hospitals, hospitals_expected

if TYPE_CHECKING:
    from accounting.grid import GridPlan
    from clients.contract.settings import Settings


def describe_run(
    settings: Settings, *, noise_multiplier: float, spent: int, grid: GridPlan | None
) -> RunDescription:
    """Return a run as its observer table is made from it.

    Args:
        settings: the run's.
        noise_multiplier: sigma.
        spent: noised messages about one patient.
        grid: of the terms; None where none were agreed on.
    """
    privacy = settings.privacy
    # What the server counts are messages; an account of layers starts from passes.
    messages = LAYER_MESSAGES if settings.exchange.name == "layers" else 1
    return RunDescription(
        regime=privacy.regime,
        exchange=settings.exchange.name,
        scheme=settings.sealing.scheme,
        hospitals=hospitals_expected(settings),
        dropouts=privacy.dropouts,
        colluders=privacy.colluders,
        sampling_rate=settings.training.sampling_rate,
        noise_multiplier=noise_multiplier,
        rounds=spent // messages,
        messages=messages,
        delta=privacy.delta,
        seeded=settings.seeded,
        grid=grid if settings.regime.private else None,
        held=held_hospitals(settings),
        group=settings.exchange.group_size,
    )
