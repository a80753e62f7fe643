"""Membership from a whole training: whether a patient was trained on, told from all that is seen.

A hospital opens every sum and has the model that each was taken at, so for any patient it can
compute what they would have added, and ask each sum whether that is in it (white-box, as Nasr et
al. 2019 of gradients; the likelihood of a subsampled sum as in the analyses of DP-SGD). The ratios
of all rounds add up. The same is asked of single updates, which is what sealing keeps from the
server, and, for comparison, of the final model alone.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting.attack_limits import Limit, epsilon_or_rdp, limit_of
from accounting.events import GaussianEvent
from accounting.vocabulary import REGIMES
from clients.contract.schedule import schedule_of
from clients.contract.terms import noise_plan
from simulations.attacks.ground import Ground, Way
from simulations.attacks.membership import limit_of_public
from simulations.attacks.result import Column, Control, Result
from simulations.attacks.roc import RARE, alarm, measure, shown, with_rare
from simulations.attacks.round_ratios import round_ratios
from simulations.attacks.shadow_models import Pool, log_odds, module_of, train_shadows
from simulations.attacks.watch import Round, by_patient, watched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.noise import NoisePlan
    from clients.contract.settings import Settings
    from simulations.attacks.roc import Coins, Matrix
    from simulations.attacks.trainings import Trained

    Picked = NDArray[np.intp]

NAME = "membership-rounds"
#: Trainings of each way, unless trials are asked for.
MODELS = 4
#: Patients at the most where a model has as many values, and values of all their gradients
#: together, float64. A smaller model is solved for any number of patients at its own size.
PATIENTS, VALUES = 500, 40_000_000
#: How far the control's AUC has to come, from that of a guess to that of who tells whoever was in
#: any round.
CONTROL_SHARE = 0.5
COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="sees", title="What is seen", form="text"),
    Column(key="sealed", title="Sealed", form="text"),
    Column(key="area_text", title="AUC", form="text"),
    Column(key="most_area", title="Allowed"),
    Column(key="hits_text", title="TPR at 1% FPR", form="text"),
    Column(key="most_hits", title="Allowed"),
    *RARE,
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Each patient is in a training by the toss of a coin. Of every round somebody sees each "
    "hospital's update (unsealed, or where a seal is broken) or the sum (another hospital, which "
    "takes its own update out of it), and knows the model, everybody's records, and where they "
    "lie, but neither who is trained on nor who is sampled. AUC 0.5 and a TPR as large as the FPR "
    "are those of a guess; brackets: a standard error over trainings. Allowed: the most that any "
    "attacker reaches who sees as much and all other patients. Epsilon: of whoever sees this."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What somebody sees of every round.

    Attributes:
        key: of it.
        title: what it is, in a few words.
        sealed: whether this is what a seal leaves to see; None where nothing travels to be sealed.
        noise: in what is seen, in clips.
        updates: whose noise that is: how many were added up.
    """

    key: str
    title: str
    sealed: str | None
    noise: float
    updates: int


def sights_of(way: Way, plan: NoisePlan) -> Iterator[Sight]:
    """Yield what is to be seen of a training's rounds, with the noise that is really in it."""
    kind = REGIMES[way.regime]
    if kind.pooled:
        noise = plan.multiplier_of_sum
        yield Sight(key="total", title="every step", sealed=None, noise=noise, updates=1)
        return
    single = "every share" if kind.noise == "semi-central" else "every update"
    noise = plan.multiplier_of_update
    yield Sight(key="single", title=single, sealed="no", noise=noise, updates=1)
    if plan.hospitals > 1:
        others = plan.hospitals - 1
        # Of parts of noise those have been taken out of the sum that it can spare.
        noise = plan.kept(0) * math.sqrt(others)
        yield Sight(key="total", title="every sum", sealed="yes", noise=noise, updates=others)


def attack(ground: Ground) -> Result:
    """Attack the trainings of each regime.

    Raises:
        SettingsError: the exchange is not that of gradients, or sums are those of groups.
    """
    started = time.perf_counter()
    models, settings = ground.trials or MODELS, ground.settings
    ground.require(NAME, about="opened sums", faults=list(_faults(ground)))
    ways = list(ground.ways())
    if all(way.regime != "F" for way in ways):
        ways.insert(0, Way(regime="F"))
    total, done = models * len(ways), 0

    def report() -> None:
        nonlocal done
        done += 1
        ground.listener(f"attack {NAME}, trainings", done, total)

    ground.listener(f"attack {NAME}, trainings", 0, total)
    rows: list[dict[str, Any]] = []
    alarms: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for number, way in enumerate(ways):
            watch = _Watch(ground, way, models)
            rows += watch.rows(report, Path(place) / f"way-{number}", alarms)
    columns, said = with_rare(COLUMNS, rows)
    return Result(
        attack=NAME,
        title="Who was trained on, told from every round",
        columns=columns,
        rows=rows,
        caption=f"{CAPTION} {said}",
        control=_control(rows, ground.told(Way(regime="F"))),
        alarms=tuple(alarms),
        facts=f"{settings.data.name}, {settings.model.name}, {settings.partition.hospitals} "
        f"hospitals, {models} trainings a regime, each over half of {watch.patients} patients",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _faults(ground: Ground) -> Iterator[str]:
    """Yield what keeps the attack from being carried out."""
    exchange = ground.settings.exchange
    if ground.sums_alone and exchange.name != "gradients":
        yield (
            f"exchange.name = {exchange.name}: {NAME} is about sums of clipped gradients; attack "
            "with --set exchange.name=gradients."
        )
    if exchange.group_size:
        yield (
            f"exchange.group-size = {exchange.group_size}: {NAME} is about sums of all; attack "
            "with --set exchange.group-size=0 --set exchange.robust=''."
        )


def _control(rows: list[dict[str, Any]], settings: Settings) -> Control:
    """Return whether half is told of what can be: nobody is found who was in no round."""
    schedule = schedule_of(settings)
    seen = 1.0 - (1.0 - schedule.sampling_rate) ** schedule.events
    [row] = [one for one in rows if (one["way"], one["key"]) == ("F", "single")]
    return Control(
        text=f"F, every update, unsealed: AUC {row['area']:.2f}, TPR {row['hits']:.2f} at 1% FPR, "
        f"where {seen:.2f} are in any round",
        succeeded=row["area"] - 3 * row["area_error"] > 0.5 + CONTROL_SHARE * seen / 2,
    )


class _Watch:
    """The trainings of one way, and what their rounds tell.

    Attributes:
        patients: how many there are.
    """

    def __init__(self, ground: Ground, way: Way, models: int) -> None:
        self._ground, self._way = ground, way
        self._settings = settings = ground.told(way)
        (records,) = ground.cohorts.split(ground.told(Way(regime="C")), 1).records.values()
        size = _most(settings, ground)
        self._pool = Pool.tossed(replace(ground, settings=settings), records, models, most=size)
        self.patients = len(self._pool.patients)
        self._batches = by_patient(self._pool.records)
        self._plan = noise_plan(settings, ground.noise_multiplier(settings))
        self._sights = list(sights_of(way, self._plan))
        self._members = self._dealt()
        #: Who watches sums, and takes its own update out of them.
        names = sorted(self._members)
        self._watcher = names[ground.seed % len(names)]
        self._ratios = {one.key: np.zeros(self._pool.coins.shape) for one in self._sights}

    def _dealt(self) -> dict[str, Picked]:
        """Return where each hospital's patients stand among all, also those in no training."""
        hospitals = 1 if self._settings.regime.pooled else self._settings.partition.hospitals
        told = self._settings.with_config({"run.seed": self._ground.seed})
        cohort = self._ground.cohorts.split(told, hospitals)
        return {
            name: np.flatnonzero(np.isin(self._pool.patients, held.patient_ids))
            for name, held in cohort.records.items()
        }

    def rows(self, report: Any, folder: Path, alarms: list[str]) -> list[dict[str, Any]]:
        """Train, watch, and return the rows; what is beyond a limit is added to alarms."""

        def watching(number: int) -> Any:
            return watched(partial(self._see, number))

        trained = train_shadows(self._settings, self._pool, self._ground, folder, report, watching)
        found = [
            {
                **self._row(one.key, one.title, self._ratios[one.key], *self._limit(one), alarms),
                "sealed": one.sealed,
            }
            for one in self._sights
        ]
        public = limit_of_public(self._settings, self._ground)
        final = self._row("final", "the final model", self._final(trained), *public, alarms)
        # What is opened, and so the model, is the same with a seal and without.
        return [*found, {**final, "sealed": "either"}]

    def _see(self, number: int, seen: Round) -> None:
        """Add to each patient's ratios what one round of one training tells."""
        gradients = seen.gradients(self._batches)
        for sight in self._sights:
            ratios = self._ratios[sight.key][number]
            if sight.key == "single":
                for name, members in self._members.items():
                    if len(members):
                        update = seen.updates[name]
                        ratios[members] += self._told(seen, sight, gradients[members], update)
            elif self._settings.regime.pooled:
                ratios += self._told(seen, sight, gradients, seen.total)
            else:
                members = self._not_the_watchers
                rest = seen.total - seen.updates[self._watcher]
                ratios[members] += self._told(seen, sight, gradients[members], rest)

    @property
    def _not_the_watchers(self) -> Picked:
        own = self._members[self._watcher]
        return np.setdiff1d(np.arange(self.patients), own)

    def _told(self, seen: Round, sight: Sight, gradients: Matrix, what: Any) -> Any:
        terms = seen.terms
        rounding = sight.updates * terms.grid.step**2 / 12
        variance = (sight.noise * terms.l2_clip) ** 2 + rounding
        return round_ratios(gradients, what, variance, terms.schedule.sampling_rate)

    def _final(self, trained: list[Trained]) -> Matrix:
        modules = [module_of(self._settings, self._ground, one.model) for one in trained]
        return np.stack([log_odds(one, self._pool) for one in modules])

    def _limit(self, sight: Sight) -> tuple[Limit, float | None]:
        """What whoever has a sight may reach, and its epsilon."""
        privacy, schedule = self._settings.privacy, schedule_of(self._settings)
        if not sight.noise:
            return Limit(), None
        event = GaussianEvent(
            sampling_rate=schedule.sampling_rate,
            noise_multiplier=sight.noise,
            count=schedule.events,
        )
        limit = limit_of(
            sampling_rate=event.sampling_rate,
            noise_multiplier=event.noise_multiplier,
            count=event.count,
            delta=privacy.delta,
            accountant=privacy.accountant,
        )
        return limit, epsilon_or_rdp([event], privacy.delta, privacy.accountant)

    def _row(
        self,
        key: str,
        title: str,
        scores: Matrix,
        limit: Limit,
        level: float | None,
        alarms: list[str],
    ) -> dict[str, Any]:
        asked = (
            self._not_the_watchers if key == "total" and not self._settings.regime.pooled else ...
        )
        coins: Coins = self._pool.coins[:, asked]
        found = measure(scores[:, asked], coins)
        judged = 3 * (len(list(self._ground.ways())) + 1)
        if too_much := alarm(found, coins, limit, of=judged):
            alarms.append(f"{self._way.label}, {title}: {too_much}")
        return {
            "way": self._way.label,
            "key": key,
            "sees": title,
            **shown(found, limit),
            "run_epsilon": level,
        }


def _most(settings: Settings, ground: Ground) -> int:
    """Return how many patients are attacked, so that their gradients fit into memory."""
    from clients.models import build_model

    module = build_model(settings, ground.cohort.info, settings.public_seed)
    values = sum(one.numel() for one in module.parameters() if one.requires_grad)
    most = VALUES // values
    return most if values < PATIENTS else max(50, min(PATIENTS, most))
