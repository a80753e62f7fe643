"""How often a training asks about a patient: public numbers that noise and accounts start from.

The setting ``training.rounds`` means the same everywhere: noised steps at a patient's own hospital.
Exchanges differ in how these steps are packed into messages, and `layers` in what a step costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounting.vocabulary import EXCHANGES

if TYPE_CHECKING:
    from clients.contract.setting_tree import SettingTree

#: Attempts beyond one for each place where nobody has planned for any, over all places together.
_SPARE = 2
#: Noised messages about a record in one step of `layers`: its activation, the loss gradient at the
#: head, and its share in the sum that teaches the layers at home.
LAYER_MESSAGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often a patient's records enter what leaves a hospital.

    Attributes:
        sampling_rate: chance that a patient is in one noised message; 1 where a public schedule,
            not chance, decides.
        events: noised messages about one patient in a run without retries.
        batches: fixed batches that a hospital's patients are dealt to; 0 where they are drawn.
    """

    sampling_rate: float
    events: int
    batches: int = 0


def schedule_of(settings: SettingTree) -> Schedule:
    """Return the schedule of a run; only settings enter."""
    training, name = settings.training, settings.exchange.name
    if name == "weights":
        steps = training.rounds * settings.exchange.local_steps
        return Schedule(sampling_rate=training.sampling_rate, events=steps)
    if name == "layers":
        batches = math.ceil(1.0 / training.sampling_rate)
        releases = math.ceil(training.rounds / batches)
        return Schedule(sampling_rate=1.0, events=LAYER_MESSAGES * releases, batches=batches)
    return Schedule(sampling_rate=training.sampling_rate, events=training.rounds)


def last_place(settings: SettingTree) -> int:
    """Return the last round, or the last visit of all, that there can be."""
    if visits := visits_of(settings):
        return visits * (1 if settings.regime.pooled else settings.partition.hospitals)
    return settings.training.rounds


def visits_of(settings: SettingTree) -> int:
    """Return how often a model visits each hospital; 0 where hospitals contribute to sums."""
    return cycles_of(settings) if EXCHANGES[settings.exchange.name].travels else 0


def spare_attempts(settings: SettingTree) -> int:
    """Return how many attempts beyond one for each place a hospital may be asked for in all.

    With a target the noise is planned for no more than was asked for, so a retry may end the run
    before its last round; ``privacy.spare-attempts`` plans for some. The server's patience with one
    round, ``run.attempts``, does not enter: hospitals are bound to this number, and patience may
    change when a run goes on.
    """
    if settings.privacy.spare_attempts >= 0:
        return settings.privacy.spare_attempts
    if settings.regime.private and settings.privacy.target_epsilon:
        return 0
    return _SPARE * (visits_of(settings) or settings.training.rounds)


def permitted_events(settings: SettingTree) -> int:
    """Return the noised messages about one patient that hospitals let out at most, retries too.

    Noise is calibrated for so many where there is a target, and the grid charges for all of them.
    """
    return schedule_of(settings).events + spare_attempts(settings) * _events_of_spare(settings)


def _events_of_spare(settings: SettingTree) -> int:
    """Return the most that one attempt beyond the first may cost."""
    name = settings.exchange.name
    if name == "layers":
        return LAYER_MESSAGES
    if name == "weights":
        return settings.exchange.local_steps
    return steps_of_visit(settings, 1) if EXCHANGES[name].travels else 1


def failures_allowed(settings: SettingTree) -> int:
    """Return how many sums may fail to open at a hospital before it ends its part for good.

    A hospital that cannot be left out needs no more than its own retries; a search for one that
    spoils sums costs an honest hospital about four.
    """
    return 6 if settings.privacy.dropouts else 3


def events_of_attempt(settings: SettingTree, round: int, attempt: int) -> int:
    """Return the noised messages about one patient that an attempt at a round of sums costs.

    A patient is in one batch of a pass of `layers`, so a pass is paid for with its first round; a
    retry shows a batch once more and is paid for by itself.
    """
    name = settings.exchange.name
    if name == "weights":
        return settings.exchange.local_steps
    if name == "layers":
        first = (round - 1) % schedule_of(settings).batches == 0
        return LAYER_MESSAGES if first or attempt > 1 else 0
    return 1


def steps_of_visit(settings: SettingTree, cycle: int) -> int:
    """Return the steps of one visit in a cycle, from 1; all visits to a hospital add up to T."""
    cycles = cycles_of(settings)
    rounds = settings.training.rounds
    return rounds // cycles + (1 if cycle <= rounds % cycles else 0)


def cycles_of(settings: SettingTree) -> int:
    """Return how often each hospital is visited."""
    return settings.exchange.cycles if settings.exchange.name == "cyclic" else 1
