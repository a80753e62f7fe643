"""The run's privacy budget at the server: calibrated once, spent before each attempt.

Hospitals keep their own ledgers and limits; this one makes the run stop *before* the attempt that
would exceed what was promised, retries included.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accounting.accountants import ACCOUNTANTS, epsilon
from accounting.calibration import noise_multiplier_for
from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from accounting.grid import DELTA_SLACK, EPSILON_SLACK
from accounting.ledger import Ledger
from accounting.prv import epsilon_on_the_way
from clients.contract.schedule import permitted_events, schedule_of
from clients.contract.terms import noise_plan
from strategies.errors import BudgetExhausted, TrainingStopped

if TYPE_CHECKING:
    from accounting.events import Event
    from clients.contract.settings import Settings


#: Training, round, attempt, and for whom it was paid.
_Attempt = tuple[str, int, int, str]


def calibrated_multiplier(settings: Settings) -> float:
    """Return sigma as the settings give it, or the least that keeps to their target epsilon."""
    privacy, rate = settings.privacy, schedule_of(settings).sampling_rate
    return privacy.noise_multiplier or noise_multiplier_for(
        target_epsilon=privacy.target_epsilon,
        delta=privacy.delta,
        sampling_rate=rate,
        rounds=permitted_events(settings),
        accountant=privacy.accountant,
    )


class Budget:
    """What one run may cost, and has cost.

    Attributes:
        noise_multiplier: sigma, given or calibrated; 0 where the regime adds no noise.
        delta: the part of the promised delta that events may use; quantisation has the rest.
    """

    def __init__(
        self, settings: Settings, path: Path, *, noise_multiplier: float | None = None
    ) -> None:
        self._settings = settings
        privacy = settings.privacy
        self._permitted, self._accountant = permitted_events(settings), privacy.accountant
        self.delta = privacy.delta * (1.0 - DELTA_SLACK)
        self.noise_multiplier = noise_multiplier or 0.0
        if settings.regime.private and not noise_multiplier:
            self.noise_multiplier = calibrated_multiplier(settings)
        plan = noise_plan(settings, self.noise_multiplier)
        self._event = plan.event(schedule_of(settings).sampling_rate)
        self._ledger = Ledger(path, site="server", cohort=settings.data.name, durable=True)
        self._paid: dict[_Attempt, Event] = {
            (e.training, e.round, e.attempt, e.purpose): e.event for e in self._ledger.entries()
        }

    @property
    def spent(self) -> int:
        """Noised messages about one patient paid for so far, over all runs of this training.

        The largest count over hospitals, where these are asked in turn. Attempts at one round of a
        seeded run repeat the very same noise over the very same sample and count once.
        """
        return max(self._counts().values(), default=0)

    def spend(
        self, *, training: str, round: int, attempt: int, events: int = 1, hospital: str = ""
    ) -> None:
        """Record an attempt before anything is asked of a hospital.

        Args:
            training: id of the training.
            round: of the training, or the number of a visit.
            attempt: of the round.
            events: noised messages about one patient that the attempt costs.
            hospital: the one asked, where hospitals are asked one by one; else "".

        Raises:
            BudgetExhausted: the attempt would exceed the target; nothing was recorded.
            TrainingStopped: it was paid for at another price, by a training of the same id.
        """
        if self._event is None or events == 0:
            return
        self.require(
            training=training, round=round, attempt=attempt, events=events, hospital=hospital
        )
        place = (training, round, attempt, _purpose(hospital))
        event = replace(self._event, count=events)
        if (paid := self._paid.get(place)) is not None:
            if paid != event:
                raise TrainingStopped(
                    f"round {round}, attempt {attempt} of training {training} was paid for before, "
                    f"as {paid}, and would now be {event}: this run folder's ledger is of another "
                    "training of the same id; take another run.out, or another run.training-id"
                )
            return  # a server that ended then had paid for it, and noted nothing else
        self._ledger.spend(
            event,
            training=training,
            round=round,
            attempt=attempt,
            purpose=place[3],
        )
        self._paid[place] = event

    def require(
        self, *, training: str, round: int, attempt: int, events: int = 1, hospital: str = ""
    ) -> None:
        """Insist that an attempt would stay within the target; arguments as for `spend`.

        Raises:
            BudgetExhausted: it would not.
        """
        if self._event is None or events == 0:
            return
        target, purpose = self._settings.privacy.target_epsilon, _purpose(hospital)
        count = self._counts({(training, round, attempt, purpose): events}).get(purpose, 0)
        if target and count > self._permitted and self.epsilon(count) > target:
            raise BudgetExhausted(
                f"round {round}, attempt {attempt} would cost epsilon {self.epsilon(count):.3f}, "
                f"beyond privacy.target-epsilon = {target:g}; stopped before it"
            )

    def _counts(self, more: Mapping[_Attempt, int] | None = None) -> dict[str, int]:
        """Return how much was paid for each purpose, or would be with more attempts."""
        counts: dict[str, int] = {}
        seen: set[tuple[str, int, str]] = set()
        paid = {place: getattr(event, "count", 1) for place, event in self._paid.items()}
        for (training, round, _, purpose), events in {**paid, **(more or {})}.items():
            if self._settings.seeded and (training, round, purpose) in seen:
                continue
            seen.add((training, round, purpose))
            counts[purpose] = counts.get(purpose, 0) + events
        return counts

    def epsilon(self, rounds: int | None = None, accountant: str = "") -> float:
        """Return epsilon at the run's delta after so many noised messages, or those spent."""
        rounds = self.spent if rounds is None else rounds
        if self._event is None or rounds == 0:
            return 0.0
        event, name = replace(self._event, count=rounds), accountant or self._accountant
        if name == "prv" and isinstance(event, GaussianEvent):
            # Each release says it: one mesh for all that is permitted, not one for each count.
            found = epsilon_on_the_way(event, self._permitted, self.delta)
        else:
            found = epsilon([event], self.delta, name)
        return found + self._slack(found)

    def epsilons(self) -> dict[str, float]:
        """Return what was spent by every accountant that can tell; prv has no large epsilons."""
        found = {}
        for name in ACCOUNTANTS:
            with suppress(AccountingError):
                found[name] = self.epsilon(accountant=name)
        return found

    @staticmethod
    def _slack(epsilon: float) -> float:
        """Return the most that rounding to the planned grid adds to an epsilon."""
        return EPSILON_SLACK * min(epsilon, 1.0)

    def entries(self) -> list[dict[str, object]]:
        """Return the ledger as JSON-ready rows."""
        return [entry.to_json() for entry in self._ledger.entries()]

    def close(self) -> None:
        """Release the ledger's file."""
        self._ledger.close()


def _purpose(hospital: str) -> str:
    return f"visit {hospital}" if hospital else "round"
