"""Every simulated run carries an audit, and one whose promise does not hold fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from accounting.errors import AuditFailed
from accounting.randomness import Stream
from clients.contract.terms import hospitals_expected
from simulations.cli import main
from simulations.pages.report import render_report
from simulations.pages.tables import observer_table, summary_table
from simulations.run_audit import audit_run, planned_run
from strategies.holdout import Holdout
from strategies.run.audited import run_to_audit
from strategies.run.reading import read_run
from strategies.server_app import make_server_app
from tests.audit.given_noise import set_noise
from tests.in_process import InProcessGrid, small_settings
from tests.same_chances import same_chances
from tests.simulations.test_progress import printed

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

CANARIES = {"audit__canaries": 1500, "training__sampling_rate": 1.0}
#: A scenario that is not run, with few claims.
PLANNED = [
    "--set", "audit.canaries=500", "--set", "training.rounds=3",
    "--set", "training.sampling-rate=1.0",
    "--set", "privacy.regime=FPDP", "--set", "sealing.scheme=plain",
]  # fmt: skip


def train(out: Path, **changes: object) -> None:
    """Train as the engine on Ray does: with an audit at the end."""
    settings = small_settings(out, **{**CANARIES, **changes})
    out.mkdir(parents=True)
    config = settings.to_config()
    grid = InProcessGrid(config, hospitals_expected(settings))
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    make_server_app(Holdout, audit_run)(grid, context)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audited") / "run"
    with same_chances("audited"):
        train(out)
    return out


def test_a_run_has_a_bound_beside_every_claim(audited: Path) -> None:
    run = read_run(audited)
    assert run.summary["status"] == "finished"
    assert run.summary["audited"] and run.privacy["audited"]
    assert run.privacy["audit"]["passed"] and run.privacy["audit"]["canaries"] == 1500
    for row in run.privacy["observers"]:
        assert 0.0 < row["audit"]["epsilon"] < 2.0 * row["epsilon"]["prv"]
        assert row["audit"]["error"] == 0.05
        shown = run.summary["audit"]["epsilon_at_least"][row["observer"]]
        assert shown == row["audit"]["epsilon"]
    kinds = [event["kind"] for event in run.events]
    assert kinds[-1] == "end" and run.progress.status == "finished"


def test_terminal_and_report_show_claim_and_bound_side_by_side(audited: Path) -> None:
    run = read_run(audited)
    text = printed(summary_table(run.summary)) + printed(observer_table(run.privacy["observers"]))
    assert "attack" in text and "passed: 5 claims, 1,500 made-up patients" in text
    page = render_report(run)
    assert "attack shows at least" in page and "noise that came before" in page
    assert "Steinke" not in page or "nothing but independent coins" in page


def test_what_was_claimed_is_read_back_from_the_folder(audited: Path) -> None:
    _, run = run_to_audit(audited)
    planned = planned_run(read_run(audited).settings)
    assert run == planned


def test_a_training_without_an_audit_is_not_called_audited(tmp_path: Path) -> None:
    train(tmp_path / "run", audit__enabled=False)
    run = read_run(tmp_path / "run")
    assert not run.privacy["audited"] and "audit" not in run.privacy
    assert "audited" not in run.summary
    page = render_report(run)
    assert "attack" not in page and "udited" not in page


def test_without_a_guarantee_nothing_is_called_audited(tmp_path: Path) -> None:
    train(tmp_path / "run", privacy__regime="F", privacy__noise_multiplier=0.0)
    run = read_run(tmp_path / "run")
    assert run.privacy["audit"]["findings"] == [] and not run.privacy["audited"]
    assert "nothing to attack" in render_report(run)


def test_a_run_with_less_noise_than_it_says_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, out = Stream.normal, tmp_path / "run"
    set_noise(monkeypatch, lambda self, count: honest(self, count) * 0.5)
    with pytest.raises(AuditFailed, match="cannot be chance"):
        train(out)
    run = read_run(out)
    assert run.summary["status"] == run.progress.status == "failed"
    assert not run.summary["audited"] and not run.privacy["audited"]
    assert run.summary["audit"]["failures"] == run.privacy["audit"]["failures"] != []
    assert run.progress.message.startswith("The audit failed")
    assert "FAILED" in printed(summary_table(run.summary)) and "FAILED" in render_report(run)
    # So does the command, for a run and for what is only planned.
    assert main(["audit", str(out)]) == 1
    assert main(["audit", "default", *PLANNED]) == 1
    printed_out, error = capsys.readouterr()
    assert "failed: noise" in printed_out and "The audit failed" in error


def test_the_command_audits_a_run_again_and_what_is_planned(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_run(audited).privacy["audit"]["findings"]
    assert main(["audit", str(audited)]) == 0
    assert "what an attack shows" in capsys.readouterr().out
    assert read_run(audited).privacy["audit"]["findings"] != before
    assert main(["audit", "default", *PLANNED, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["canaries"] == 500 and len(found["findings"]) == 2


@pytest.mark.parametrize(
    "words, says",
    [
        (["audit", "nowhere"], "nowhere"),
        (["audit", "RUN", "--set", "training.rounds=3"], "audited as it was"),
    ],
)
def test_what_cannot_be_audited_is_said(
    audited: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(audited) if word == "RUN" else word for word in words]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_without_a_run_that_ended_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("")
    assert main(["audit", str(tmp_path)]) == 2
    assert "config.toml" in capsys.readouterr().err
