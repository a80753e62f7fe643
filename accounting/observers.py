"""Who could learn what: a row for every observer of a run, with its epsilon or the reason for none.

One epsilon is not enough: the server sees noisy sums, another hospital knows its own share of
the noise in them, and the server together with a hospital that holds the key sees single updates
with a K_min-th of the noise variance. Each gets its own number, over the whole run.

    rows = observers(RunDescription(regime="FSCDP", hospitals=10, sampling_rate=0.034,
                                    noise_multiplier=1.15, rounds=3001, delta=1e-4))

Threat model: hospitals are honest, the server is honest but curious. Reply times are not covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from accounting.accountants import ACCOUNTANTS, find_accountant
from accounting.errors import AccountingError
from accounting.events import Event, GaussianEvent, SharedPatientEvent
from accounting.grid import GridPlan
from accounting.runs import RunDescription
from accounting.views import View, views_of

__all__ = ["ObserverRow", "RunDescription", "epsilon_on_grid", "observers"]

SEEDED = "seeded: repeatable, no guarantee"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserverRow:
    """One observer of a run.

    Attributes:
        observer: who.
        epsilon: by accountant, at `delta`, the grid's slack charged; None: no guarantee.
        delta: of the claim.
        binds_target: whether the run's `target-epsilon` is a promise about this observer.
        why: what the observer sees, and why the epsilon is what it is.
        guaranteed: False where epsilon is only what an unseeded run would have.
        rests_on: "noise": holds whatever the observer computes; "noise and encryption": against who
            cannot break the encryption of what it holds, now or later; "": no guarantee.
    """

    observer: str
    epsilon: dict[str, float] | None
    delta: float
    binds_target: bool
    why: str
    guaranteed: bool = True
    rests_on: str = ""

    def to_json(self) -> dict[str, object]:
        """The row, JSON-ready."""
        return asdict(self)


def observers(
    run: RunDescription, accountants: Sequence[str] = tuple(ACCOUNTANTS)
) -> list[ObserverRow]:
    """The observer table of a run.

    Guarantee: each row's epsilon bounds what that observer's whole view tells about one patient at
    one hospital (add or remove; in the rows "a patient in m hospitals", at all of these), over all
    rounds, if the run kept to its description. A row with epsilon None carries no guarantee.

    Args:
        run: the description.
        accountants: names in `ACCOUNTANTS`; "prv" takes up to a second.

    Source: Malekzadeh et al. 2021, section 4.3, for the regimes; the accountants' own for epsilon.
    """
    for name in accountants:
        find_accountant(name)
    return [_row(run, view, accountants) for view in views_of(run)]


def epsilon_on_grid(
    events: Sequence[Event],
    delta: float,
    accountant: str,
    grid: GridPlan | None,
    *,
    single_update: bool = False,
    unplanned: int = 0,
) -> float:
    """Epsilon at `delta` with the grid's slack charged.

    Guarantee: as the accountant's, for values rounded to `grid` instead of real ones.

    Raises:
        AccountingError: at this epsilon, rounding alone costs more than half of delta.
    """
    compute = find_accountant(accountant)
    result = compute(events, delta)
    if grid is None or not math.isfinite(result):
        return result
    for _ in range(4):
        assumed = result * 1.001 + 1e-6  # the slack is paid at an epsilon no smaller than the truth
        drift, charged = grid.slack_at(
            assumed, delta, single_update=single_update, unplanned=unplanned
        )
        if charged > delta / 2:
            raise AccountingError(
                f"at epsilon {result:.4g} rounding to the grid costs delta {charged:.2g}, "
                f"expected less than half of {delta:g}: plan a finer grid"
            )
        result = compute(events, delta - charged)
        if result <= assumed:
            return result + drift
    raise AccountingError(f"epsilon {result:.4g} and the slack of rounding do not settle")


def _row(run: RunDescription, view: View, accountants: Sequence[str]) -> ObserverRow:
    notes = [SEEDED] if run.seeded else []
    notes.append(view.why)
    values: dict[str, float] = {}
    if view.multiplier is not None:
        for name in accountants:
            try:
                values[name] = _largest(run, view, name)
            except AccountingError as error:
                notes.append(str(error))
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    return ObserverRow(
        observer=view.observer,
        epsilon=values or None,
        delta=run.delta,
        binds_target=view.binds,
        why="; ".join(notes),
        guaranteed=bool(values) and not run.seeded,
        rests_on=("noise and encryption" if view.sealed else "noise") if values else "",
    )


def _largest(run: RunDescription, view: View, accountant: str) -> float:
    """Epsilon of the hospital whose patients pay most."""
    assert view.multiplier is not None
    found = []
    for sampling_rate, rounds in dict.fromkeys(run.releases):
        count = rounds * view.repeats
        event: Event
        if view.shared > 1:
            event = SharedPatientEvent(
                sampling_rate=sampling_rate,
                noise_multiplier=view.multiplier,
                hospitals=view.shared,
                count=count,
            )
        else:
            event = GaussianEvent(
                sampling_rate=sampling_rate, noise_multiplier=view.multiplier, count=count
            )
        found.append(
            epsilon_on_grid(
                [event],
                run.delta,
                accountant,
                run.grid,
                single_update=view.single,
                # A grid is planned for sums from which one hospital, or the colluders, are off.
                unplanned=max(0, view.knows - max(1, run.colluders)),
            )
        )
    return max(found)
