"""A step size from public numbers alone: none has to be tuned on private data.

Noisy gradient descent of T steps does best with steps of about D / (C * sqrt(T * (1 + r^2))), where
r is how much longer the noise of one mean gradient is than the clip, and D how far the weights have
to go (Bassily, Smith and Thakurta 2014, Theorem 2.4, with its bound on gradients split into signal
and noise). Momentum m makes every step 1 / (1 - m) times as long. `REACH` stands for D: the value
that did best over the scenarios at once, see ``docs/results-data.md``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clients.contract.settings import SettingsError

if TYPE_CHECKING:
    from clients.contract.settings import Settings

#: What a command line may say instead of a number.
AUTO = "auto"
#: How far weights are expected to go from where they begin; features are about 1 in size.
REACH = 8.0


def step_size(
    *,
    patients: float,
    multiplier: float,
    dimensions: int,
    rounds: int,
    l2_clip: float,
    momentum: float,
) -> float:
    """Return the step size for sums of clipped gradients over ``patients``, in units of weights.

    Args:
        patients: q*N, the denominator of the mean gradient.
        multiplier: standard deviation of the whole noise in the sum, in units of the clip.
        dimensions: d, trainable parameters.
        rounds: T.
        l2_clip: C.
        momentum: of sgd.

    >>> round(step_size(patients=91, multiplier=5.14, dimensions=62, rounds=60, l2_clip=0.5,
    ...                 momentum=0.9), 3)
    0.189
    """
    noise = multiplier * math.sqrt(dimensions) / patients
    return REACH * (1.0 - momentum) / (l2_clip * math.sqrt(rounds * (1.0 + noise**2)))


def planned_step_size(settings: Settings) -> float:
    """Return the step size that public numbers of the settings and their cohort give.

    Raises:
        SettingsError: an exchange or optimizer for which the rule does not hold.
    """
    from clients.contract.terms import hospitals_expected, noise_plan
    from clients.data import Cohorts
    from clients.models import build_model
    from strategies.run.budget import calibrated_multiplier

    exchange, training = settings.exchange, settings.training
    if exchange.name != "gradients" or exchange.optimizer != "sgd":
        raise SettingsError(
            [
                f"training.learning-rate = {AUTO} is for exchange gradients with sgd, found "
                f"{exchange.name} with {exchange.optimizer}; give a number."
            ]
        )
    cohort = Cohorts().of(settings)
    module = build_model(settings, cohort.info, settings.public_seed)
    patients = settings.data.patients or cohort.patients
    multiplier = 0.0
    if settings.regime.private:
        plan = noise_plan(settings, calibrated_multiplier(settings))
        contributions = hospitals_expected(settings) - settings.privacy.dropouts
        multiplier = plan.stddev_per_hospital(1.0) * math.sqrt(contributions)
    return step_size(
        patients=training.sampling_rate * patients,
        multiplier=multiplier,
        dimensions=sum(p.numel() for p in module.parameters() if p.requires_grad),
        rounds=training.rounds,
        l2_clip=settings.privacy.l2_clip,
        momentum=training.momentum,
    )
