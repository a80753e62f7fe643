"""Models of the table with weights drawn at random, as artefacts."""

from __future__ import annotations

import numpy as np
import torch

from clients.data.records import DatasetInfo
from clients.models.catalogue import MODELS
from clients.prediction.artefact import Artefact
from clients.prediction.doubt import Doubt


def artefact(name, shape, *, seed=0, classes=4, temperature=1.5, kind="", spread=0.1):
    """Return a model whose weights that start at zero are drawn too."""
    info = DatasetInfo(
        name="made",
        title="made",
        task="multiclass",
        kind=kind or ("image" if len(shape) == 3 else "table"),
        shape=shape,
        classes=tuple("abcdefgh"[:classes]),
        input_range=(0.0, 1.0),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = MODELS[name].build(info)
        with torch.no_grad():
            for tensor in module.parameters():
                tensor += spread * torch.randn_like(tensor) * (tensor.abs().sum() == 0)
    return Artefact(
        info=info,
        architecture=name,
        members={"model": module.state_dict()},
        doubt=Doubt(temperature=temperature, scores=np.linspace(0.01, 0.9, 99)),
    )
