"""The app on a real SuperLink and real SuperNodes, over TLS with node authentication."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Error, Message

from clients.contract.faults import FLOWER_ERROR_CODE
from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.contract.settings import Settings
from deployment.cli import main
from deployment.errors import DeploymentError
from strategies.conversation import UNREACHABLE
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
from tests.in_process import InProcessGrid, Meddle, hospital_of

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: The default scenario, seeded; three hospitals and few rounds where time is short.
SHORT = ("partition.hospitals=3", "training.rounds=3", "run.seed=7", "tracking.wandb=disabled")
WHOLE = ("run.seed=7", "tracking.wandb=disabled")
Place = tuple[int, int]


def _simulate(assignments: tuple[str, ...], out: Path, meddle: Meddle | None = None) -> bytes:
    """Simulate the same settings with the apps alone, and return the model."""
    settings: Settings = settings_of("default", assignments, {"run.out": str(out)})
    train(settings, InProcessGrid(settings.to_config(), settings.partition.hospitals, meddle))
    return (out / "model.safetensors").read_bytes()


def _gone_from(place: Place, hospital: str) -> Meddle:
    """Have a hospital be gone from a place on, as the SuperLink says of one that was killed."""
    gone = False

    def meddle(message: Message, reply: Message | None) -> Message | None:
        nonlocal gone
        if reply is None and message.metadata.message_type == Kind.TRAIN:
            asked = RoundRequest.read(message.content)
            gone = gone or (asked.round, asked.attempt) >= place
        if gone and hospital_of(message) == hospital:
            return Message(Error(FLOWER_ERROR_CODE, UNREACHABLE), reply_to=message)
        return message if reply is None else reply

    return meddle


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    folder = tmp_path_factory.mktemp("deployed") / "consortium"
    with local_deployment(folder, settings_of("default", SHORT, {})) as made:
        made.start()
        yield made
        assert_nothing_lost_or_leaked(made)


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


@pytest.mark.exhaustive
def test_a_deployed_run_does_without_a_killed_hospital_and_ends_in_the_simulated_model(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    planned = (*SHORT, "privacy.dropouts=1", "run.timeout=120.0")
    submission = deployment.submit(*planned)
    deployment.until(lambda: len(rounds(submission)) >= 1, "a round")
    deployment.kill("hospital-02")
    status = deployment.wait(submission)
    assert status == "finished", (events(submission), deployment.log("superlink"))
    counts = {(one["round"], one["attempt"]): one["contributions"] for one in rounds(submission)}
    assert [number for number, _ in counts] == [1, 2, 3]
    assert (counts[1, 1], counts[max(counts)]) == (3, 2)
    faults = [event for event in events(submission) if event["kind"] == "fault"]
    assert {(fault["hospital"], fault["code"]) for fault in faults} == {
        ("hospital-02", "unreachable")
    }
    lines = ledger_rounds(deployment, "hospital-01")
    assert [one["round"] for one in lines if one.get("kind") == "spend"] == [1, 2, 3]
    summary = json.loads((submission.folder / "summary.json").read_text())
    target = settings_of("default", planned, {}).privacy.target_epsilon
    assert 0.9 * target <= summary["epsilon"]["prv"] <= target
    gone = _gone_from(min(place for place in counts if counts[place] == 2), "hospital-02")
    model = (submission.folder / "model.safetensors").read_bytes()
    assert model == _simulate(planned, tmp_path / "simulated", gone)


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


@pytest.mark.deployment
def test_a_run_under_one_time_keys_ends_in_the_model_of_any_exact_scheme(tmp_path: Path) -> None:
    planned = (*SHORT, "sealing.scheme=one-time")
    with local_deployment(tmp_path / "c", settings_of("default", planned, {})) as deployment:
        deployment.start()
        submission, status = deployment.run(*planned, seconds=600)
        assert status == "finished", events(submission)
        model = (submission.folder / "model.safetensors").read_bytes()
        assert_nothing_lost_or_leaked(deployment)
        for name in deployment.names:
            private = deployment.consortium.site(name) / "private"
            # A training's keys go with it; those of a round when it is over (tests/door).
            assert not [*private.glob("pairs-*"), *private.glob("keys-*")]
    assert model == _simulate(SHORT, tmp_path / "simulated")


@pytest.mark.deployment
def test_a_run_under_one_time_keys_does_without_a_hospital_that_is_killed(tmp_path: Path) -> None:
    """Five hospitals of whom one may be missing: holders answer, whoever is left opens."""
    short = tuple(one for one in SHORT if not one.startswith("partition"))
    common = ("partition.hospitals=5", "privacy.dropouts=1", "privacy.regime=FPDP")
    planned = (*short, *common, "sealing.scheme=one-time", "run.timeout=120.0")
    with local_deployment(tmp_path / "c", settings_of("default", planned, {})) as deployment:
        deployment.start()
        submission = deployment.submit(*planned)
        deployment.until(lambda: len(rounds(submission)) >= 1, "a round")
        deployment.kill("hospital-02")
        assert deployment.wait(submission) == "finished", events(submission)
        model = (submission.folder / "model.safetensors").read_bytes()
        counts = {
            (one["round"], one["attempt"]): one["contributions"] for one in rounds(submission)
        }
        assert (counts[1, 1], counts[max(counts)]) == (5, 4)
        lines = ledger_rounds(deployment, "hospital-01")
        assert [one["round"] for one in lines if one.get("kind") == "answer"] == [1, 2, 3]
        assert_nothing_lost_or_leaked(deployment)
    gone = _gone_from(min(place for place in counts if counts[place] == 4), "hospital-02")
    assert model == _simulate(planned, tmp_path / "simulated", gone)
    gone = _gone_from(min(place for place in counts if counts[place] == 4), "hospital-02")
    clear = (*planned, "sealing.scheme=modular")
    assert model == _simulate(clear, tmp_path / "modular", gone)
