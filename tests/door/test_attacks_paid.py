"""Once a place is paid for, no refusal tells what went wrong: it could tell of the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounting.errors import BookError, LedgerError, LimitRefused
from clients.contract.faults import Code, Fault, read_code
from clients.contract.kinds import Kind
from clients.contract.settings import SettingsError
from clients.data import DataError
from clients.site.hospital import Hospital
from clients.site.own_draws import OwnDraws
from crypto.errors import CapacityError, KeysError, PinMismatchError, SealingError
from tests.door.faults import full
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.world import started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"

ERRORS = [
    *(Fault(code) for code in Code if read_code(code.value) is code),
    Fault(Code.BEHIND, parameter=3),
    Fault(Code.SHARE_REFUSED, parameter=3),
    BookError("stale-place", "a word"),
    LimitRefused("max-epsilon", 2.0, 1.0),
    LedgerError("a word"),
    DataError("a word"),
    SettingsError("a word"),
    CapacityError("a word"),
    KeysError("a word"),
    PinMismatchError("a word"),
    SealingError("a word"),
    MemoryError(),
    PermissionError("a word"),
]


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_whatever_goes_wrong_with_records_is_one_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = started(tmp_path, hospitals=2, privacy__dropouts=0, privacy__spare_attempts=100)
    play.sites.keep(A)
    answers = []
    for attempt, error in enumerate(ERRORS, start=1):
        monkeypatch.setattr(OwnDraws, "records", raising(error))
        answers.append(play.ask(A, Kind.TRAIN, play.request(1, attempt)).code)
    assert set(answers) == {"internal"}
    monkeypatch.setattr(OwnDraws, "records", raising(full()))
    assert play.ask(A, Kind.TRAIN, play.request(1, len(ERRORS) + 1)).code == "disk-full"
    monkeypatch.undo()
    assert play.ask(A, Kind.TRAIN, play.request(1, len(ERRORS) + 2))
    assert play.sites.kinds(A).count("spend") == len(ERRORS) + 2


def test_what_goes_wrong_before_anything_is_paid_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = started(tmp_path, hospitals=2, privacy__dropouts=0)
    for error, code in [
        (Fault(Code.BEHIND, parameter=3), "behind:3"),
        (LimitRefused("max-epsilon", 2.0, 1.0), "limit-refused:max-epsilon"),
    ]:
        monkeypatch.setattr(Hospital, "spend", raising(error))
        assert play.ask(A, Kind.TRAIN, play.request(1)).code == code
    assert "spend" not in play.sites.kinds(A)


@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.HEAD, Kind.BACKWARD])
def test_so_it_is_in_every_turn_of_shared_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    split = SplitPlay(started(tmp_path, hospitals=2, privacy__dropouts=0, **LAYERS))
    turns = {Kind.FORWARD: split.forward, Kind.HEAD: split.head, Kind.BACKWARD: split.backward}
    for turn, asked in turns.items():
        if turn is kind:
            monkeypatch.setattr(OwnDraws, "records", raising(DataError("a word")))
            assert asked(A, 1).code == "internal"
            return
        assert asked(A, 1)
