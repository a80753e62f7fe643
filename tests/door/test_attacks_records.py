"""Answers do not tell what is in the records: the same code whatever they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from clients.contract.kinds import Kind
from clients.data import DataError, Records
from clients.site import own_records
from clients.site.contributing import Contributing
from clients.site.own_draws import OwnDraws
from tests.door.tables import table_settings, with_tables
from tests.door.twin_worlds import OTHERS, TwinWorlds
from tests.door.world import Play, agreement_of

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"


def answers(folder: Path, own: int = 10, **last: str) -> list[tuple[str, int]]:
    """Codes and sizes of a run's answers at the hospital."""
    folder.mkdir()
    sites = with_tables(folder, own, **last)
    settings = table_settings(folder)
    play = Play.of(sites, settings, agreement_of(settings))
    found = []

    def noted(name: str, kind: Kind, request: object) -> None:
        answer = play.ask(name, kind, request)  # type: ignore[arg-type]
        found.append((answer.code, len(answer.round.sealed) if answer else 0))

    play.begin()
    for round in (1, 2):
        noted(A, Kind.TRAIN, play.request(round))
        play.train(round)
        play.close(round)
    return found


def test_joins_do_not_tell_how_many_patients_there_are(tmp_path: Path) -> None:
    sites = with_tables(tmp_path)
    play = Play.of(sites, table_settings(tmp_path))
    codes = {
        sites.ask(
            A, Kind.JOIN, play.joining(), table_settings(tmp_path, data__largest_hospital=most)
        ).code
        for most in range(1, 25)
        if most != 10
    }
    assert codes == {"training-bound"}
    assert sites.ask(A, Kind.JOIN, play.joining(), play.settings)


def test_one_patient_more_gives_the_same_answers(tmp_path: Path) -> None:
    assert answers(tmp_path / "ten") == answers(tmp_path / "eleven", own=11)


@pytest.mark.parametrize("last", [{"cell": "many"}, {"label": "perhaps"}], ids=["cell", "class"])
def test_one_record_that_cannot_be_read_gives_the_same_answers(
    tmp_path: Path, last: dict[str, str]
) -> None:
    assert answers(tmp_path / "good") == answers(tmp_path / "bad", **last)


def in_both_worlds(other: str, examples: int, steps: int) -> None:
    machine = type("Twins", (TwinWorlds,), {"other": other})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            derandomize=True,
            stateful_step_count=steps,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.parametrize("other", ["one less", "no number", "another"])
def test_no_server_can_tell_two_worlds_apart_that_differ_in_one_record(other: str) -> None:
    in_both_worlds(other, 1, 12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("other", OTHERS)
def test_no_server_can_tell_two_worlds_apart_in_forty_attempts(other: str) -> None:
    in_both_worlds(other, 40, 20)


def unreadable_refused(patch: pytest.MonkeyPatch) -> None:
    """A hospital refuses where one of its records cannot be read."""

    def strict(*_: object) -> None:
        raise DataError("a record cannot be read")

    patch.setattr(own_records, "_log_reading", strict)


def count_compared(patch: pytest.MonkeyPatch) -> None:
    """A hospital refuses a run that declares fewer patients than it has."""
    read = OwnDraws.records

    def strict(self: OwnDraws) -> Records:
        records = read(self)
        if len(records.patient_ids) > self.most_patients():
            raise DataError("more patients than were declared")
        return records

    patch.setattr(OwnDraws, "records", strict)


def size_shown(patch: pytest.MonkeyPatch) -> None:
    """A reply says how many patients were in the batch."""
    seal = Contributing.seal

    def telling(self: Contributing, passage: Any, update: Any, *given: Any, **more: Any) -> Any:
        count = len(self._hospital.own.records().patient_ids)
        more["arrays"] = {"owners": np.zeros(count)}
        return seal(self, passage, update, *given, **more)

    patch.setattr(Contributing, "seal", telling)


@pytest.mark.parametrize(
    ("plant", "other"),
    [(unreadable_refused, "no number"), (count_compared, "one more"), (size_shown, "one less")],
)
def test_a_planted_difference_is_told(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], other: str
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        in_both_worlds(other, 1, 12)
