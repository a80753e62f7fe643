"""What a site's book adds up to against one observer, by two ways that hold against adaptivity.

A site goes on while `least_total` is at most its limit. It is the lesser of two totals:

(a) `filtered_total`: a Renyi filter over every event. Nothing need be fixed beforehand, but RDP is
    loose where sampling is rare and noise is small: it may count thrice the truth.
(b) `declared_total`: a training whose places and event were fixed before it released anything is
    one mechanism, however its inputs are chosen: its privacy loss is dominated by that of all its
    permitted places (spare attempts included), composed exactly as privacy random variables. To
    stop early is to show less. Trainings add up by basic composition, epsilon and delta each, which
    stays valid if a later training's parameters are chosen after seeing what earlier ones released
    (Rogers et al. 2016, Privacy odometers and filters: adding up is a filter) and if trainings
    take turns (Vadhan and Zhang 2023; Haney et al. 2023: concurrent composition). Whatever belongs
    to no such training goes through a Renyi filter of its own, once for all.

Why the lesser may be taken: each way has its own share of delta, fixed beforehand. On the outcomes
where (a) ends within the limit, the process is one that (a) never stopped, hence their probability
under two neighbours differs by e^limit and (a)'s share at most; likewise (b) on the others; and
the shares add up. For the same reason all that (b) depends on is fixed before it matters: which
class a training belongs to is decided, and its share of delta given, at its first spending. If
a training exceeds what was declared, (b) holds no longer, for good.

The grids' slack is charged to both: epsilons are added, deltas have a share of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from accounting.accountants import epsilon as epsilon_of
from accounting.against import Against, multiplier_of
from accounting.errors import AccountingError
from accounting.events import Event, ExactEvent, FreeEvent
from accounting.renyi_filter import RenyiFilter
from accounting.spending import DeclaredPlan, Slack, Spending

#: Shares of delta: everything by (a); by (b), all declared trainings together and what is in
#: none; the grids' slack. They add up to 1.
_FILTERED, _DECLARED, _UNDECLARED, _SLACK = 0.25, 0.65, 0.05, 0.05

#: A training's slack is charged at this part of the site's delta, so that many trainings fit in
#: the share: it costs epsilon a little, for delta' stands in a logarithm there.
SLACK_PART = 1 / 32

#: Version of `composed_epsilon`: what it found under another one is not taken for its own.
COMPOSED_BY = 1
Composed = Callable[[Event, float], float]

# Where lines say nothing: ten times what a grid is planned for, which covers limits of up to 20
# more epsilon than its plan; and a hundredth of the delta it is charged at.
_UNKNOWN_EPSILON, _UNKNOWN_DELTA = 1e-2, 1e-2


def least_total(
    spendings: Sequence[Spending],
    plans: Mapping[str, DeclaredPlan],
    *,
    against: Against,
    delta: float,
    limit: float,
    composed: Composed | None = None,
) -> float:
    """Epsilon that a site is within, against an observer; (b) is computed only where (a) fails.

    Guarantee: a site that spends only while this is at most `limit` stays (limit, delta)-private
    for neighbours that differ by one patient of the site, against that observer, whatever the
    parameters of later trainings depended on.

    Args:
        spendings: everything, what is about to be spent included.
        plans: what trainings were bound to before they spent (`Account.plans`).
        against: the observer.
        delta: of the limit.
        limit: the epsilon to be kept; some orders depend on it, so it is fixed beforehand.
        composed: `composed_epsilon`, or who remembers what it found.
    """
    filtered = filtered_total(spendings, against=against, delta=delta, limit=limit)
    if filtered <= limit:
        return filtered
    declared = declared_total(
        spendings, plans, against=against, delta=delta, limit=limit, composed=composed
    )
    return min(filtered, declared)


def filtered_total(
    spendings: Sequence[Spending], *, against: Against, delta: float, limit: float
) -> float:
    """Way (a): one Renyi filter over all events, at its share of delta."""
    added = _slack_epsilon(spendings, delta)
    events = [_faced(one, against) for one in spendings]
    return added + _filter(delta * _FILTERED, limit).epsilon(events)


def declared_total(
    spendings: Sequence[Spending],
    plans: Mapping[str, DeclaredPlan],
    *,
    against: Against,
    delta: float,
    limit: float,
    composed: Composed | None = None,
) -> float:
    """Way (b): each declared training whole, the others by a filter; inf where it does not hold.

    A declared training counts for all its places from its first spending on, and for ever.
    """
    total = _slack_epsilon(spendings, delta)
    declared: dict[str, list[Spending]] = {}
    others = []
    for one in spendings:
        if one.charged or one.training not in plans:
            others.append(_faced(one, against))
        else:
            declared.setdefault(one.training, []).append(one)
    for number, (training, own) in enumerate(declared.items(), start=1):
        plan = plans[training]
        if not _covers(plan, own):
            return math.inf
        whole = _faced(own[0].counted(plan.whole.count), against)
        # 1/(1*2) + 1/(2*3) + 1/(3*4) + ... = 1
        total += (composed or composed_epsilon)(whole, delta * _DECLARED / (number * (number + 1)))
    return total + _filter(delta * _UNDECLARED, limit).epsilon(others)


def _filter(delta: float, limit: float) -> RenyiFilter:
    """Orders that suit Gaussian noise at this limit, and a few low ones for rare sampling."""
    near, broad = RenyiFilter.planned(0.9 * delta, limit), RenyiFilter.planned(0.1 * delta)
    return RenyiFilter(orders=near.orders + broad.orders, deltas=near.deltas + broad.deltas)


def _covers(plan: DeclaredPlan, own: Sequence[Spending]) -> bool:
    """Whether a training spent nothing but the declared mechanism, seen alike, and no more of it.

    Slack and the word for what was released may differ between lines.
    """
    first, mechanism = own[0], replace(plan.event, count=1)
    alike = all(
        replace(one.event, count=1) == mechanism and one.views == first.views for one in own
    )
    return alike and sum(one.event.count for one in own) <= plan.whole.count


def _faced(spending: Spending, against: Against) -> Event:
    """The event with what is left of its noise for an observer."""
    event = spending.event
    if isinstance(event, ExactEvent | FreeEvent):
        return event
    multiplier = multiplier_of(
        event.noise_multiplier,
        against,
        views=dict(spending.views),
        purpose=spending.purpose,
    )
    if multiplier is None:
        return ExactEvent(count=event.count)
    return replace(event, noise_multiplier=multiplier)


@lru_cache(maxsize=256)
def composed_epsilon(whole: Event, delta: float) -> float:
    """Epsilon at `delta` of all places of a training together, composed exactly where it can be."""
    try:
        return epsilon_of([whole], delta, "prv")
    except AccountingError:  # too much for a mesh, and for most limits
        return epsilon_of([whole], delta, "rdp")


def _slack_epsilon(spendings: Sequence[Spending], delta: float) -> float:
    """What all trainings' grids add to epsilon; inf where their share of delta is used up."""
    unknown = Slack(_UNKNOWN_EPSILON, _UNKNOWN_DELTA * SLACK_PART * delta)
    largest: dict[str, Slack] = {}
    for one in spendings:
        if isinstance(one.event, ExactEvent | FreeEvent):
            continue
        slack, known = one.slack or unknown, largest.get(one.training, Slack(0.0, 0.0))
        largest[one.training] = Slack(
            max(slack.epsilon, known.epsilon), max(slack.delta, known.delta)
        )
    if math.fsum(slack.delta for slack in largest.values()) > _SLACK * delta:
        return math.inf
    return math.fsum(slack.epsilon for slack in largest.values())
