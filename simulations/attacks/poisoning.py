"""Poisoning: what hospitals that lie do to the model, as more and more of them do.

A guarantee of privacy is none against lies: the clip bounds a patient, not a hospital, and sealing
proves who is in a sum and that each value fits, not that it is true. What epsilon says of k
patients whose records are replaced by false ones is that the expected accuracy is at least
e^(-2k*epsilon) of what it would be without, less what delta takes (group privacy; Ma, Zhu and Hsu
2019): something for one patient, nothing for a hospital. Of updates that no patients stand behind
it says nothing at all.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from accounting.vocabulary import EXCHANGES
from clients.contract.groups import ONE_SUM
from clients.contract.settings import ConfigValue, Settings, SettingsError
from clients.data.records import Records
from clients.models import build_model
from clients.models.weights import head_of, set_parameters
from simulations.attacks.ground import Ground, Way
from simulations.attacks.lies import POISONS, Poison, aim_of, lying, with_patch
from simulations.attacks.result import Column, Control, Result
from simulations.attacks.trainings import ChangedCohorts, Trained, train

NAME = "poisoning"
#: Shares of hospitals that lie.
SHARES = (0.0, 0.1, 0.2, 0.4)
#: Trainings of each cell, unless trials are asked for.
SEEDS = 1
#: What the control has to reach: points of accuracy lost, or patched records taken for the aim.
LOST, TAKEN = 0.1, 0.5

COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="poison", title="Lie", form="text"),
    *(Column(key=f"at_{share:g}", title=f"{share:.0%}") for share in SHARES),
    Column(key="one_patient", title="1 patient"),
    Column(key="allowed", title="10%"),
)
CAPTION = (
    "By the share of hospitals that lie: accuracy on the public holdout, or which share of its "
    "patched records of other classes is taken for the last class. The last two columns are what "
    "epsilon allows: the least accuracy, or the largest share, in expectation, where one patient's "
    "record is false, and where those of 10% of the hospitals are (group privacy). They are to be "
    "read beside the others and raise no alarm: a few trainings tell no expectation, and of all "
    "patients of a hospital epsilon allows anything. Of updates that no patients stand behind it "
    "says nothing. Pooled data have no updates to lie with."
)


def attack(ground: Ground) -> Result:
    """Train each regime with more and more liars; of groups, in one sum of all as well.

    Raises:
        SettingsError: the exchange is none of sums.
    """
    started = time.perf_counter()
    if not EXCHANGES[ground.settings.exchange.name].sums:
        raise SettingsError(
            [
                f"exchange.name = {ground.settings.exchange.name}: {NAME} is about updates that "
                "are summed; attack with --set exchange.name=gradients."
            ]
        )
    ways = list(ground.ways())
    if not any(way.regime == "F" for way in ways):
        ways.insert(0, Way(regime="F"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        field = _Field(ground, Path(place), ways)
        for way in ways:
            rows += field.rows(way, ONE_SUM)
            if field.in_groups(way):
                rows += field.rows(way, {})
    control = [row for row in rows if row["way"] == "F"]
    # Of few hospitals a tenth is one: a table that says 10% has to say of how many.
    liars = ", ".join(str(len(field.liars(share))) for share in SHARES[1:])
    return Result(
        attack=NAME,
        title="What hospitals that lie do to the model",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=_control(control),
        drawn={"shares": list(SHARES)},
        facts=f"{ground.settings.data.name}, {ground.settings.model.name}, "
        f"{ground.settings.partition.hospitals} hospitals, of which {liars} lie, "
        f"{field.seeds} seeds a cell",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _control(rows: Sequence[dict[str, Any]]) -> Control:
    worst = max(rows, key=_harm)
    first, last = (worst[f"at_{share:g}"] for share in (SHARES[0], SHARES[-1]))
    enough = TAKEN if worst["hidden"] else LOST
    what = worst["poison"] if worst["hidden"] else f"{worst['poison']}: accuracy"
    return Control(
        text=f"F, {SHARES[-1]:.0%} of hospitals, {what} from {first:.3f} to {last:.3f}",
        succeeded=_harm(worst) >= enough,
    )


def _harm(row: dict[str, Any]) -> float:
    """How far a lie has come, as a share."""
    moved = float(row[f"at_{SHARES[-1]:g}"] - row[f"at_{SHARES[0]:g}"])
    return moved if row["hidden"] else -moved


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A poisoned training: its accuracy, and the share of patched records taken for the aim."""

    accuracy: float
    taken: float


class _Field:
    """Trainings with liars among the hospitals."""

    def __init__(self, ground: Ground, folder: Path, ways: Sequence[Way]) -> None:
        self.seeds = ground.trials or SEEDS
        self._ground, self._folder = ground, folder
        generator = np.random.default_rng([ground.seed, 0x11E5])
        #: In the order in which they begin to lie: whoever lies among few lies among many.
        self._order = [str(one) for one in generator.permutation(list(ground.cohort.names))]
        kinds = [
            sum(_applies(way, one) for one in POISONS.values())
            for way in ways
            for _ in range(2 if self.in_groups(way) else 1)
        ]
        self._total = self.seeds * sum(1 + count * (len(SHARES) - 1) for count in kinds)
        self._done = 0
        ground.listener(f"attack {NAME}, trainings", 0, self._total)

    def in_groups(self, way: Way) -> bool:
        """Whether sums of groups are opened apart where a way is as it was asked for."""
        return self._ground.told(way).exchange.group_size > 0

    def rows(self, way: Way, changes: Mapping[str, ConfigValue]) -> list[dict[str, Any]]:
        """Return a row for each lie that there can be.

        Args:
            way: of training.
            changes: to what was asked for.
        """
        settings = self._ground.told(way, changes)
        label = way.label
        if size := settings.exchange.group_size:
            label += f", groups of {size}, {settings.exchange.robust}"
        honest = self._mean(settings, next(iter(POISONS.values())), 0.0)
        found = []
        for poison in POISONS.values():
            if not _applies(way, poison):
                continue
            outcomes = [honest, *(self._mean(settings, poison, share) for share in SHARES[1:])]
            values = [one.taken if poison.hidden else one.accuracy for one in outcomes]
            found.append(
                {
                    "way": label,
                    "poison": f"{poison.title}: taken" if poison.hidden else poison.title,
                    "measure": "taken" if poison.hidden else "accuracy",
                    "hidden": poison.hidden,
                    **{f"at_{share:g}": v for share, v in zip(SHARES, values, strict=True)},
                    "one_patient": self._allowed(settings, poison, values[0], 1),
                    "allowed": self._allowed(
                        settings, poison, values[0], self._patients(SHARES[1])
                    ),
                }
            )
        return found

    def liars(self, share: float) -> list[str]:
        """Return who lies where at least such a share of the hospitals do."""
        return self._order[: math.ceil(share * len(self._order) - 1e-9)]

    def _patients(self, share: float) -> int:
        held = self._ground.cohort.patients_by_hospital
        return sum(held[name] for name in self.liars(share))

    def _allowed(
        self, settings: Settings, poison: Poison, before: float, patients: int
    ) -> float | None:
        """The least accuracy, or the largest share taken, with so many patients' records false."""
        if poison.update is not None or not settings.regime.private:
            return None
        level, delta = settings.privacy.target_epsilon, settings.privacy.delta
        # To replace a record is to remove one and add one: 2k steps from neighbour to neighbour.
        shrunk = math.exp(-min(2 * level * patients, 700.0))
        lost = delta * (1.0 - shrunk) / math.expm1(min(level, 700.0))
        if poison.hidden:
            return min(1.0, 1.0 - max(0.0, shrunk * (1.0 - before) - lost))
        return max(0.0, shrunk * before - lost)

    def _mean(self, settings: Settings, poison: Poison, share: float) -> _Outcome:
        """Train with some liars, once for each seed."""
        found = [self._train(settings, poison, share, seed) for seed in range(self.seeds)]
        return _Outcome(
            accuracy=float(np.mean([one.accuracy for one in found])),
            taken=float(np.mean([one.taken for one in found])),
        )

    def _train(self, settings: Settings, poison: Poison, share: float, number: int) -> _Outcome:
        ground, info, liars = self._ground, self._ground.cohort.info, self.liars(share)
        held = ground.cohort.records
        false = np.concatenate([np.zeros(0, dtype=np.int64), *(held[n].patient_ids for n in liars)])

        def change(name: str, records: Records) -> Records:
            lies = np.isin(records.patients, false)
            if poison.records is None or not lies.any():
                return records
            return _joined(records, poison.records(info, records.take(np.flatnonzero(lies))), lies)

        told = settings.with_config(
            {
                "run.seed": ground.seed + number + 1,
                "training.release-every": settings.training.rounds,
            }
        )
        cohorts = ChangedCohorts(ground.cohorts, ground.seed, change)
        with lying(liars, poison, _aim(told, ground)):
            made = train(told, cohorts, self._folder / f"run-{self._done}")
        self._done += 1
        ground.listener(f"attack {NAME}, trainings", self._done, self._total)
        return _Outcome(accuracy=made.accuracy, taken=self._taken(told, made))

    @torch.no_grad()
    def _taken(self, settings: Settings, made: Trained) -> float:
        """The share of the holdout's records of other classes that a patch turns into the aim."""
        cohort = self._ground.cohort
        aim = aim_of(cohort.info)
        others = cohort.holdout.take(np.flatnonzero(cohort.holdout.labels != aim))
        inputs = with_patch(cohort.info, np.asarray(others.inputs, dtype=np.float32))
        marked = self._ground.prepared(others.with_inputs(inputs))
        module = build_model(settings, cohort.info, settings.public_seed)
        set_parameters(module, made.model)
        module.eval()
        rows = torch.as_tensor(np.asarray(marked.inputs, dtype=np.float32))
        guesses = torch.cat([module(part) for part in torch.split(rows, 256)]).argmax(dim=1)
        return float((guesses == aim).double().mean())


def _applies(way: Way, poison: Poison) -> bool:
    """Whether there can be this lie: pooled data come without updates."""
    return poison.update is None or way.regime not in ("C", "CDP")


def _aim(settings: Settings, ground: Ground) -> int:
    """Return where the aim's bias lies in an update; the last value where there are no biases."""
    module = build_model(settings, ground.cohort.info, settings.public_seed)
    bias, offset = f"{head_of(module)}.bias", 0
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if name == bias:
            return offset + aim_of(ground.cohort.info)
        offset += parameter.numel()
    return offset - 1


def _joined(records: Records, false: Records, lies: Any) -> Records:
    """Return records with those that are false in their places."""
    order = np.argsort(np.concatenate([np.flatnonzero(~lies), np.flatnonzero(lies)]))
    true = records.take(np.flatnonzero(~lies))
    return Records(
        inputs=np.concatenate([np.asarray(true.inputs), np.asarray(false.inputs)])[order],
        labels=np.concatenate([true.labels, false.labels])[order],
        patients=np.concatenate([true.patients, false.patients])[order],
    )
