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
from accounting.events import (
    Event,
    GaussianEvent,
    SharedPatientEvent,
    check_delta,
    check_noise_multiplier,
    check_rounds,
    check_sampling_rate,
)
from accounting.grid import GridPlan
from accounting.noise import REGIME_PLANS, NoisePlan, make_noise_plan

SUMMED = ("gradients", "weights")  # exchanges whose sums alone are opened
VISITING = ("cyclic", "single", "ensemble")  # exchanges in which a model is private by itself
EXCHANGES = (*SUMMED, *VISITING, "layers")
SEALING_SCHEMES = ("bfv", "ckks", "masks")  # schemes that hide single updates from the server
SEEDED = "seeded: repeatable, no guarantee"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """A run, as far as its observers matter. Everything here is public.

    Attributes:
        regime: "C", "CDP", "F", "FPDP" or "FSCDP".
        exchange: one of `EXCHANGES`; pooled regimes have none, whatever stands here.
        scheme: the sealing scheme; "plain" and "modular" hide nothing.
        hospitals: K.
        dropouts: hospitals that may be missing from a sum.
        colluders: hospitals that may pool what they know.
        sampling_rate: q of every round; 1 for `layers`, which credits no sampling.
        noise_multiplier: sigma; 0 in regimes C and F.
        rounds: noised steps that a patient may enter, retries included: T; for cyclic, single and
            ensemble those at the patient's own hospital; for layers the releases of one record.
        delta: at which epsilon is stated.
        seeded: whether randomness came from a seed.
        sampling: "poisson"; anything else is accounted for without amplification.
        schedules: (sampling rate, rounds) of each hospital where they differ; the run's epsilon
            is the largest.
        shared_hospitals: the m of the rows "a patient in m hospitals".
        grid: the planned grid, whose slack is then charged.
    """

    regime: str
    hospitals: int
    sampling_rate: float
    noise_multiplier: float
    rounds: int
    delta: float
    exchange: str = "gradients"
    scheme: str = "bfv"
    dropouts: int = 0
    colluders: int = 0
    seeded: bool = False
    sampling: str = "poisson"
    schedules: tuple[tuple[float, int], ...] = ()
    shared_hospitals: tuple[int, ...] = (2,)
    grid: GridPlan | None = None

    def __post_init__(self) -> None:
        if self.regime not in REGIME_PLANS:
            known = ", ".join(REGIME_PLANS)
            raise AccountingError(f"regime is {self.regime!r}, expected one of {known}")
        if self.exchange not in EXCHANGES:
            known = ", ".join(EXCHANGES)
            raise AccountingError(f"exchange is {self.exchange!r}, expected one of {known}")
        if self.regime == "FSCDP" and self.exchange not in SUMMED:
            raise AccountingError(
                f"exchange {self.exchange} with regime FSCDP: a share of the noise protects only "
                "inside a sum, use FPDP"
            )
        check_delta(self.delta)
        check_rounds(self.rounds)
        if self.noisy:
            check_noise_multiplier(self.noise_multiplier)
            for sampling_rate, rounds in self.releases:
                check_sampling_rate(sampling_rate)
                check_rounds(rounds)
        self.plan()

    @property
    def noisy(self) -> bool:
        """Whether the regime adds noise at all."""
        return REGIME_PLANS[self.regime] != "none"

    @property
    def pooled(self) -> bool:
        """Whether a curator holds all the data."""
        return self.regime in ("C", "CDP")

    @property
    def releases(self) -> tuple[tuple[float, int], ...]:
        """(sampling rate, noised messages) of a patient at each kind of hospital."""
        schedules = self.schedules or ((self.sampling_rate, self.rounds),)
        if self.exchange == "layers" and not self.pooled:
            # The activation and the head's loss gradient: two messages for each release.
            return tuple((1.0, 2 * rounds) for _, rounds in schedules)
        if self.sampling != "poisson":
            return tuple((1.0, rounds) for _, rounds in schedules)
        return schedules

    def plan(self) -> NoisePlan:
        """The run's noise plan."""
        return make_noise_plan(
            REGIME_PLANS[self.regime],
            noise_multiplier=self.noise_multiplier if self.noisy else 0.0,
            hospitals=self.hospitals,
            dropouts=self.dropouts,
            colluders=self.colluders,
        )


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
    """

    observer: str
    epsilon: dict[str, float] | None
    delta: float
    binds_target: bool
    why: str
    guaranteed: bool = True

    def to_json(self) -> dict[str, object]:
        """The row, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What an observer has: the noise that is left for it, or None."""

    observer: str
    multiplier: float | None
    why: str
    binds: bool = False
    shared: int = 1
    repeats: int = 1
    single: bool = False


def observers(
    run: RunDescription, accountants: Sequence[str] = tuple(ACCOUNTANTS)
) -> list[ObserverRow]:
    """The observer table of a run.

    Guarantee: each row's epsilon bounds what that observer's whole view tells about one patient at
    one hospital (add or remove; in the rows "a patient in m hospitals", at all of these), over all
    rounds, if the run kept to its description. A row with epsilon None carries no guarantee.

    Args:
        run: the description.
        accountants: names in `ACCOUNTANTS`; "prv" takes up to seconds.

    Source: Malekzadeh et al. 2021, section 4.3, for the regimes; the accountants' own for epsilon.
    """
    for name in accountants:
        find_accountant(name)
    return [_row(run, view, accountants) for view in _views(run)]


def epsilon_on_grid(
    events: Sequence[Event],
    delta: float,
    accountant: str,
    grid: GridPlan | None,
    *,
    single_update: bool = False,
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
        drift, charged = grid.slack_at(assumed, delta, single_update=single_update)
        if charged > delta / 2:
            raise AccountingError(
                f"at epsilon {result:.4g} rounding to the grid costs delta {charged:.2g}, "
                f"expected less than half of {delta:g}: plan a finer grid"
            )
        result = compute(events, delta - charged)
        if result <= assumed:
            return result + drift
    raise AccountingError(f"epsilon {result:.4g} and the slack of rounding do not settle")


def _row(run: RunDescription, view: _View, accountants: Sequence[str]) -> ObserverRow:
    notes = [SEEDED] if run.seeded else []
    notes.append(view.why)
    values: dict[str, float] = {}
    if view.multiplier is not None:
        if run.sampling != "poisson" and run.exchange != "layers":
            notes.append(f"{run.sampling} sampling: no amplification is credited")
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
    )


def _largest(run: RunDescription, view: _View, accountant: str) -> float:
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
            epsilon_on_grid([event], run.delta, accountant, run.grid, single_update=view.single)
        )
    return max(found)


def _views(run: RunDescription) -> list[_View]:
    if run.pooled:
        return _curator_views(run)
    if not run.noisy:
        return _exact_views(run)
    return _shared_noise_views(run) if run.regime == "FSCDP" else _local_noise_views(run)


def _curator_views(run: RunDescription) -> list[_View]:
    curator = _View(observer="curator", multiplier=None, why="holds the pooled data")
    if not run.noisy:
        why = "the model is an exact function of the data"
        return [curator, _View(observer="public after release", multiplier=None, why=why)]
    sigma = run.noise_multiplier
    views = [
        curator,
        _View(
            observer="public after release",
            multiplier=sigma,
            binds=True,
            single=True,
            why="sees the model, made from sums with noise sigma*C",
        ),
    ]
    for m in run.shared_hospitals:
        views.append(
            _View(
                observer=f"public, of a patient in {m} hospitals",
                multiplier=sigma,
                shared=m,
                single=True,
                why="unless the curator links the patient's records and clips them together",
            )
        )
    return views


def _exact_views(run: RunDescription) -> list[_View]:
    exact = "no noise: "
    sealed = run.scheme in SEALING_SCHEMES
    if run.exchange in SUMMED and sealed:
        server = "sees sealed vectors only, and at release a model that is exact"
        other = "opens exact sums"
        if run.hospitals == 2:
            other += "; with two hospitals that is the other's own update"
    elif run.exchange in SUMMED:
        server, other = "sees every exact update", "receives the exact model"
    elif run.exchange == "layers":
        server, other = "sees exact activations of single records", "may receive the exact layers"
    else:
        server, other = "may see the exact models", "receives the exact models it is sent"
    views = [
        _View(observer="server", multiplier=None, why=exact + server),
        _View(
            observer="public after release",
            multiplier=None,
            why=exact + "the model is an exact function of the data",
        ),
    ]
    if run.hospitals > 1:
        views.append(_View(observer="any one other hospital", multiplier=None, why=exact + other))
        why = exact + "every update is open to whoever holds the key and the sealed vectors"
        if run.exchange in SUMMED:
            views.append(_View(observer="server + one key holder", multiplier=None, why=why))
    return views


def _shared_noise_views(run: RunDescription) -> list[_View]:
    """FSCDP: shares of noise that protect inside a sum."""
    plan = run.plan()
    sigma, update = plan.multiplier_of_sum, plan.multiplier_of_update
    sealed = run.scheme in SEALING_SCHEMES
    if sealed:
        server = _View(
            observer="server",
            multiplier=sigma,
            binds=True,
            why="sees sealed vectors it cannot open, and released models made from noisy sums",
        )
    else:
        server = _View(
            observer="server",
            multiplier=update,
            single=True,
            why=f"scheme {run.scheme} hides nothing: sees every single update, which carries "
            "its hospital's share of the noise only",
        )
    public = "sees models made from sums that carry noise sigma*C"
    views = [
        server,
        _View(observer="public after release", multiplier=sigma, binds=True, why=public),
    ]
    if run.hospitals > 1:
        # In the sum there are K-d shares at least, the patient's own hospital's among them.
        honest = max(1, plan.min_contributions - 1)
        views.append(
            _View(
                observer="any one other hospital",
                multiplier=min(sigma, update * math.sqrt(honest)),
                binds=run.colluders >= 1,
                why="opens every sum and knows its own share of the noise",
            )
        )
    if run.colluders:
        views.append(
            _View(
                observer=f"{run.colluders} colluding hospitals",
                multiplier=sigma,
                binds=True,
                why="subtract their own noise; the rest was planned to be enough",
            )
        )
    if run.hospitals > 1:
        why = (
            "opens single updates, composed over all rounds: only the patient's own hospital's "
            "share of the noise is left (so it is if all other hospitals collude)"
        )
        views.append(
            _View(observer="server + one key holder", multiplier=update, single=True, why=why)
        )
    views += [
        _View(
            observer=f"server, of a patient in {m} hospitals",
            multiplier=sigma if sealed else update,
            shared=m if sealed else 1,
            repeats=1 if sealed else m,
            single=not sealed,
            why="every hospital samples and clips the patient by itself",
        )
        for m in run.shared_hospitals
        if m <= run.hospitals
    ]
    return views


def _local_noise_views(run: RunDescription) -> list[_View]:
    """FPDP: everything that leaves a hospital carries sigma*C by itself."""
    sigma = run.noise_multiplier
    if run.exchange == "layers":
        seen = "sees every record's noised activation and loss gradient (for one record a patient)"
        other = "may receive the layers that were trained on noised messages"
    elif run.exchange in VISITING:
        seen = "sees at most the models, each private by its hospital's own noise"
        other = "sees the models it is sent, each private by its hospital's own noise"
    else:
        seen = "each update is private by its own hospital's noise, sealed or not"
        other = "may open every sum and subtract its own noise: the patient's hospital's remains"
    views = [
        _View(observer="server", multiplier=sigma, binds=True, single=True, why=seen),
        _View(
            observer="public after release",
            multiplier=sigma,
            binds=True,
            single=True,
            why="sees models made from what left the hospitals",
        ),
    ]
    if run.hospitals > 1:
        who = f"{run.colluders} colluding hospitals" if run.colluders else None
        names = ["any one other hospital", who, "server + all other hospitals"]
        views += [
            _View(observer=name, multiplier=sigma, binds=True, single=True, why=other)
            for name in names
            if name
        ]
    views += [
        _View(
            observer=f"server, of a patient in {m} hospitals",
            multiplier=sigma,
            repeats=m,
            single=True,
            why=f"what {m} hospitals release about the patient composes",
        )
        for m in run.shared_hospitals
        if m <= run.hospitals
    ]
    return views
