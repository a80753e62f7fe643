"""Answers do not tell what is in the records: the same code whatever they hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from tests.door.world import Play, Sites, agreement_of, door_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"


def table(folder: Path, patients: int, *, cell: str = "0.5", label: str = "no") -> None:
    """A table of so many patients; the last one's row is given."""
    folder.mkdir(exist_ok=True)
    rows = [f"p{k},{k % 7 / 7:.3f},{k % 5 / 5:.3f},{('no', 'yes')[k % 2]}" for k in range(patients)]
    rows[-1] = f"p{patients - 1},{cell},0.25,{label}"
    (folder / "visits.csv").write_text("\n".join(["who,age,dose,ill", *rows]) + "\n")
    (folder / "visits.toml").write_text(
        'patient = "who"\ntarget = "ill"\nclasses = ["no", "yes"]\n'
        "[ranges]\nage = [0.0, 1.0]\ndose = [0.0, 1.0]\n"
    )


def with_tables(folder: Path, own: int = 10, declared: str = "", **last: str) -> Sites:
    sites = Sites(folder / "c", 3, partitions=False, data={"name": "csv:visits.csv", "dir": "."})
    for name in sites.names:
        table(sites.consortium.site(name), own if name == A else 10, **(last if name == A else {}))
        if declared:
            sites.rewrite(name, "[data]\n", f"[data]\npatients = {declared}\n")
        file = sites.consortium.site(name) / "site.toml"
        file.write_text(re.sub(r"(?m)^max-epsilon = .*\n", "", file.read_text()))
        sites.rewrite(name, "min-hospitals = 3", "min-hospitals = 2")
    table(folder / "server", 12)
    return sites


def table_settings(folder: Path, **changes: object):  # type: ignore[no-untyped-def]
    return door_settings(
        **{
            "data__public": False,
            "data__name": "csv:visits.csv",
            "data__dir": str(folder / "server"),
            "data__patients": 30,
            "data__largest_hospital": 10,
            **changes,
        }
    )


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
