"""A hospital's own limits, which beat whatever the server asks for.

limits = SiteLimits(max_epsilon=2.0, delta=1e-5, min_hospitals=3)
with book.hold():
    limits.check(request, book)        # raises LimitRefused by name
    book.spend(...)                    # and only then is data touched
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accounting.errors import AccountingError, LimitRefused
from accounting.events import Event, ExactEvent, check_delta
from accounting.ledger import Account
from accounting.vocabulary import REGIMES


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
    """

    regime: str
    event: Event | None
    hospitals: int
    noise_multiplier: float
    delta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """The site's limits; a limit left at None (or 0 for a minimum) does not bind.

    Attributes:
        max_epsilon: of everything in the site's ledger, all trainings together, at `delta`. It is
            checked by RDP and holds against adaptive servers, so a run whose target is stated by
            "prv" needs about a fifth more than that target.
        delta: for `max_epsilon`, and the largest delta a run may claim.
        min_noise_multiplier: smallest sigma of a round.
        min_hospitals: fewest honest hospitals a claim may rest on.
        allowed_regimes: regimes the site takes part in; None: all.
    """

    max_epsilon: float | None = None
    delta: float | None = None
    min_noise_multiplier: float = 0.0
    min_hospitals: int = 0
    allowed_regimes: tuple[str, ...] | None = None

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
        within (max_epsilon, delta) for neighbours that differ by one patient of the site, whatever
        servers choose after seeing earlier results (`Account.would_be`).
        """
        found = []
        if self.allowed_regimes is not None and request.regime not in self.allowed_regimes:
            allowed = ", ".join(self.allowed_regimes)
            found.append(LimitRefused("allowed-regimes", request.regime, allowed))
        if request.hospitals < self.min_hospitals:
            found.append(LimitRefused("min-hospitals", request.hospitals, self.min_hospitals))
        if request.noise_multiplier < self.min_noise_multiplier:
            found.append(
                LimitRefused(
                    "min-noise-multiplier", request.noise_multiplier, self.min_noise_multiplier
                )
            )
        if self.delta is not None and request.delta is not None and request.delta > self.delta:
            found.append(LimitRefused("delta", request.delta, self.delta))
        if self.max_epsilon is not None and self.delta is not None:
            event = ExactEvent() if request.event is None else request.event
            spent = ledger.would_be(event, self.delta, planned_epsilon=self.max_epsilon)
            if not spent <= self.max_epsilon:
                found.append(LimitRefused("max-epsilon", f"{spent:.4g}", f"{self.max_epsilon:g}"))
        return found

    def check(self, request: SpendRequest, ledger: Account) -> None:
        """Raise the first of `violations`, if there is any.

        Raises:
            LimitRefused: names the limit, what was found and what the site allows.
        """
        for refused in self.violations(request, ledger):
            raise refused
