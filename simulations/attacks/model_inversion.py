"""Model inversion: the record that a final model thinks of when it thinks of a class.

Fredrikson, Jha and Ristenpart (2015): the input that makes a class likeliest, held to what records
are like by a prior over public ones. What comes out is a class, which a model is there to know. So
two things are measured: how like the mean of the class it is, and whether it is nearer to patients
who were trained on than to others of the class, which would be a patient showing through. The
second is a test of membership, so what theory allows of it is known.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from accounting.attack_limits import Limit
from clients.contract.settings import ConfigValue, SettingsError
from clients.data.records import Records
from simulations.attacks.ground import Ground, Way
from simulations.attacks.inversion import Prior
from simulations.attacks.membership import limit_of_public
from simulations.attacks.pictures import as_text, can_be_drawn
from simulations.attacks.result import Column, Control, Result
from simulations.attacks.shadow_models import module_of
from simulations.attacks.trainings import ChangedCohorts, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

NAME = "model-inversion"
#: Steps of the descent, and the weight of the prior beside the class's log-likelihood.
STEPS, PRIOR = 100, 0.01
#: What the control is told: one patient of each class, in every step, and a clip that binds nobody.
CONTROL: Mapping[str, ConfigValue] = {
    "training.rounds": 60,
    "training.sampling-rate": 1.0,
    "training.class-shares": "",
    "privacy.l2-clip": 1000.0,
}
CONTROL_AREA = 0.9
#: Standard errors above a limit that no luck explains.
ERRORS = 6.0
#: Classes that are drawn, and public records that a prior is learnt from.
DRAWN, _MOST_PUBLIC = 6, 2000

_TWO_CLASSES = (
    "the model has two classes: all that it learns of two patients is what tells one from the "
    f"other, so {NAME} has no control in which it finds either; attack a model of more classes, as "
    "with --set data.name=digits."
)

COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="accuracy", title="Accuracy"),
    Column(key="class_like", title="Like the class"),
    Column(key="area", title="Nearer to the trained on"),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Like the class: correlation of what comes out with the mean of the class's records, both less "
    "the mean of public ones; a model is there to know that. Nearer: the chance that a patient who "
    "was trained on correlates more with it than one of the same class who was not, half being a "
    "guess; allowed: the most that any test of membership reaches, where chance alone decided who "
    "was trained on, else 1. The control has learnt from one "
    "patient of each class. Epsilon: against the public."
)


def attack(ground: Ground) -> Result:
    """Train each regime once and invert its model.

    Raises:
        SettingsError: the exchange leaves no single model of sums, it learns from features, or has
            but two classes.
    """
    started = time.perf_counter()
    ground.require(
        NAME,
        about="one final model of opened sums",
        records="makes",
        faults=[] if len(ground.cohort.info.classes) > 2 else [_TWO_CLASSES],
    )
    ways = list(ground.ways())
    people = _People.of(ground)
    rows: list[dict[str, Any]] = []
    shown = [people.means]
    alarms = []
    with tempfile.TemporaryDirectory() as place:
        for number, way in enumerate([None, *ways]):
            ground.listener(f"attack {NAME}, trainings", number, len(ways) + 1)
            row, pictures = _row(ground, way, people, Path(place) / f"run-{number}")
            rows.append(row)
            shown.append(pictures)
            if row["area"] > row["allowed"] + ERRORS * row["error"]:
                alarms.append(f"{row['way']}: {row['area']:.3f}, at most {row['allowed']:.3f}")
    labels = ["mean of the class", *(str(row["way"]) for row in rows)]
    return Result(
        attack=NAME,
        title="What a final model thinks of when it thinks of a class",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=Control(
            text=f"one patient of each class, no protection: nearer to that patient than to "
            f"{rows[0]['area']:.0%} of the others",
            succeeded=rows[0]["area"] >= CONTROL_AREA,
        ),
        alarms=tuple(alarms),
        drawn=_drawn(ground, labels, shown),
        facts=f"{ground.settings.data.name}, {ground.settings.model.name}, one training a row",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, kw_only=True)
class _People:
    """Who was trained on and who was not, and what is known of records beforehand.

    Attributes:
        trained: records of the hospitals.
        others: of the holdout.
        prior: learnt from the others, which are public.
        means: of the records of each class that are trained on, float64 ``[classes, values]``.
    """

    trained: Records
    others: Records
    prior: Prior
    means: Vector

    @classmethod
    def of(cls, ground: Ground) -> _People:
        """Gather them."""
        whole = ground.cohorts.split(ground.told(Way(regime="C")), 1)
        (trained,) = whole.records.values()
        others = whole.holdout
        for label, name in enumerate(whole.info.classes):
            for part, where in ((trained, "hospitals"), (others, "public holdout")):
                if not np.any(part.labels == label):
                    raise SettingsError([f"{NAME}: no record of {name!r} is in the {where}."])
        public = others.take(np.arange(min(len(others), _MOST_PUBLIC)))
        rows = _flat(trained)
        classes = range(len(whole.info.classes))
        return cls(
            trained=trained,
            others=others,
            prior=Prior.of(np.asarray(public.inputs)),
            means=np.stack([rows[trained.labels == one].mean(axis=0) for one in classes]),
        )


def _flat(records: Records) -> Vector:
    return np.asarray(records.inputs, dtype=np.float64).reshape(len(records), -1)


def _row(
    ground: Ground, way: Way | None, people: _People, folder: Path
) -> tuple[dict[str, Any], Vector]:
    """Train and invert one way, or the control; return its row and what comes out, by class."""
    trained = people.trained if way else _one_of_each(people.trained, ground)
    told: dict[str, ConfigValue] = {
        "run.seed": ground.seed + 1,
        "data.patients": len(trained.patient_ids),
        "data.largest-hospital": len(trained.patient_ids),
    }
    settings = ground.told(way or Way(regime="C"), told if way else {**told, **CONTROL})
    chosen = trained.patient_ids
    cohorts = ChangedCohorts(ground.cohorts, ground.seed, lambda name, one: one.of_patients(chosen))
    made = train(settings, cohorts, folder)
    module = module_of(settings, ground, made.model)
    shape, classes = ground.cohort.info.shape, len(people.means)
    found = np.stack([inverted(module, one, people.prior, shape) for one in range(classes)])
    areas, errors, like = [], [], []
    for one, direction in enumerate(found - people.prior.mean):
        area, error = _nearness(direction, one, trained, people)
        areas.append(area)
        errors.append(error)
        like.append(_correlations(people.means[[one]] - people.prior.mean, direction))
    limit, level = limit_of_public(settings, ground)
    if not ground.split_by_chance:
        limit = Limit()
    return {
        "way": way.label if way else "control",
        "accuracy": made.accuracy,
        "class_like": float(np.mean(like)),
        "area": float(np.mean(areas)),
        "error": float(np.sqrt(np.sum(np.square(errors)))) / classes,
        "allowed": limit.most_area(),
        "run_epsilon": level,
    }, found


def _one_of_each(records: Records, ground: Ground) -> Records:
    """Return the record of one patient of each class."""
    generator = np.random.default_rng([ground.seed, 0x01AC])
    rows = [
        int(generator.choice(np.flatnonzero(records.labels == one)))
        for one in np.unique(records.labels)
    ]
    return records.take(rows)


def inverted(module: torch.nn.Module, label: int, prior: Prior, shape: Sequence[int]) -> Vector:
    """Return the likeliest record of a class, float64 ``[values]``, by the model and the prior.

    Args:
        module: the model.
        label: the class.
        prior: of records; its standard deviations are what a step is measured in.
        shape: of a record.
    """
    scale = torch.from_numpy(prior.axes * np.sqrt(prior.variances)).float()
    mean = torch.from_numpy(prior.mean).float()
    place = torch.zeros(scale.shape[1], requires_grad=True)
    wanted = torch.tensor([label])
    optimizer = torch.optim.LBFGS([place], max_iter=STEPS, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        optimizer.zero_grad()
        record = (mean + scale @ place).reshape(1, *shape)
        total = functional.cross_entropy(module(record), wanted)
        total = total + 0.5 * PRIOR * place.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(cost)  # type: ignore[no-untyped-call]
    found = mean + scale @ place.detach()
    return np.asarray(found.double().numpy())


def _correlations(rows: Vector, direction: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(direction)
    found: Vector = rows @ direction / np.maximum(lengths, 1e-30)
    return found


def _nearness(
    direction: Vector, label: int, trained: Records, people: _People
) -> tuple[float, float]:
    """Return how much nearer those trained on are, and the standard error of that.

    The error is the largest that a share of so many pairs can have (Hanley and McNeil 1982).
    """
    inside, outside = (
        _correlations(
            _flat(one.take(np.flatnonzero(one.labels == label))) - people.prior.mean, direction
        )
        for one in (trained, people.others)
    )
    higher = np.mean(inside[:, None] > outside[None, :])
    level = np.mean(inside[:, None] == outside[None, :])
    return float(higher + 0.5 * level), 0.5 / float(np.sqrt(min(len(inside), len(outside))))


def _drawn(ground: Ground, labels: Sequence[str], shown: Sequence[Vector]) -> dict[str, Any]:
    info = ground.cohort.info
    if not ground.settings.data.public or not can_be_drawn(info.shape):
        return {}
    return {
        "shape": list(info.shape),
        "labels": list(labels),
        "pictures": [
            [as_text(one, info.input_range) for one in column[:DRAWN]] for column in shown
        ],
    }
