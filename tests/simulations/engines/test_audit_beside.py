"""A run's audit is done in a fork beside its training, and is that of the run that has ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from accounting.errors import AuditFailed
from clients.contract.settings import Settings
from clients.contract.terms import hospitals_expected
from clients.data import Cohorts
from simulations.engines import audit_beside
from simulations.engines.audit_beside import AuditBeside
from simulations.engines.forks import Forks
from strategies.holdout import Holdout
from strategies.server_app import make_server_app
from tests.in_process import InProcessGrid, small_settings
from tests.simulations.engine_runs import alive, descendants

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing forks"),
]


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path / "run", audit__canaries=300, training__sampling_rate=1.0)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings) -> AuditBeside:
    """Return the audit of a run that begins."""
    monkeypatch.setattr(audit_beside, "work_in_a_fork", forks.work)
    return AuditBeside(settings, Cohorts().of(settings).outline)


def trained(settings: Settings) -> Path:
    out = Path(settings.run.out)
    out.mkdir()
    config = settings.to_config()
    grid = InProcessGrid(config, hospitals_expected(settings))
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    make_server_app(Holdout)(grid, context)
    assert "audit" not in privacy(out)
    return out


def privacy(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "privacy.json").read_bytes())
    return found


def never(*_: object) -> None:
    raise AssertionError("nothing is audited in this process")


def test_a_fork_has_audited_what_the_run_claims(
    monkeypatch: pytest.MonkeyPatch, beside: AuditBeside, settings: Settings
) -> None:
    monkeypatch.setattr(audit_beside, "audit_run", never)
    out = trained(settings)
    beside(out, lambda *_: None)
    found = privacy(out)
    assert found["audited"] and found["audit"]["passed"]
    assert found["audit"]["canaries"] == 300
    assert json.loads((out / "summary.json").read_bytes())["audited"]


def test_a_run_that_ended_otherwise_than_planned_is_audited_as_it_ended(
    monkeypatch: pytest.MonkeyPatch, beside: AuditBeside, settings: Settings
) -> None:
    monkeypatch.setattr(audit_beside, "audit_run", never)
    out = trained(settings)
    ended = privacy(out)
    assert ended["rounds_spent"] > 2
    (out / "privacy.json").write_text(json.dumps({**ended, "rounds_spent": 2}))
    said: list[tuple[int, int]] = []
    beside(out, lambda stage, done, total: said.append((done, total)))
    assert privacy(out)["audit"]["rounds"] == 2
    assert said[-2:] == [(1, 2), (2, 2)]


def test_what_a_fork_finds_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings
) -> None:
    def work(target: str, first: object) -> Connection | None:
        return forks.work(f"tests.simulations.engines.test_audit_beside:{finds.__name__}", first)

    monkeypatch.setattr(audit_beside, "work_in_a_fork", work)
    monkeypatch.setattr(audit_beside, "audit_run", never)
    said: list[tuple[str, int, int]] = []
    beside = AuditBeside(settings, Cohorts().of(settings).outline)
    with pytest.raises(AuditFailed, match="noise is missing"):
        beside(Path(settings.run.out), lambda *told: said.append(told))
    assert said == [(audit_beside.STAGE, 3, 10)]


def finds(link: Connection) -> None:
    link.recv()
    assert link.recv().is_absolute()
    link.send((3, 10))
    link.send(AuditFailed("noise is missing"))


def test_an_audit_whose_fork_is_lost_is_done_here(
    forks: Forks, beside: AuditBeside, settings: Settings
) -> None:
    end = time.monotonic() + 20
    while not (found := alive(descendants(forks.pid))) and time.monotonic() < end:
        time.sleep(0.01)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    out = trained(settings)
    beside(out, lambda *_: None)
    assert privacy(out)["audited"]


def test_without_a_fork_it_is_done_here(settings: Settings) -> None:
    out = trained(settings)
    AuditBeside(settings, None)(out, lambda *_: None)
    assert privacy(out)["audited"]


def test_a_fork_ends_when_nobody_waits_for_its_audit(forks: Forks, beside: AuditBeside) -> None:
    end = time.monotonic() + 20
    while not (found := alive(descendants(forks.pid))) and time.monotonic() < end:
        time.sleep(0.01)
    assert found
    beside.close()
    while alive(found) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(found)
