"""Where another process leads a training, trackers see all of it and the audit after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accounting.errors import AuditFailed
from accounting.randomness import Stream
from simulations.engines.app_tracking import tracked
from simulations.run_audit import audit_run
from strategies.run.reading import read_run
from tests.audit.given_noise import set_noise
from tests.exchange_runs import run_app
from tests.in_process import small_settings
from tests.strategies.run.test_tracking_wandb import _own_home, stored_runs

__all__ = ["_own_home"]  # a home of its own for Weights & Biases, for this module as well

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]


def train(out: Path) -> None:
    """Let apps that know of no tracker train into a folder; audit it here, as for Flower's."""
    changes = {"audit__canaries": 500, "training__sampling_rate": 1.0}
    settings = small_settings(out, tracking__wandb="offline", training__rounds=2, **changes)
    with tracked(settings) as app_settings:
        run_app(app_settings)
        audit_run(out, lambda *_: None)


def test_weights_and_biases_shows_the_audit_beside_the_claims(tmp_path: Path) -> None:
    train(tmp_path)
    stored, run = stored_runs(tmp_path)["server"], read_run(tmp_path)
    assert stored.rows
    assert stored.config["tracking"]["wandb"] == "offline" == run.settings.tracking.wandb
    assert stored.summary["audited"] and stored.summary["status"] == "finished"
    [table] = tmp_path.glob("wandb/offline-run-*/files/media/table/observers*")
    content = json.loads(table.read_text())
    shown = [row[content["columns"].index("epsilon_at_least")] for row in content["data"]]
    assert shown == [one["audit"]["epsilon"] for one in run.privacy["observers"]]
    assert all(value > 0.0 for value in shown)


def test_an_audit_that_fails_is_the_end_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Stream.normal
    set_noise(monkeypatch, lambda self, count: 0.5 * honest(self, count))
    with pytest.raises(AuditFailed, match="cannot be chance"):
        train(tmp_path)
    stored, run = stored_runs(tmp_path)["server"], read_run(tmp_path)
    assert run.progress.status == stored.summary["status"] == "failed"
    assert not stored.summary["audited"]
    assert "cannot be chance" in run.progress.message
