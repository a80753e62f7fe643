"""Runs of the whole app in this process, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file

from clients.contract.settings import Settings
from clients.contract.terms import Terms, agree_terms, hospitals_expected
from clients.models import build_model
from tests.in_process import COHORTS, InProcessGrid, Meddle, server_app, small_settings

#: One hospital, no noise, full batches, nothing sealed: every way of training is the same one.
ALONE = {
    "partition__hospitals": 1,
    "privacy__regime": "F",
    "privacy__noise_multiplier": 0.0,
    "training__sampling_rate": 1.0,
    "training__rounds": 3,
    "sealing__scheme": "plain",
    "model__name": "mlp",
}


def run_app(
    settings: Settings, meddle: Meddle | None = None, *, apart: bool = False
) -> InProcessGrid:
    """Train with fresh processes; the grid that comes back is also `run_app.grid`."""
    config = settings.to_config()
    grid = InProcessGrid(config, hospitals_expected(settings), meddle, apart=apart)
    run_app.grid = grid  # type: ignore[attr-defined]
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    Path(settings.run.out).mkdir(parents=True, exist_ok=True)
    server_app(grid, context)
    return grid


def terms_of(settings: Settings, training: str = "any", sigma: float = 0.0) -> Terms:
    """The terms that a run of a whole model agrees on, from its public numbers."""
    cohort = COHORTS.of(settings)
    module = build_model(settings, cohort.info, settings.public_seed)
    return agree_terms(
        settings,
        training=training,
        dimensions=sum(p.numel() for p in module.parameters()),
        patients=cohort.patients,
        largest_hospital=max(cohort.patients_by_hospital.values()),
        noise_multiplier=sigma or settings.privacy.noise_multiplier,
    )


def trained(path: Path, **changes: object) -> dict[str, np.ndarray]:
    """Train and return the released model's tensors by name."""
    settings = small_settings(path, **changes)
    run_app(settings)
    return model_of(settings)


def model_of(settings: Settings) -> dict[str, np.ndarray]:
    return load_file(Path(settings.run.out) / "model.safetensors")


def model_bytes(settings: Settings) -> bytes:
    return (Path(settings.run.out) / "model.safetensors").read_bytes()


def read_json(settings: Settings, name: str) -> dict:
    return json.loads((Path(settings.run.out) / name).read_text())


def recorded(settings: Settings, kind: str) -> list[dict]:
    lines = (Path(settings.run.out) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two models' tensors."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)
