"""Membership: whether a patient was trained on, told from the final model.

Three attackers. One asks the model and calls whoever it does well on (Yeom et al. 2018). One has
shadow models as well and asks how likely the answer is with the patient and without (LiRA, Carlini
et al. 2022). One has the weights and asks the same of the patient's gradient, which is small where
the patient was learnt (Nasr et al. 2019). What all of them may reach at most follows from the
epsilon against the public.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting.attack_limits import Limit, epsilon_or_rdp, limit_of
from accounting.events import GaussianEvent
from clients.contract.schedule import schedule_of
from clients.contract.settings import ConfigValue
from clients.contract.terms import noise_plan
from clients.data.records import join
from simulations.attacks.ground import Ground, Way
from simulations.attacks.result import Column, Control, Result
from simulations.attacks.roc import RARE, Measured, alarm, measure, shown, with_rare
from simulations.attacks.shadow_models import (
    Pool,
    log_odds,
    module_of,
    steepness,
    train_shadows,
)

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from simulations.attacks.roc import Coins, Matrix

NAME = "membership"
#: Models of each way, unless trials are asked for, and the fewest that have both kinds for nearly
#: every patient.
MODELS, FEWEST = 8, 6
#: What the control is told: few patients, half of them with a wrong label, all of them in each of
#: many steps, and a clip that binds nobody, so that the model learns them by heart.
CONTROL: Mapping[str, ConfigValue] = {
    "model.name": "mlp",
    "training.rounds": 200,
    "training.sampling-rate": 1.0,
    "training.learning-rate": 0.5,
    "training.momentum": 0.9,
    "training.class-shares": "",
    "privacy.l2-clip": 1000.0,
}
CONTROL_PATIENTS, CONTROL_WRONG, CONTROL_AREA = 120, 0.5, 0.7
ATTACKERS = {
    "loss": "loss",
    "lira": "LiRA, answers",
    "steep": "LiRA, weights",
}
CAPTION = (
    "Each patient is in a training by the toss of a coin. The control is overfitted and has no "
    "protection. AUC 0.5 and a TPR as large as the FPR are those of a guess; brackets: a standard "
    "error over models. Allowed: the most that any attacker reaches who sees the models of all "
    "rounds and all other patients (e^epsilon FPR + delta at several deltas, or the Gaussian curve "
    "where everybody is in every round); a run's own patients and its holdout may differ by more "
    "than that, which 1 then says, unless chance alone split them. Epsilon: against the public."
)


def likelihood_ratios(values: Matrix, coins: Coins) -> Matrix:
    """Return the log of how much likelier each value is with the patient than without.

    Each model in turn is compared with all others; normal laws whose spreads are those of all
    patients together, since few models tell one patient's (Carlini et al. 2022, section VI-B).

    Args:
        values: of each model and patient, ``[models, p]``.
        coins: whether the patient was in it, ``[models, p]``.
    """
    found = np.zeros_like(values)
    for one in range(len(values)):
        rest, tossed = np.delete(values, one, 0), np.delete(coins, one, 0)
        laws = []
        for side in (tossed, ~tossed):
            counts = side.sum(axis=0)
            with np.errstate(invalid="ignore"):
                mean = np.where(side, rest, 0.0).sum(axis=0) / counts
            freedom = max(int(np.maximum(counts - 1, 0).sum()), 1)
            variance = float(np.nansum(np.where(side, rest - mean, 0.0) ** 2)) / freedom
            laws.append((mean, max(variance, 1e-12)))
        (inside, spread_in), (outside, spread_out) = laws
        ratio = (values[one] - outside) ** 2 / spread_out - (values[one] - inside) ** 2 / spread_in
        found[one] = np.nan_to_num(0.5 * (ratio + np.log(spread_out / spread_in)))
    return found


def attack(ground: Ground) -> Result:
    """Attack the final models of each regime.

    Raises:
        SettingsError: the exchange leaves no single model, or too few models are asked for.
    """
    started = time.perf_counter()
    models = ground.trials or MODELS
    few = f"--trials {models}: {NAME} takes {FEWEST} models of each way at least."
    faults = (few,) if models < FEWEST else ()
    ground.require(NAME, about="one final model of opened sums", faults=faults)
    ways = list(ground.ways())
    total = models * (len(ways) + 1)
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        ground.listener(f"attack {NAME}, trainings", done, total)

    ground.listener(f"attack {NAME}, trainings", 0, total)
    rows: list[dict[str, Any]] = []
    alarms: list[str] = []
    curves: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        control = _Siege(ground, Way(regime="C"), models, folder / "control", CONTROL)
        rows += control.rows(report, "control", curves)
        for number, way in enumerate(ways):
            siege = _Siege(ground, way, models, folder / f"way-{number}")
            rows += siege.rows(report, way.label, curves)
            alarms += siege.alarms
        if ground.path is not None:
            rows.append(_own_row(ground, curves, alarms, of=len(rows)))
    columns, said = with_rare(COLUMNS, rows)
    return Result(
        attack=NAME,
        title="Who was trained on, told from the final model",
        columns=columns,
        rows=rows,
        caption=f"{CAPTION} {said}",
        control=_control(rows[: len(ATTACKERS)]),
        alarms=tuple(alarms),
        drawn={"curves": curves},
        facts=f"{ground.settings.data.name}, {ground.settings.model.name}, {models} models a row, "
        f"{sum(ground.cohort.patients_by_hospital.values())} patients of whom each model has half",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _control(rows: Sequence[Mapping[str, Any]]) -> Control:
    best = max(rows, key=lambda row: float(row["area"]))
    return Control(
        text=f"an overfitted model of {CONTROL_PATIENTS // 2} patients without protection: AUC "
        f"{best['area']:.2f} by {best['attacker']}",
        succeeded=best["area"] - 3 * best["area_error"] > CONTROL_AREA,
    )


COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="attacker", title="Attack", form="text"),
    Column(key="accuracy", title="Accuracy"),
    Column(key="area_text", title="AUC", form="text"),
    Column(key="most_area", title="Allowed"),
    Column(key="hits_text", title="TPR at 1% FPR", form="text"),
    Column(key="most_hits", title="Allowed"),
    *RARE,
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)


def _own_row(
    ground: Ground, curves: list[dict[str, Any]], alarms: list[str], *, of: int
) -> dict[str, Any]:
    """Attack a run's own model: its patients against those of its holdout, by queries alone."""
    settings, cohort, model = ground.settings, ground.cohort, ground.model()
    assert model is not None
    whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
    (inside,) = whole.records.values()
    records = join(inside, cohort.holdout)
    pool = Pool.tossed(ground, records, 1)
    coins = np.isin(pool.patients, inside.patient_ids)[None]
    odds = log_odds(module_of(settings, ground, model), pool)[None]
    measured = measure(odds, coins)
    limit, level = limit_of_public(settings, ground)
    if not ground.split_by_chance:
        limit = Limit()
    label = f"this run: {settings.privacy.regime}"
    if too_much := alarm(measured, coins, limit, of=of):
        alarms.append(f"{label}: {too_much}")
    curves.append(_curve(label, "loss", measured, limit))
    return _row(label, "loss", measured, limit, None, level)


def _curve(label: str, name: str, found: Measured, limit: Limit) -> dict[str, Any]:
    return {
        "way": label,
        "attacker": name,
        "curve": found.curve,
        "limit": [(rate, limit.most_hits(rate)) for rate, _ in found.curve],
    }


def limit_of_public(settings: Settings, ground: Ground) -> tuple[Limit, float | None]:
    """What the public may reach, and its epsilon."""
    privacy, sigma = settings.privacy, ground.noise_multiplier(settings)
    if not sigma:
        return Limit(), None
    event = GaussianEvent(
        sampling_rate=schedule_of(settings).sampling_rate,
        noise_multiplier=noise_plan(settings, sigma).multiplier_of_sum,
        count=schedule_of(settings).events,
    )
    limit = limit_of(
        sampling_rate=event.sampling_rate,
        noise_multiplier=event.noise_multiplier,
        count=event.count,
        delta=privacy.delta,
        accountant=privacy.accountant,
    )
    return limit, epsilon_or_rdp([event], privacy.delta, privacy.accountant)


class _Siege:
    """One way under attack.

    Args:
        ground: what is attacked.
        way: the regime.
        models: to train.
        folder: for their runs.
        changes: what else its trainings are told; for the control.
    """

    def __init__(
        self,
        ground: Ground,
        way: Way,
        models: int,
        folder: Path,
        changes: Mapping[str, ConfigValue] | None = None,
    ) -> None:
        self.alarms: list[str] = []
        self._ground, self._way, self._folder = ground, way, folder
        self._settings = ground.told(way, changes)
        whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
        (records,) = whole.records.values()
        most, wrong = (CONTROL_PATIENTS, CONTROL_WRONG) if changes else (0, 0.0)
        self._pool = Pool.tossed(
            replace(ground, settings=self._settings), records, models, most=most, wrong=wrong
        )

    def rows(self, report: Any, label: str, curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Train, attack in each way, and return the rows; curves are added to those there are."""
        ground, pool, settings = self._ground, self._pool, self._settings
        models = train_shadows(settings, pool, ground, self._folder, report)
        modules = [module_of(settings, ground, one.model) for one in models]
        odds = np.stack([log_odds(one, pool) for one in modules])
        slopes = np.stack([steepness(one, pool) for one in modules])
        scores = {
            "loss": odds,
            "lira": likelihood_ratios(odds, pool.coins),
            "steep": likelihood_ratios(slopes, pool.coins),
        }
        limit, level = limit_of_public(settings, ground)
        accuracy = float(np.mean([one.accuracy for one in models]))
        found = []
        for name, values in scores.items():
            measured = measure(values, pool.coins)
            judged = len(ATTACKERS) * len(list(ground.ways())) + 1
            if too_much := alarm(measured, pool.coins, limit, of=judged):
                self.alarms.append(f"{label}, {ATTACKERS[name]}: {too_much}")
            curves.append(_curve(label, name, measured, limit))
            found.append(_row(label, name, measured, limit, accuracy, level))
        return found


def _row(
    label: str,
    name: str,
    found: Measured,
    limit: Limit,
    accuracy: float | None,
    level: float | None,
) -> dict[str, Any]:
    return {
        "way": label,
        "attacker": ATTACKERS[name],
        "accuracy": accuracy,
        **shown(found, limit),
        "run_epsilon": level,
    }
