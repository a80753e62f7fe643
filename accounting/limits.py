"""A hospital's own limits, which beat whatever the server asks for.

limits = SiteLimits(max_epsilon=2.0, delta=1e-5, min_hospitals=3)
with book.hold():
    limits.check(request, book)        # raises LimitRefused by name
    book.spend(...)                    # and only then is data touched
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from accounting.against import HOSPITAL, Against, multiplier_of
from accounting.errors import AccountingError, LimitRefused
from accounting.events import Event, ExactEvent, check_delta
from accounting.ledger import Account
from accounting.spending import DeclaredPlan, Slack, Spending, views_tuple
from accounting.vocabulary import REGIMES

if TYPE_CHECKING:
    from accounting.grid import GridPlan
    from accounting.totals import Composed


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRequest:
    """What a round asks of a hospital, in the terms that limits are stated in.

    Attributes:
        regime: "C", "CDP", "F", "FPDP" or "FSCDP".
        event: what the round costs (or, asked once before a run, all its rounds, so that it is
            refused before it starts); None: no noise, so no finite epsilon.
        hospitals: the hospitals whose noise the claim rests on at least (K - d - c).
        delta: the delta that the run claims its epsilon at; None: it claims none.
        noise_multiplier: sigma of the claim; 0: no noise.
        training: the training's id; "": not told, and then no declared plan covers it.
        purpose: the word that the line will have.
        views: noise multiplier that each observer has to face (`against.views_of_spend`), as the
            line will have them.
        rounds: rounds that it covers.
        slack: what the training's grid charges, as the line will have it.
        held: other hospitals that may work with the server and learn sums alone.
        plan: what the training was bound to, as the caller sees it. It must be what the book says
            (`Account.plans`), or the request is not covered by it; None: the book's is taken.
    """

    regime: str
    event: Event | None
    hospitals: int
    noise_multiplier: float
    delta: float | None = None
    training: str = ""
    purpose: str = ""
    views: Mapping[str, float | None] = field(default_factory=dict)
    rounds: int = 1
    slack: Slack | None = None
    held: int = 0
    plan: DeclaredPlan | None = None

    @property
    def spending(self) -> Spending:
        """What the line will add to the book."""
        return Spending(
            training=self.training,
            purpose=self.purpose,
            event=ExactEvent() if self.event is None else self.event,
            views=views_tuple(self.views),
            slack=self.slack,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """The site's limits; a limit left at None (or 0 for a minimum) does not bind.

    Attributes:
        max_epsilon: of everything in the site's book, all trainings together, at `delta`, as
            `against` can know it. It holds against adaptive servers.
        delta: for `max_epsilon`, and the largest delta a run may claim.
        min_noise_multiplier: smallest sigma of a round.
        min_hospitals: fewest honest hospitals a claim may rest on.
        min_colluders: fewest other hospitals that must be able to work with the server without
            more coming of it than sums: the scheme's number, whatever the run plans for.
        allowed_regimes: regimes the site takes part in; None: all.
        against: the strongest observer that the site reckons with, for `max_epsilon`.
    """

    max_epsilon: float | None = None
    delta: float | None = None
    min_noise_multiplier: float = 0.0
    min_hospitals: int = 0
    min_colluders: int = 0
    allowed_regimes: tuple[str, ...] | None = None
    against: Against = HOSPITAL

    def __post_init__(self) -> None:
        if self.delta is not None:
            check_delta(self.delta)
        if self.max_epsilon is not None:
            if not (self.max_epsilon > 0.0 and math.isfinite(self.max_epsilon)):
                raise AccountingError(f"max_epsilon is {self.max_epsilon}, expected > 0")
            if self.delta is None:
                raise AccountingError("max_epsilon is set without delta: an epsilon needs one")
        if not (self.min_noise_multiplier >= 0.0 and math.isfinite(self.min_noise_multiplier)):
            # A number that is none compares false with everything, and so would forbid nothing.
            raise AccountingError(
                f"min_noise_multiplier is {self.min_noise_multiplier}, expected >= 0 and finite"
            )
        unknown = set(self.allowed_regimes or ()) - set(REGIMES)
        if unknown:
            raise AccountingError(
                f"allowed_regimes has {', '.join(sorted(unknown))}, known: {', '.join(REGIMES)}"
            )

    def violations(self, request: SpendRequest, ledger: Account) -> list[LimitRefused]:
        """Every limit that the request would break, by name; empty: it may go on.

        Guarantee: a site that spends only when this is empty keeps everything it ever released
        within (max_epsilon, delta) for neighbours that differ by one patient of the site, against
        `against`, whatever servers choose after seeing earlier results (`accounting.totals`).
        """
        found = []
        if self.allowed_regimes is not None and request.regime not in self.allowed_regimes:
            allowed = ", ".join(self.allowed_regimes)
            found.append(LimitRefused("allowed-regimes", request.regime, allowed))
        if request.hospitals < self.min_hospitals:
            found.append(LimitRefused("min-hospitals", request.hospitals, self.min_hospitals))
        if request.held < self.min_colluders:
            found.append(LimitRefused("min-colluders", request.held, self.min_colluders))
        if request.noise_multiplier < self.min_noise_multiplier:
            found.append(
                LimitRefused(
                    "min-noise-multiplier", request.noise_multiplier, self.min_noise_multiplier
                )
            )
        if self.delta is not None and request.delta is not None and request.delta > self.delta:
            found.append(LimitRefused("delta", request.delta, self.delta))
        if self.max_epsilon is not None and self.delta is not None:
            spent = self.would_be(ledger, request)
            if not spent <= self.max_epsilon:
                found.append(
                    LimitRefused(
                        "max-epsilon",
                        self._unbounded(ledger) or f"{spent:.4g}",
                        f"{self.max_epsilon:g} against {self.against.title}",
                    )
                )
        return found

    def check(self, request: SpendRequest, ledger: Account) -> None:
        """Raise the first of `violations`, if there is any.

        Raises:
            LimitRefused: names the limit, what was found and what the site allows.
        """
        for refused in self.violations(request, ledger):
            raise refused

    def would_be(self, ledger: Account, request: SpendRequest | None = None) -> float:
        """What counts for `max_epsilon`, of everything spent and of a request as well.

        Raises:
            AccountingError: the site sets no `max_epsilon`.
        """
        with ledger.hold():
            spendings, plans = ledger.spendings(), dict(ledger.plans())
            if request is not None:
                spendings = (*spendings, request.spending)
                _declare(plans, request, ledger)
            return self.counted(spendings, plans, composed=ledger.composed)

    def counted(
        self,
        spendings: Sequence[Spending],
        plans: Mapping[str, DeclaredPlan],
        *,
        composed: Composed | None = None,
    ) -> float:
        """What spendings count for `max_epsilon`, those of declared trainings by their plans.

        Raises:
            AccountingError: the site sets no `max_epsilon`.
        """
        from accounting.totals import least_total

        if self.max_epsilon is None or self.delta is None:
            raise AccountingError("max_epsilon is not set, so nothing is counted for it")
        return least_total(
            spendings,
            plans,
            against=self.against,
            delta=self.delta,
            limit=self.max_epsilon,
            composed=composed,
        )

    def slack_of(self, grid: GridPlan, colluders: int = 0) -> Slack:
        """What a training's grid charges a site with these limits, for the lines of the training.

        It is computed for an observer who is within the limits, and sees sums: the dearest.

        Args:
            grid: of the training.
            colluders: that it was planned for.
        """
        from accounting.totals import SLACK_PART

        if self.max_epsilon is None or self.delta is None:
            return Slack(0.0, 0.0)
        unplanned = max(0, self.against.hospitals - max(1, colluders))
        delta = self.delta * SLACK_PART
        return Slack(*grid.slack_at(self.max_epsilon, delta, unplanned=unplanned))

    def _unbounded(self, ledger: Account) -> str:
        """What to say where lines of the book leave out what a bound would need; else ""."""
        silent = {
            one.training
            for one in ledger.spendings()
            if not isinstance(one.event, ExactEvent)
            and "server" not in dict(one.views)
            and multiplier_of(1.0, self.against, views={}, purpose=one.purpose) is None
        }
        if not silent:
            return ""
        return (
            f"no bound (entries of {len(silent)} earlier trainings do not say how noise was shared "
            "out; lower [limits] against by hand, or begin a new cohort)"
        )


def _declare(plans: dict[str, DeclaredPlan], request: SpendRequest, ledger: Account) -> None:
    """Add the plan of a training that is about to spend for the first time."""
    if request.training not in plans:
        places = ledger.places(request.training, request.rounds)
        if not places or request.event is None:
            return
        plans[request.training] = DeclaredPlan(event=request.event, places=places)
    declared = plans[request.training]
    if request.plan is not None and request.plan.whole != declared.whole:
        plans[request.training] = replace(declared, places=0)  # it covers nothing
