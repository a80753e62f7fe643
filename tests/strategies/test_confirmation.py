"""The end of a training by sums: who must have signed before a model leaves a hospital."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Message

from clients.contract.kinds import Kind
from clients.contract.messages import RoundReply
from strategies.errors import TrainingStopped
from tests.exchange_runs import model_bytes, read_json, recorded, run_app
from tests.in_process import Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def away(kind: Kind, *hospitals: str) -> Meddle:
    """Hospitals that do not answer one kind of message."""

    def meddle(message: Message, reply: Message | None) -> Message | None:
        gone = message.metadata.message_type == kind and hospital_of(message) in hospitals
        return None if gone and reply is None else (reply or message)

    return meddle


def test_a_model_needs_no_more_hospitals_than_a_quorum(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, privacy__dropouts=1)
    run_app(settings, away(Kind.CONFIRM, "hospital-03"))
    [confirmed] = recorded(settings, "confirmed")
    assert (confirmed["round"], confirmed["hospitals"], confirmed["needed"]) == (3, 3, 3)
    assert [row["hospital"] for row in recorded(settings, "fault")] == ["hospital-03"]
    assert (tmp_path / "model.safetensors").exists()


def test_too_few_that_confirm_stop_the_run_with_their_names_and_it_can_be_taken_up(
    tmp_path: Path,
) -> None:
    whole = small_settings(tmp_path / "whole", privacy__dropouts=1)
    run_app(whole)
    settings = small_settings(tmp_path / "halves", privacy__dropouts=1, run__attempts=2)
    with pytest.raises(
        TrainingStopped, match=r"2 of 4 hospitals confirmed round 3, needed: 3.*hospital-02.*-03"
    ):
        run_app(settings, away(Kind.CONFIRM, "hospital-02", "hospital-03"))
    assert not (tmp_path / "halves" / "model.safetensors").exists()
    grid = run_app(settings)
    # Whoever has confirmed takes part in no round any more, and confirms once more.
    assert not [m for m in grid.requests if m.metadata.message_type == Kind.TRAIN]
    assert model_bytes(settings) == model_bytes(whole)


def test_where_more_must_confirm_than_a_round_needs_that_is_said_at_the_start(
    tmp_path: Path,
) -> None:
    """Two of four hospitals close a round; two disjoint pairs could each confirm another one."""
    settings = small_settings(tmp_path, privacy__dropouts=2, training__rounds=4)
    with pytest.raises(TrainingStopped, match="2 of 4 hospitals confirmed"):
        run_app(settings, away(Kind.CONFIRM, "hospital-02", "hospital-03"))
    [warning] = recorded(settings, "warning")
    assert "only once 3 have signed" in warning["message"]
    enough = small_settings(tmp_path / "enough", privacy__dropouts=1)
    run_app(enough)
    assert recorded(enough, "warning") == []


def test_a_model_on_the_way_comes_two_rounds_after_its_last_sum(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, training__rounds=6, training__release_every=2)
    grid = run_app(settings)
    came = {}
    for request, reply in zip(grid.requests, grid.replies, strict=True):
        if request.metadata.message_type == Kind.TRAIN:
            number = request.content.config_records["config"]["server-round"]
            if found := RoundReply.read(reply.content).model_round:
                came[number] = found
    assert came == {4: 2, 6: 4}
    assert [row["round"] for row in recorded(settings, "release")] == [2, 4, 6]


def test_a_model_that_is_not_there_yet_is_asked_for_again(tmp_path: Path) -> None:
    """With half of the hospitals in a round, what one needs to release may not be signed yet."""
    seen: list[str] = []

    def first_time_without(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type != Kind.TRAIN or reply is not None:
            return reply or message
        config = message.content.config_records["config"]
        if config["release-from"] and not seen:
            seen.append(str(config["server-round"]))
            config["release-from"] = ""
        return message

    settings = small_settings(tmp_path, training__rounds=6, training__release_every=2)
    run_app(settings, first_time_without)
    assert seen
    assert [row["round"] for row in recorded(settings, "release")] == [2, 4, 6]


def test_the_figures_of_hospitals_are_of_the_model_that_they_confirmed(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    run_app(settings)
    assert len(read_json(settings, "summary.json")["hospital_accuracy"]) == 4
