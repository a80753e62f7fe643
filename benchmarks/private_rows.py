"""The models that `private_inference.py` measures: trained here for a minute on real pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from needed_data import data_or_exit

from clients.data import load_dataset
from clients.models.catalogue import MODELS
from clients.prediction.artefact import Artefact
from clients.prediction.doubt import UNKNOWN
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import Compiled
from crypto.inference.words import encode

#: Pictures that no model is trained on: one is timed, the others are compared.
KEPT = 1001


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        model: its name.
        data: what it is trained on.
        side: of the pictures; those of the data are brought to it.
        steps: of Adam, on 32 pictures each, at the side of the data; of ResNet-18, whose first
            layer depends on the side, on 8 of the row's side.
        pictures: over which answers are compared.
    """

    model: str
    data: str
    side: int
    steps: int
    pictures: int


ROWS = {
    "logistic-28": Row("logistic", "mnist", 28, 300, 1000),
    "scattering-64": Row("scattering", "chest-xray", 64, 300, 1000),
    "cnn-28": Row("cnn", "mnist", 28, 300, 1000),
    "cnn-64": Row("cnn", "chest-xray", 64, 100, 1000),
    "squeezenet-64": Row("squeezenet", "chest-xray", 64, 100, 1000),
    "squeezenet-224": Row("squeezenet", "chest-xray", 224, 100, 1000),
    "resnet18-64": Row("resnet18", "chest-xray", 64, 12, 1000),
    "resnet18-224": Row("resnet18", "chest-xray", 224, 6, 1000),
}


@cache
def trained(row: Row) -> tuple[Artefact, list[Any]]:
    """Return a model after a short training in plain, and pictures that it was not trained on."""
    import torch

    with data_or_exit():
        data = load_dataset(row.data, os.environ.get("ASCLEPIAS_DATA"), image_size=64)
    info, records = data.info, data.train
    order = np.random.default_rng(0).permutation(len(records))
    used, rest = order[: min(3000, len(order) - KEPT)], order[-KEPT:]
    sized = replace(info, shape=(info.shape[0], row.side, row.side))
    architecture, alike = MODELS[row.model], row.model != "resnet18"
    torch.manual_seed(0)
    module = architecture.build(info if alike else sized)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    inputs = np.asarray(architecture.prepared(info, records.take(used), None).inputs)
    labels = records.labels[used]
    for step in range(row.steps):
        chosen = np.random.default_rng(step).choice(len(used), 32 if alike else 8)
        batch = inputs[chosen] if alike else np.stack(list(_sized(inputs[chosen], row.side)))
        loss = torch.nn.functional.cross_entropy(
            module(torch.from_numpy(batch)), torch.from_numpy(labels[chosen])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pictures = np.asarray(records.take(np.sort(rest)).inputs, dtype=np.float32)
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    made = Artefact(info=sized, architecture=row.model, members={"model": state}, doubt=UNKNOWN)
    return made, list(_sized(pictures[: 1 + row.pictures], row.side))


def _sized(pictures: Any, side: int) -> Iterator[Any]:
    """Yield pictures, brought to a side."""
    import torch

    for picture in pictures:
        if picture.shape[1] == side:
            yield picture
            continue
        wide = torch.nn.functional.interpolate(
            torch.from_numpy(picture)[None], (side, side), mode="bilinear"
        )
        yield wide[0].clamp(0, 1).numpy()


def shared(compiled: Compiled, predictor: Predictor, picture: Any) -> Any:
    """Return a picture as words."""
    row = predictor.prepared(picture[None])[0] if compiled.features else picture
    return encode(compiled.prepared(row))
