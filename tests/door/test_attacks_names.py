"""What a run names is neither imported nor read at a hospital, whichever setting names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from clients.contract.settings import Settings
from tests.door.sites import Sites
from tests.door.world import Play, door_settings

A = "hospital-00"
NAMES = {
    "data.holdout-from": "named_by_a_run:load",
    "data.name": "named_by_a_run:load",
    "model.name": "named_by_a_run:load",
}


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once the module that a run names was imported."""
    mark = tmp_path / "imported"
    (tmp_path / "named_by_a_run.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "named_by_a_run", raising=False)
    return mark


@pytest.mark.parametrize("key", sorted(NAMES))
def test_a_function_that_a_run_names_is_not_imported(
    tmp_path: Path, imported: Path, key: str
) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    named = Settings.from_config({**play.settings.to_config(), key: NAMES[key]})
    for kind, asked in ((Kind.JOIN, play.joining()), (Kind.TRAIN, play.request(1))):
        answer = play.sites.ask(A, kind, asked, named)
        assert answer.code or key == "data.name"  # in whose place the site's own stands
    assert not imported.exists()


def test_what_a_run_is_judged_on_tells_nothing_of_a_hospitals_files(tmp_path: Path) -> None:
    """Whether a path that a run names is there, and what lies there, gives the same code."""
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    codes = set()
    for name in ("there.csv", "not-there.csv", "there.csv/x"):
        config = {**play.settings.to_config(), "data.holdout-from": f"csv:{tmp_path / name}"}
        settings = Settings.from_config(config)
        codes.add(play.sites.ask(A, Kind.JOIN, play.joining(), settings).code)
    assert codes == {"training-bound"}
