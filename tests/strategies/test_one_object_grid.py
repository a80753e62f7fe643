"""Messages that travel as one object each: the same training, and hostile ones change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from clients.contract.kinds import Kind
from clients.contract.one_object import is_one_object
from clients.contract.settings import Settings
from clients.contract.terms import hospitals_expected
from strategies.one_object_grid import OneObjectGrid
from tests.exchange_runs import model_bytes, recorded, run_app
from tests.in_process import InProcessGrid, Meddle, hospital_of, server_app, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def run_joined(out: Path, meddle: Meddle | None = None, **changes: object) -> Settings:
    """Train by way of a `OneObjectGrid`; return the settings."""
    settings = small_settings(out, **changes)
    grid = InProcessGrid(settings.to_config(), hospitals_expected(settings), meddle)
    out.mkdir()
    context = Context(
        run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=settings.to_config()
    )
    server_app(OneObjectGrid(grid), context)
    return settings


def test_a_training_is_the_same_and_every_message_is_one_object(tmp_path: Path) -> None:
    sent: list[bool] = []

    def look(asked: Message, reply: Message | None) -> Message | None:
        passing = asked if reply is None else reply
        if passing.has_content():
            sent.append(is_one_object(passing.content))
        return passing

    joined = run_joined(tmp_path / "joined", look)
    apart = small_settings(tmp_path / "apart")
    run_app(apart)
    assert model_bytes(joined) == model_bytes(apart)
    assert len(sent) > 20
    assert all(sent)


def broken(record: ConfigRecord | MetricRecord) -> Meddle:
    def meddle(asked: Message, reply: Message | None) -> Message | None:
        if reply is None:
            return asked
        if hospital_of(asked) == "hospital-03" and asked.metadata.message_type == Kind.TRAIN:
            reply.content = RecordDict({"one-object": record})
        return reply

    return meddle


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({"content": b"\xff\xff\xff"}),
        ConfigRecord({"content": "text"}),
        ConfigRecord({"content": b""}),
        MetricRecord({"content": 1}),
    ],
    ids=["no content", "text", "empty", "another kind"],
)
def test_a_reply_that_cannot_be_read_names_its_sender_alone(
    tmp_path: Path, record: ConfigRecord | MetricRecord
) -> None:
    settings = run_joined(
        tmp_path / "run", broken(record), sealing__scheme="modular", privacy__dropouts=1
    )
    assert {row["hospital"] for row in recorded(settings, "fault")} == {"hospital-03"}
