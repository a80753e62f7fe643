"""The app on a real SuperLink and real SuperNodes, over TLS with node authentication."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.contract.settings import Settings
from deployment.cli import main
from deployment.errors import DeploymentError
from tests.deployment.local_deployment import (
    LocalDeployment,
    events,
    ledger_rounds,
    local_deployment,
    rounds,
    settings_of,
)
from tests.deployment.proofs import assert_nothing_lost_or_leaked
from tests.deployment.real_sites import train
from tests.in_process import InProcessGrid

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: The default scenario, seeded; three hospitals and few rounds where time is short.
SHORT = ("partition.hospitals=3", "training.rounds=4", "run.seed=7", "tracking.wandb=disabled")
WHOLE = ("run.seed=7", "tracking.wandb=disabled")


def _simulate(assignments: tuple[str, ...], out: Path) -> bytes:
    """Simulate the same settings with the apps alone, and return the model."""
    settings: Settings = settings_of("default", assignments, {"run.out": str(out)})
    train(settings, InProcessGrid(settings.to_config(), settings.partition.hospitals))
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    folder = tmp_path_factory.mktemp("deployed") / "consortium"
    with local_deployment(folder, settings_of("default", SHORT, {})) as made:
        made.start()
        yield made
        assert_nothing_lost_or_leaked(made)


def test_a_deployed_run_ends_in_the_bit_identical_model_of_the_simulated_one(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    submission, status = deployment.run(*SHORT)
    assert status == "finished", (events(submission), deployment.log("superlink"))
    model = (submission.folder / "model.safetensors").read_bytes()
    assert model == _simulate(SHORT, tmp_path / "simulated")
    lines = ledger_rounds(deployment, "hospital-01")
    spent = [line for line in lines if line.get("kind") == "spend"]
    assert [line["round"] for line in spent] == [1, 2, 3, 4]


def test_checks_are_green_and_hospitals_shown_while_all_is_well(
    deployment: LocalDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--site", str(deployment.consortium.site("hospital-00"))]) == 0
    assert main(["check", "--superlink", str(deployment.consortium.superlink)]) == 0
    assert main(["status", str(deployment.consortium.superlink)]) == 0
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert "3 of 3 hospitals are connected" in printed
    assert all(name in printed for name in deployment.names)


def test_a_hospital_killed_in_a_round_is_done_without_when_that_was_planned(
    deployment: LocalDeployment,
) -> None:
    changes = ("privacy.dropouts=1", "run.timeout=120.0", "training.rounds=5", "data.public=false")
    submission = deployment.submit(*SHORT, *changes)
    deployment.until(lambda: len(rounds(submission)) >= 2, "two rounds")
    deployment.kill("hospital-02")
    status = deployment.wait(submission)
    assert status == "finished", events(submission)
    counts = [event["contributions"] for event in rounds(submission)]
    assert counts[0] == 3
    assert counts[-1] == 2
    faults = [event for event in events(submission) if event["kind"] == "fault"]
    assert {(fault["hospital"], fault["code"]) for fault in faults} == {
        ("hospital-02", "unreachable")
    }
    summary = json.loads((submission.folder / "summary.json").read_text())
    planned = settings_of("default", [*SHORT, *changes], {})
    assert summary["epsilon"]["prv"] <= planned.privacy.target_epsilon
    assert summary["epsilon"]["prv"] >= 0.9 * planned.privacy.target_epsilon


def test_a_run_with_too_few_hospitals_says_so_at_once(deployment: LocalDeployment) -> None:
    with pytest.raises(DeploymentError, match="of 4 hospitals are connected"):
        deployment.submit(*SHORT, "partition.hospitals=4")


@pytest.mark.deployment
def test_the_whole_default_scenario_ends_in_the_simulated_model(tmp_path: Path) -> None:
    with local_deployment(tmp_path / "c", settings_of("default", WHOLE, {})) as deployment:
        deployment.start()
        submission, status = deployment.run(*WHOLE, seconds=3000)
        assert status == "finished", events(submission)
        model = (submission.folder / "model.safetensors").read_bytes()
    assert model == _simulate(WHOLE, tmp_path / "simulated")
