"""How large an audit is: decided from the run's public numbers before anything is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounting.audit_sights import Sight, contributions_of
from accounting.vocabulary import EXCHANGES
from clients.audit.canaries import sizes_of
from clients.contract.schedule import permitted_events, schedule_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounting.runs import RunDescription
    from clients.contract.settings import Settings

#: Canaries of one hospital at the most, and at the least, where nobody says otherwise.
MOST, LEAST = 50_000, 500
#: Noised values that an audit draws: somewhat more than a second of a processor.
VALUES = 20_000_000
#: What a part of the noise that can be taken out of a sum costs beside the noise of one vector: it
#: is drawn twice, and each time in a way that gives the same bits everywhere.
PART_COST = 0.75
#: Values of the longest vector of noise, at the least and at the most; between them, the model's.
SHORTEST, LONGEST = 1 << 17, 1 << 20
#: Vectors that are sealed; in the rounds between, the same vectors are added as they are.
SEALED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """What an audit does.

    Attributes:
        rounds: in which canaries may be sampled.
        steps: noised steps that add up to one update of a round.
        hospitals: that answer in a round; the first has the canaries.
        canaries: how many there are, by the number of hospitals that know them.
        sums: whether updates are added up, and sealed in the run's own way.
        sealed_every: every so many rounds they really are.
        sampled: whether patients are sampled in each round; else everybody is in it.
        longest: values of the vector in which noise is looked for that has to do with its place.
    """

    rounds: int
    steps: int
    hospitals: int
    canaries: dict[int, int]
    sums: bool
    sealed_every: int
    sampled: bool
    longest: int = 0

    def seals(self, round: int) -> bool:
        """Whether the updates of a round are sealed, added and opened; the first and last are."""
        return self.sums and ((round - 1) % self.sealed_every == 0 or round == self.rounds)


def plan_audit(settings: Settings, run: RunDescription, sights: Iterable[Sight]) -> AuditPlan:
    """Plan the audit of a run.

    The number of canaries falls with the rounds and hospitals, so that an audit costs about the
    same whatever it audits; `audit.canaries` sets it.
    """
    sights = list(sights)
    kind = EXCHANGES[settings.exchange.name]
    steps = settings.exchange.local_steps if settings.exchange.name == "weights" else 1
    _, releases = max(run.releases, key=lambda one: one[0] * math.sqrt(one[1]))
    shared = sorted({sight.hospitals for sight in sights} - {1})
    hospitals = contributions_of(run)
    # Keys for one sum open the sum of all hospitals and no other.
    if settings.sealing.scheme != "one-time" and all(sight.single for sight in sights):
        # Nobody's sight is a sum: a second hospital shows whether noise is shared.
        hospitals = min(hospitals, max([2, *shared]))
    rounds = releases // steps
    sums = kind.sums
    parts = run.plan().parts
    cost = 1.0 + PART_COST * (len(parts.levels) if parts else 0)
    vectors = max(rounds * steps * hospitals, 1)
    fit = int(VALUES / cost) // (vectors * (4 + len(shared))) * 4
    canaries = settings.audit.canaries or min(max(fit, LEAST), MOST)
    return AuditPlan(
        rounds=rounds,
        steps=steps,
        hospitals=hospitals,
        canaries=sizes_of(canaries, shared),
        sums=sums,
        sealed_every=max(1, -(-rounds * hospitals // SEALED)),
        sampled=not schedule_of(settings).batches,
        longest=_longest(settings, run),
    )


def _longest(settings: Settings, run: RunDescription) -> int:
    """Values of a vector as the run's own, so far as that costs a fraction of a second."""
    own = run.grid.sums / max(permitted_events(settings), 1) if run.grid is not None else 0.0
    return min(max(round(own), SHORTEST), LONGEST)
