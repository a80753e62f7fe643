"""Trainings in which hospitals may be missing under one-time keys: the model of `modular`."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from clients.contract.kinds import Kind
from tests.exchange_runs import read_json
from tests.in_process import InProcessGrid, Meddle, hospital_of, server_app, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SHARED = {
    "sealing__scheme": "one-time",
    "partition__hospitals": 5,
    "privacy__dropouts": 1,
    # Noise that no scheme takes a part of: what differs would be the sum.
    "privacy__regime": "FPDP",
}


def run(out: Path, meddle: Meddle | None = None, **changes: object) -> InProcessGrid:
    settings = small_settings(out, **{**SHARED, **changes})
    config = settings.to_config()
    grid = InProcessGrid(config, settings.partition.hospitals, meddle)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    server_app(grid, context)
    return grid


def model(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


class Missing:
    """Hospitals that are silent in some rounds: {round: {name: kinds}}."""

    def __init__(self, plan: dict[int, dict[str, set[Kind]]]) -> None:
        self.plan = plan

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        if reply is not None:
            return reply
        kind = Kind(message.metadata.message_type)
        number = message.content.config_records.get("config", {}).get("server-round", 0)
        silent = self.plan.get(number, {}).get(hospital_of(message), set())
        return None if kind in silent else message


UPDATE, ANSWER = {Kind.TRAIN, Kind.BACKWARD}, {Kind.ANSWER}


@pytest.mark.parametrize(
    "plan",
    [{}, {1: {"hospital-02": UPDATE}, 3: {"hospital-00": UPDATE}}, {2: {"hospital-01": ANSWER}}],
    ids=["all", "updates missing", "a holder silent"],
)
def test_the_model_is_the_one_of_modular_whoever_is_missing(
    tmp_path: Path, plan: dict[int, dict[str, set[Kind]]]
) -> None:
    updates = {n: {h: k & UPDATE for h, k in one.items()} for n, one in plan.items()}
    run(tmp_path / "shared", Missing(plan))
    run(tmp_path / "modular", Missing(updates), sealing__scheme="modular")
    assert model(tmp_path / "shared") == model(tmp_path / "modular")
    settings = small_settings(tmp_path / "shared", **SHARED)
    assert read_json(settings, "summary.json")["status"] == "finished"
