"""A server that shows hospitals different sums of one round."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply, bytes_to_array
from clients.contract.settings import Settings
from crypto.headers import SignedHeader
from crypto.roles import Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder
from strategies.errors import TrainingStopped
from strategies.secure_fedavg import SecureFedAvg
from tests.exchange_runs import read_json, recorded, run_app, terms_of
from tests.in_process import (
    hospital_of,
    small_settings,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing:UserWarning",
)


class TwoFacedServer:
    """Shows one hospital a total of round 1 that leaves another hospital out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._replies: dict[str, RoundReply] = {}

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        name = hospital_of(message)
        if message.metadata.message_type != Kind.TRAIN:
            return reply or message
        config = message.content.config_records["config"]
        if reply is not None:
            if config["server-round"] == 1 and reply.has_content():
                self._replies[name] = RoundReply.read(reply.content)
            return reply
        if config["server-round"] == 2 and name == "hospital-03":
            arrays = {
                **message.content.array_records[ARRAYS],
                **self._other_total(config["training"]),
            }
            message.content = RecordDict({ARRAYS: ArrayRecord(arrays), "config": config})
        return message

    def _other_total(self, training: str) -> dict:
        replies = [self._replies[f"hospital-0{k}"] for k in (0, 1, 3)]
        adder = make_adder(terms_of(self._settings, training).sealing)
        for reply in replies:
            adder.add(Sealed(payload=reply.sealed))
        roster = Roster.of(SignedHeader.from_bytes(reply.header) for reply in replies)
        return {
            "sum.1": bytes_to_array(adder.total().payload),
            "roster.1": bytes_to_array(roster.to_bytes()),
        }


def test_a_process_that_has_opened_a_sum_refuses_another_for_the_round(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, run__attempts=1, privacy__dropouts=1)
    with suppress(TrainingStopped):  # whoever is asked first decides which sum is "another"
        run_app(settings, TwoFacedServer(settings))
    faults = [row for row in recorded(settings, "fault") if row["round"] == 2]
    assert {row["code"] for row in faults} <= {"opening-refused", "previous-mismatch"}
    assert "opening-refused" in {row["code"] for row in faults}
    assert read_json(settings, "summary.json")["status"] == (
        "finished" if len(faults) == 1 else "stopped"
    )


def test_a_hospital_that_opened_another_sum_is_seen_on_arrival_and_left_out(
    tmp_path: Path,
) -> None:
    """Its header says what it opened; were it in a roster, every hospital would refuse that."""
    settings = small_settings(tmp_path, run__attempts=1, privacy__dropouts=1)
    run_app(settings, TwoFacedServer(settings), apart=True)
    first, *later = recorded(settings, "fault")
    assert (first["round"], first["hospital"]) == (2, "hospital-03")
    assert first["code"] == "previous-mismatch"
    assert {(row["hospital"], row["code"]) for row in later} == {("hospital-03", "opening-refused")}
    assert read_json(settings, "summary.json")["status"] == "finished"


def test_hospitals_that_opened_different_sums_notice_and_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference of the two sums is one hospital's update: nobody contributes after it."""

    def believed(_: object, reply: RoundReply, *__: object) -> SignedHeader:
        return SignedHeader.from_bytes(reply.header)

    monkeypatch.setattr(SecureFedAvg, "_checked", believed)
    changes = {"privacy__dropouts": 1, "privacy__spare_attempts": 0}
    settings = small_settings(tmp_path, run__attempts=1, **changes)
    run_app(settings, TwoFacedServer(settings), apart=True)
    third = [row for row in recorded(settings, "round") if row["round"] == 3]
    assert [row["contributions"] for row in third] == [0]
    assert {row["code"] for row in recorded(settings, "fault") if row["round"] == 3} == {
        "opening-refused"
    }
    # No spare attempt is left to do round 2 again, so what comes out is the model before it.
    assert read_json(settings, "summary.json")["rounds"] == 1
    assert "spare-attempts" in recorded(settings, "end")[0]["message"]
    logs = [path.read_text() for path in tmp_path.rglob("hospital.log")]
    assert sum("PreviousMismatchError" in log for log in logs) == 4
