"""Why a model says what it says: coefficients, what a prediction loses without a part, gradients.

A linear model is its coefficients. Of any model, a part of a record (a column, a patch of a
picture) is hidden, that is put to the middle of its public range, and what the favoured class's
log-odds lose by that is its weight (Zeiler and Fergus 2014, "Visualizing and understanding
convolutional networks"). Or gradients of the log-odds are added up on the way from the middle of
the range to the picture, pixel by pixel (Sundararajan, Taly and Yan 2017, "Axiomatic attribution
for deep networks"). It explains the model, not the patient: nothing here is a cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.data import breast_cancer, heart_disease
from clients.data.public_facts import declaration_of
from clients.data.records import DatasetInfo
from clients.prediction.predictor import Predictor
from clients.prediction.whole_module import WholeModule

#: A probability that no sum of floats tells from none.
_LEAST = 1e-12
#: Patches along each side of a picture, and of a volume.
PATCHES = {2: 8, 3: 4}
#: Points on the way from the middle of the range, and how many are differentiated at once.
STEPS, AT_ONCE = 32, 8


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a column of a linear model does.

    Attributes:
        name: of the input.
        by_class: class -> change of its log-odds against the mean of all, from the lowest to the
            highest value of the public range.
    """

    name: str
    by_class: dict[str, float]

    @property
    def size(self) -> float:
        """The largest change of any class."""
        return max(abs(value) for value in self.by_class.values())


def input_names(info: DatasetInfo) -> list[str]:
    """Return a name for each input of a table's rows, in order."""
    if info.declared:
        declared = declaration_of(info)
        names = [
            *declared.ranges,
            *(f"{name} = {kind}" for name, kinds in declared.kinds.items() for kind in kinds),
            *(f"{name} is missing" for name in declared.missing.columns),
        ]
        if names:  # what is declared of arrays names no column
            return names
    if info.name == "breast-cancer":
        return list(breast_cancer.COLUMNS)
    if info.name.startswith("heart-disease"):
        complete = info.name.endswith(":complete")
        columns = heart_disease.COMPLETE if complete else heart_disease.COLUMNS[:-1]
        return heart_disease.input_names(columns)
    return [f"input {number}" for number in range(int(np.prod(info.shape)))]


def groups(info: DatasetInfo) -> dict[str, list[int]]:
    """Return column -> its inputs: those of a category and of its absence belong together."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(input_names(info)):
        column = name.partition(" = ")[0].removesuffix(" is missing")
        found.setdefault(column, []).append(number)
    return found


def effects(predictor: Predictor) -> list[Effect]:
    """Return what each input of a linear model on a table does, strongest first.

    None where the model is not linear, or several models decide together.
    """
    info = predictor.artefact.info
    if info.kind != "table" or len(predictor.modules) != 1:
        return []
    [module] = predictor.modules.values()
    layers = [one for one in module.modules() if not list(one.children())]
    if [one for one in layers if not isinstance(one, nn.Identity | nn.Flatten | nn.Linear)]:
        return []
    linear = [one for one in layers if isinstance(one, nn.Linear)]
    if len(linear) != 1:
        return []
    weights = linear[0].weight.detach().double().numpy() / predictor.artefact.doubt.temperature
    low, high = info.input_range
    moved = (high - low) * (weights - weights.mean(axis=0))
    found = [
        Effect(name=name, by_class=dict(zip(info.classes, column.tolist(), strict=True)))
        for name, column in zip(input_names(info), moved.T, strict=True)
    ]
    return sorted(found, key=lambda one: -one.size)


def column_weights(
    predictor: Predictor, records: NDArray[np.float32]
) -> list[list[tuple[str, float]]]:
    """Return for each row of a table what its favoured class loses without each column.

    Args:
        predictor: the model.
        records: float32 [n, width].

    Returns:
        (column, log-odds lost), strongest first.
    """
    parts = groups(predictor.artefact.info)
    found = []
    for record in records:
        hidden = np.repeat(record[None], len(parts), axis=0)
        for row, inputs in enumerate(parts.values()):
            hidden[row, inputs] = 0.0
        losses = _losses(predictor, record, hidden)
        found.append(sorted(zip(parts, losses.tolist(), strict=True), key=lambda one: -abs(one[1])))
    return found


def patch_weights(predictor: Predictor, record: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what a picture's or volume's favoured class loses without each patch of it.

    Args:
        predictor: the model.
        record: float32 [channels, *space].

    Returns:
        float64 [8, 8] for a picture, [4, 4, 4] for a volume; fewer where it is smaller.
    """
    space = record.shape[1:]
    counts = [min(PATCHES[len(space)], side) for side in space]
    edges = [
        np.linspace(0, side, count + 1).astype(int)
        for side, count in zip(space, counts, strict=True)
    ]
    middle = sum(predictor.artefact.info.input_range) / 2
    places = list(np.ndindex(*counts))
    hidden = np.repeat(record[None], len(places), axis=0)
    for row, place in enumerate(places):
        box = (slice(edge[at], edge[at + 1]) for edge, at in zip(edges, place, strict=True))
        hidden[row][(slice(None), *box)] = middle
    return _losses(predictor, record, hidden).reshape(counts)


class NoGradients(ValueError):
    """A model whose log-odds have no gradient by the picture."""


def gradient_weights(
    predictor: Predictor, record: NDArray[np.float32], *, steps: int = STEPS
) -> NDArray[np.float64]:
    """Return what each pixel adds to the log-odds of a picture's or volume's favoured class.

    Args:
        predictor: the model.
        record: float32 [channels, *space].
        steps: points at which the gradient is taken.

    Returns:
        float64 [*space]; together they are what the log-odds differ by from those of a picture of
        the middle of the range, up to what so many steps leave out.

    Raises:
        NoGradients: members vote by majority, or its features cannot be differentiated.
    """
    if predictor.artefact.vote == "majority" and len(predictor.modules) > 1:
        raise NoGradients("members decide by majority, which has no gradient")
    try:
        module = WholeModule(predictor, real=True)
    except ValueError as error:
        raise NoGradients(str(error)) from None
    shown = torch.from_numpy(np.ascontiguousarray(record))
    middle = torch.full_like(shown, sum(predictor.artefact.info.input_range) / 2)
    favoured = int(predictor.chances(record[None])[0].argmax())
    total = torch.zeros(shown.shape, dtype=torch.float64)
    for start in range(0, steps, AT_ONCE):
        # Of fixed features slopes change most near the middle, where nothing is seen yet: so points
        # lie at cubes, and weigh as much as there is between them.
        numbers = torch.arange(start, min(start + AT_ONCE, steps)).reshape(-1, *(1,) * shown.ndim)
        way = ((numbers + 0.5) / steps) ** 3
        apart = ((numbers + 1) / steps) ** 3 - (numbers / steps) ** 3
        points = (middle + way * (shown - middle)).requires_grad_()
        chances = module(points).clamp(min=_LEAST)
        # Not 1 - p: of a probability near one float32 has lost it.
        rest = torch.cat([chances[:, :favoured], chances[:, favoured + 1 :]], dim=1).sum(dim=1)
        odds = chances[:, favoured].log() - rest.log()
        (slopes,) = torch.autograd.grad(odds.sum(), points)
        total += (slopes * apart).double().sum(dim=0)
    added = (total * (shown - middle)).sum(dim=0).numpy()
    if not np.all(np.isfinite(added)):
        raise NoGradients("its gradients are not finite")
    return np.asarray(added)


def _losses(
    predictor: Predictor, record: NDArray[np.float32], hidden: NDArray[np.float32]
) -> NDArray[np.float64]:
    chances = predictor.chances(np.concatenate([record[None], hidden]))
    favoured = np.clip(chances[:, chances[0].argmax()], _LEAST, 1 - _LEAST)
    odds = np.log(favoured / (1 - favoured))
    return np.asarray(odds[0] - odds[1:])
