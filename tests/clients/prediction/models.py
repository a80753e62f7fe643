"""Artefacts with random weights, made as a run makes them, without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from clients.contract.model_settings import Model
from clients.data.records import DatasetInfo
from clients.models.catalogue import architecture_of
from clients.prediction.artefact import Artefact
from clients.prediction.doubt import Doubt

VISITS = """\
patient_id;age;pulse;sex;outcome
a;54;80;f;alive
b;120;x;m;dead
c;31;70
d;;;;
b;60;65;M;
"""
VISITS_TOML = """\
target = "outcome"
classes = ["alive", "dead"]
patient = "patient_id"
[ranges]
age = [0, 110]
pulse = [30, 200]
[kinds]
sex = ["f", "m"]
"""


def write_visits(folder: Path, text: str = VISITS, declaration: str = VISITS_TOML) -> Path:
    file = folder / "visits.csv"
    file.write_text(text, encoding="utf-8")
    if declaration:
        file.with_suffix(".toml").write_text(declaration, encoding="utf-8")
    return file


def visits_info(folder: Path) -> DatasetInfo:
    """Public facts of the table of visits, as a training finds them."""
    from clients.data import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"p{k};50;70;f;{'alive' if k % 2 else 'dead'}\n" for k in range(6))
    file = write_visits(folder, VISITS.splitlines()[0] + "\n" + rows)
    return load_dataset("csv:visits.csv", file.parent).info


def picture_info(shape: tuple[int, ...] = (1, 16, 16), **changes: object) -> DatasetInfo:
    facts: dict[str, object] = {
        "name": "chest-xray",
        "title": "made up",
        "task": "binary",
        "shape": shape,
        "classes": ("normal", "pneumonia"),
        "kind": "image",
        "input_range": (0.0, 1.0),
    }
    return DatasetInfo(**{**facts, **changes})  # type: ignore[arg-type]


def made_artefact(
    info: DatasetInfo, architecture: str, *, members: int = 1, seed: int = 0, scores: int = 100
) -> Artefact:
    """A model of random weights, and scores that allow sets of one class."""
    states = {}
    for number in range(members):
        torch.manual_seed(seed + number)
        module = architecture_of(Model(name=architecture)).build(info)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.5)
        states[f"round-{number:06d}" if members > 1 else "model"] = module.state_dict()
    generator = np.random.default_rng(seed)
    return Artefact(
        info=info,
        architecture=architecture,
        members=states,
        doubt=Doubt(temperature=1.5, scores=np.sort(generator.random(scores) * 0.5)),
        about={"training": "0123"},
    )
