r"""No command obeys what is in a name: it is shown as it is written, as in `\x1b]0;evil\x07`.

A SuperLink's answers, run folders and ledgers are made by others than who looks at them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from accounting.events import GaussianEvent
from accounting.ledger import Ledger
from clients.contract.settings import Settings
from deployment import cli as asclepias
from deployment.control import Node
from deployment.report import line
from simulations import cli as simulation
from strategies.run.folder import RunFolder
from tests.deployment.real_sites import benchmark_consortium

EVIL = "ly\x1b]0;evil\x07on\u202e[bold]"
SHOWN = r"ly\x1b]0;evil\x07on\u202e[bold]"
#: Everything but printable characters and ends of lines.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


def _shown(printed: str) -> str:
    """Return what was printed without the ends of lines, after a look at every character."""
    assert not _OBEYED.search(printed), printed
    assert "evil" in printed
    return re.sub(r"\s+", "", printed)


class _Control:
    """A SuperLink whose nodes and runs carry such names."""

    def nodes(self) -> list[Node]:
        return [Node(node_id=1, name=EVIL, status=f"online{EVIL}", public_key=b"")]

    def runs(self) -> dict[int, str]:
        return {7: f"finished:{EVIL}"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with such names wherever one can be."""
    path = tmp_path / f"run-{EVIL}"
    path.mkdir()
    folder = RunFolder(path)
    folder.write_config(Settings.from_config({"data.name": f"csv:{EVIL}.csv"}))
    folder.record("start", training="t", scenario=EVIL, regime=EVIL, exchange="x", hospitals=3)
    folder.record("stage", stage=EVIL, done=0, total=5)
    folder.record("warning", message=EVIL)
    folder.record("fault", round=1, attempt=1, hospital=EVIL, code=EVIL)
    folder.record("end", status="stopped", message=EVIL)
    return path


def test_status_shows_names_of_nodes_and_runs_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    folder = made.superlink / "runs" / f"run-{EVIL}"
    folder.mkdir(parents=True)
    (folder / "flower-run-id").write_text("7\n")
    RunFolder(folder).record("end", status=EVIL, message="")

    @contextmanager
    def control_of(link: object) -> Iterator[_Control]:
        yield _Control()

    monkeypatch.setattr("deployment.control.control_of", control_of)
    # A console that was made before keeps its own width, and folds what is longer.
    wide = Console(width=400, soft_wrap=True, highlight=False)
    monkeypatch.setattr("deployment.report._console", wide)
    assert asclepias.main(["status", str(made.superlink)]) == 0
    shown = _shown(capsys.readouterr().out)
    for text in (SHOWN, f"online{SHOWN}", f"finished:{SHOWN}", f"run-{SHOWN}"):
        assert text in shown


def test_checks_show_names_of_keys_as_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    nodes = made.superlink / "nodes"
    (nodes / "hospital-00.pub").rename(nodes / f"{EVIL}.pub")
    assert asclepias.main(["check", "--superlink", str(made.superlink)]) == 1
    printed = capsys.readouterr().out
    assert not _OBEYED.search(printed)
    line(True, f"registered {EVIL}")
    assert SHOWN in _shown(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["watch", "report", "figures"])
def test_commands_on_a_run_show_its_names_as_they_are_written(
    run: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    code = simulation.main([command, str(run)])
    printed = capsys.readouterr()
    text = printed.out + printed.err
    if command == "watch":
        assert code == 1
        shown = _shown(text)
        assert f"warning:{SHOWN}" in shown
        assert f"{SHOWN}didnotcontribute({SHOWN})" in shown
        assert f"stopped:{SHOWN}" in shown
        assert f"{SHOWN}:3hospitals" in shown
    elif text:
        assert SHOWN in _shown(text)


def test_a_live_line_obeys_no_name_either(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import threading

    from rich.console import Console

    from simulations.progress import Display

    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=200, color_system=None)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n")  # still running
    until = threading.Event()
    display = Display(console)
    monkeypatch.setattr("simulations.progress.follow", _until_idle(until))
    display.show(run, until=until)
    text = written.getvalue()
    assert SHOWN in text
    for steering in ("\x1b]0;evil", "\x07", "\u202e"):
        assert steering not in text


def _until_idle(until: object) -> object:
    from strategies.run.events import read_events

    def follow(path: Path, until: object) -> Iterator[dict | None]:
        yield from read_events(path)
        yield None

    return follow


def test_a_page_shows_names_as_they_are_written(run: Path) -> None:
    from simulations.pages.report import write_report
    from strategies.run.reading import read_run

    page = write_report(read_run(run)).read_text()
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    assert SHOWN in page
    assert "<script>alert" not in page


def test_a_ledger_shows_names_as_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.0)
    with Ledger(path, site=EVIL, cohort=EVIL) as ledger:
        ledger.spend(event, training=EVIL, round=1, attempt=1, purpose=EVIL)
    monkeypatch.setenv("COLUMNS", "400")
    assert simulation.main(["ledger", str(path)]) == 0
    shown = _shown(capsys.readouterr().out)
    assert shown.count(SHOWN) >= 2
    assert simulation.main(["ledger", str(path), "--json"]) == 0
    printed = capsys.readouterr().out
    assert not _OBEYED.search(printed)
    assert json.loads(printed)[0]["site"] == EVIL


def test_errors_and_logs_show_names_as_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    from simulations.launch import logging_to

    assert simulation.main(["report", str(tmp_path / EVIL)]) == 2
    assert SHOWN in _shown(capsys.readouterr().err)
    with logging_to(tmp_path / "run.log", "info", terminal=False):
        logging.getLogger("strategies").warning("%s\nwas late", EVIL)
    text = (tmp_path / "run.log").read_text()
    assert f"{SHOWN}\n  was late\n" in text
    assert not _OBEYED.search(text)
