"""What an audit lets each observer see, and what is claimed against that.

`accounting.views` says what noise a claim rests on. An audit needs what is really before an
observer's eyes: which vectors, whose noise may be subtracted from them, and how much is then left.
That is never less than the claim rests on, and more where surplus noise is not credited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accounting.audit_scores import Sampled
from accounting.events import GaussianEvent, SharedPatientEvent
from accounting.observers import ObserverRow, observers
from accounting.runs import RunDescription
from accounting.views import View, views_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is seen of one canary.

    Attributes:
        single: single updates are seen; else opened sums.
        knows: other hospitals in a sum whose updates are subtracted from it.
        hospitals: m, for a canary who is a patient of so many hospitals.
        apart: these m are seen one by one, not in one sum.
        draws: of noise that is left, each rounded to the grid.
        event: with the noise that is left, and as often as it is seen.
        claimed_noise: of the claim, in the same units; `event` has at least that.
    """

    single: bool
    knows: int
    hospitals: int
    apart: bool
    draws: int
    event: Sampled
    claimed_noise: float


def sights_of(run: RunDescription, *, steps: int = 1) -> dict[Sight, list[ObserverRow]]:
    """What the observers of a run see who have a guarantee, each sight with those who have it.

    Args:
        run: as its observer table is made from; without releases there is nothing to see.
        steps: noised steps that add up to one update.
    """
    found: dict[Sight, list[ObserverRow]] = {}
    for view, row in zip(views_of(run), observers(run), strict=True):
        if view.multiplier is not None and row.epsilon:
            found.setdefault(_sight(run, view, steps), []).append(row)
    return found


def contributions_of(run: RunDescription) -> int:
    """How many hospitals an audit needs: those that are in a sum at the least, K - d.

    Of groups it looks at one: no other's sum tells of its patients.
    Of noise in parts all K: with nobody missing most of it is taken out of a sum.
    """
    if run.pooled or run.plan().parts is not None:
        return run.in_sum
    return run.in_sum - run.dropouts


def _sight(run: RunDescription, view: View, steps: int) -> Sight:
    assert view.multiplier is not None
    left = 1 if view.single else max(1, contributions_of(run) - view.knows)
    kept = run.plan().kept(run.in_sum - contributions_of(run))
    noise = kept * math.sqrt(left * steps)
    rate, rounds = max(run.releases, key=lambda one: one[0] * math.sqrt(one[1]))
    together = view.shared * steps
    count = rounds // steps * view.repeats
    event: Sampled
    if together > 1:
        event = SharedPatientEvent(
            sampling_rate=rate, noise_multiplier=noise, hospitals=together, count=count
        )
    else:
        event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=count)
    return Sight(
        single=view.single,
        knows=min(view.knows, contributions_of(run) - 1),
        hospitals=max(view.shared, view.repeats),
        apart=view.repeats > 1,
        draws=left * steps,
        event=event,
        claimed_noise=view.multiplier * math.sqrt(steps),
    )
