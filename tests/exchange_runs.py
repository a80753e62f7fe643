"""Runs of the whole app in this process, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file

from clients.client_app import app as client_app
from clients.contract.settings import Settings
from clients.contract.terms import hospitals_expected
from clients.site import hospital as hospitals
from strategies.server_app import app as server_app
from tests.in_process import InProcessGrid, Meddle, small_settings

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


def forget_processes() -> None:
    """Drop what processes of hospitals keep in memory."""
    hospitals._SESSIONS.clear()
    hospitals._MEMBERSHIPS.clear()


def run_app(settings: Settings, meddle: Meddle | None = None) -> InProcessGrid:
    """Train with fresh processes; the grid that comes back is also `run_app.grid`."""
    config = settings.to_config()
    grid = InProcessGrid(client_app, config, hospitals_expected(settings), meddle)
    run_app.grid = grid  # type: ignore[attr-defined]
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    Path(settings.run.out).mkdir(parents=True, exist_ok=True)
    forget_processes()
    server_app(grid, context)
    return grid


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
