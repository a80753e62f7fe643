"""A run's audit is done in a fork beside its training, and is that of the run that has ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from accounting.errors import AuditFailed
from accounting.randomness import Stream
from clients.contract.settings import Settings
from clients.contract.terms import hospitals_expected
from clients.data import Cohorts
from simulations.engines import audit_beside
from simulations.engines.audit_beside import AuditBeside
from simulations.engines.forks import Forks
from strategies.holdout import Holdout
from strategies.server_app import make_server_app
from tests.audit.given_noise import set_noise
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
    made = AuditBeside(settings, Cohorts().of(settings).outline)
    assert made._link is not None and made._link.poll(60)  # it has libraries to import first
    return made


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
    beside: AuditBeside, settings: Settings
) -> None:
    out = trained(settings)
    ended = privacy(out)
    assert ended["rounds_spent"] > 2
    (out / "privacy.json").write_text(json.dumps({**ended, "rounds_spent": 2}))
    said: list[tuple[int, int]] = []
    beside(out, lambda stage, done, total: said.append((done, total)))
    assert privacy(out)["audit"]["rounds"] == 2
    assert said[-2:] == [(1, 2), (2, 2)]


def done_by(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings, target: Callable[..., None]
) -> AuditBeside:
    """Return an audit whose fork is another function."""

    def work(_: str, first: object) -> Connection | None:
        name = f"tests.simulations.engines.test_audit_beside:{target.__name__}"
        return forks.work(name, first)

    monkeypatch.setattr(audit_beside, "work_in_a_fork", work)
    made = AuditBeside(settings, Cohorts().of(settings).outline)
    assert made._link is not None
    assert target is never_begun or made._link.poll(60)
    return made


def with_half_the_noise(link: Connection) -> None:
    honest = Stream.normal
    with pytest.MonkeyPatch.context() as patched:
        set_noise(patched, lambda self, count: honest(self, count) * 0.5)
        audit_beside.audit(link)


def test_what_a_fork_finds_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings
) -> None:
    monkeypatch.setattr(audit_beside, "audit_run", never)
    settings = settings.with_config({"audit.canaries": 1500})
    beside = done_by(monkeypatch, forks, settings, with_half_the_noise)
    out = trained(settings)
    with pytest.raises(AuditFailed, match="cannot be chance"):
        beside(out, lambda *_: None)
    summary = json.loads((out / "summary.json").read_bytes())
    assert not summary["audited"] and summary["status"] == "failed"
    assert privacy(out)["audit"]["failures"] and not privacy(out)["audited"]


def test_what_goes_wrong_in_telling_is_told_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    beside = done_by(monkeypatch, forks, settings, dies_with_a_word)
    out = trained(settings)
    with pytest.raises(OSError, match="the disk is full"):
        beside(out, full)
    assert "audit" not in privacy(out)


def never_begun(link: Connection) -> None:
    time.sleep(600)


def never_done(link: Connection) -> None:
    link.send(audit_beside.Begun())
    time.sleep(600)


def dies_with_a_word(link: Connection) -> None:
    link.send(audit_beside.Begun())
    link.send(audit_beside.Progress(1, 2))


def says_what_cannot_be(link: Connection) -> None:
    link.send(audit_beside.Begun())
    link.send_bytes(b"no message")


@pytest.mark.parametrize("target", [never_done, dies_with_a_word, says_what_cannot_be])
def test_an_audit_whose_fork_says_nothing_is_done_here(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings, target: Callable[..., None]
) -> None:
    monkeypatch.setattr(audit_beside, "PATIENCE_SECONDS", 1.0)
    beside = done_by(monkeypatch, forks, settings, target)
    out = trained(settings)
    beside(out, lambda *_: None)
    assert privacy(out)["audited"]
    end = time.monotonic() + 20
    while (found := alive(descendants(forks.pid))) and time.monotonic() < end:
        time.sleep(0.05)
    assert not found


def test_an_audit_that_has_not_begun_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, forks: Forks, settings: Settings
) -> None:
    beside = done_by(monkeypatch, forks, settings, never_begun)
    out = trained(settings)
    start = time.monotonic()
    beside(out, lambda *_: None)
    assert privacy(out)["audited"] and time.monotonic() - start < audit_beside.PATIENCE_SECONDS


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
