"""Adversarial examples: records changed by as little as cannot be seen, until a model errs.

FGSM takes one step along the sign of the loss' gradient (Goodfellow et al. 2015); PGD takes many
small ones and stays within the radius (Madry et al. 2018). No value moves by more than the radius,
in widths of its public range. Epsilon is a promise about who was trained on, not about records
that a model is asked about, so it promises no accuracy under attack: 0 is allowed, noise or not.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from clients.contract.settings import ConfigValue
from clients.learning.adversary import changed_against
from simulations.attacks.ground import Ground, Way
from simulations.attacks.membership import limit_of_public
from simulations.attacks.result import Column, Control, Result
from simulations.attacks.shadow_models import module_of
from simulations.attacks.trainings import ChangedCohorts, train

NAME = "adversarial"
#: How far a value may move, in widths of its range, and the steps of PGD.
RADII, STEPS = (0.01, 0.03, 0.1), 20
#: A step of PGD, in radii.
STRIDE = 2.5 / STEPS
#: Records of the holdout that are attacked, at the most.
MOST = 500
#: What the control has to lose at the largest radius.
LOST = 0.2

COLUMNS = (
    Column(key="way", title="Regime", form="text"),
    Column(key="clean", title="Accuracy"),
    Column(key=f"fgsm_{RADII[-1]:g}", title=f"FGSM {RADII[-1]:g}"),
    *(Column(key=f"pgd_{radius:g}", title=f"PGD {radius:g}") for radius in RADII),
    Column(key="allowed", title="Allowed"),
    Column(key="run_epsilon", title="epsilon", form="epsilon"),
)
CAPTION = (
    "Accuracy on records of the public holdout that are changed against the model, whose weights "
    "the attacker has; no value moves by more than the radius, in widths of its range. Allowed: "
    "the least that is promised, which is nothing: epsilon is about who was trained on, not about "
    "what a model is asked. Epsilon: against the public, of the training."
)


def attack(ground: Ground) -> Result:
    """Train each regime twice and change the holdout's records against its models.

    Once it learns from records as they are, once from records that are moved against it:
    `training.adversarial`, or by the largest radius.

    Raises:
        SettingsError: the exchange leaves no single model of sums, it learns from features, or
            nothing is held out.
    """
    started = time.perf_counter()
    public = f"{NAME} changes records of the public holdout, and there is none."
    faults = () if len(ground.cohort.holdout) else (public,)
    ground.require(NAME, about="one final model of opened sums", records="changes", faults=faults)
    met = ground.settings.training.adversarial or RADII[-1]
    ways = list(ground.ways())
    if not any(way.epsilon is None for way in ways):
        ways.insert(0, Way(regime="F"))
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for number, (way, radius) in enumerate(itertools.product(ways, (0.0, met))):
            ground.listener(f"attack {NAME}, trainings", number, 2 * len(ways))
            rows.append(_row(ground, way, radius, Path(place) / f"run-{number}"))
    control = next(row for row in rows if row["run_epsilon"] is None)
    under = control[f"pgd_{RADII[-1]:g}"]
    return Result(
        attack=NAME,
        title="Accuracy on records that are changed against the model",
        columns=COLUMNS,
        rows=rows,
        caption=CAPTION,
        control=Control(
            text=f"{control['way']}: accuracy {control['clean']:.3f}, and {under:.3f} where values "
            f"move by {RADII[-1]:g} of their range",
            succeeded=bool(control["clean"] - under >= LOST),
        ),
        drawn={"radii": [0.0, *RADII]},
        facts=f"{ground.settings.data.name}, {ground.settings.model.name}, one training a row",
        seed=ground.seed,
        seconds=time.perf_counter() - started,
    )


def _row(ground: Ground, way: Way, radius: float, folder: Path) -> dict[str, Any]:
    """Train one way, on records that are moved by so much against the model, and attack it."""
    told: dict[str, ConfigValue] = {"run.seed": ground.seed + 1, "training.adversarial": radius}
    settings = ground.told(way, told)
    cohorts = ChangedCohorts(ground.cohorts, ground.seed, lambda name, records: records)
    module = module_of(settings, ground, train(settings, cohorts, folder).model)
    holdout, info = ground.cohort.holdout, ground.cohort.info
    drawn = np.random.default_rng([ground.seed, 0xAD5E]).permutation(len(holdout))[:MOST]
    judged = holdout.take(np.sort(drawn))
    inputs = torch.as_tensor(np.asarray(judged.inputs, dtype=np.float32))
    labels = torch.as_tensor(judged.labels)
    label = f"{way.label}, trained against {radius:g}" if radius else way.label
    found: dict[str, Any] = {"way": label, "clean": accuracy(module, inputs, labels)}
    for name, steps in (("fgsm", 1), ("pgd", STEPS)):
        for radius in RADII:
            rows = changed(module, inputs, labels, radius, info.input_range, steps)
            found[f"{name}_{radius:g}"] = accuracy(module, rows, labels)
    return {**found, "allowed": 0.0, "run_epsilon": limit_of_public(settings, ground)[1]}


@torch.no_grad()
def accuracy(module: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of records that the model is right about."""
    guesses = torch.cat([module(part) for part in torch.split(inputs, 256)]).argmax(dim=1)
    return float((guesses == labels).double().mean())


def changed(
    module: torch.nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    radius: float,
    bounds: tuple[float, float],
    steps: int,
) -> torch.Tensor:
    """Return records that the model is likelier to be wrong about, of the same shape.

    Args:
        module: the model.
        inputs: float32 ``[n, *shape]``.
        labels: int64 ``[n]``, the truth.
        radius: how far a value may move, in widths of its range.
        bounds: lowest and highest value.
        steps: 1 for FGSM; more for PGD, which starts at the record itself.
    """
    reach = radius * (bounds[1] - bounds[0])

    def loss_of(rows: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(module(rows), truth, reduction="sum")

    return torch.cat(
        [
            changed_against(
                partial(loss_of, truth=truth),
                rows,
                reach=reach,
                bounds=bounds,
                steps=steps,
                stride=reach if steps == 1 else reach * STRIDE,
            )
            for rows, truth in zip(torch.split(inputs, 256), torch.split(labels, 256), strict=True)
        ]
    )
