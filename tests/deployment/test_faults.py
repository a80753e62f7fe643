"""Faults on a real local deployment: what goes on, what stops, what is never lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.site.site_file import read_site_file
from deployment.authority import write_node_key
from deployment.consortium import Consortium
from deployment.submission import Submission
from tests.deployment.local_deployment import (
    LocalDeployment,
    events,
    ledger_rounds,
    local_deployment,
    rounds,
    settings_of,
)
from tests.deployment.proofs import assert_nothing_lost_or_leaked
from tests.deployment.real_sites import benchmark_consortium, rewrite

pytestmark = pytest.mark.deployment

SHORT = (
    "partition.hospitals=3",
    "training.rounds=8",
    "privacy.dropouts=1",
    "data.public=false",
    "run.seed=7",
    "run.timeout=120.0",
    "run.attempts=2",
    "tracking.wandb=disabled",
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[LocalDeployment]:
    with local_deployment(tmp_path / "consortium", settings_of("default", SHORT, {})) as made:
        yield made
        assert_nothing_lost_or_leaked(made)


def _spent(deployment: LocalDeployment, name: str) -> list[int]:
    return [line["round"] for line in ledger_rounds(deployment, name) if "round" in line]


def test_two_hospitals_killed_stop_the_run_and_nothing_is_opened(
    deployment: LocalDeployment,
) -> None:
    deployment.start()
    submission = deployment.submit(*SHORT)
    deployment.until(lambda: len(rounds(submission)) >= 2, "two rounds")
    deployment.kill("hospital-01")
    deployment.kill("hospital-02")
    assert deployment.wait(submission) == "stopped"
    counts = [event["contributions"] for event in rounds(submission)]
    closed = [event["closed"] for event in rounds(submission)]
    assert counts[-1] < 2
    assert not closed[-1]
    summary = json.loads((submission.folder / "summary.json").read_text())
    assert summary["rounds"] == sum(closed)
    spent = _spent(deployment, "hospital-00")
    assert len(spent) == len(rounds(submission)), "every attempt was paid for"


def test_a_hospital_is_back_after_a_restart_and_catches_up(deployment: LocalDeployment) -> None:
    deployment.start()
    submission = deployment.submit(*SHORT, "training.rounds=14")
    deployment.until(lambda: len(rounds(submission)) >= 2, "two rounds")
    deployment.kill("hospital-02")
    deployment.until(
        lambda: any(event["contributions"] == 2 for event in rounds(submission)), "a gap"
    )
    deployment.start_node("hospital-02")
    assert deployment.wait(submission) == "finished", events(submission)
    counts = [event["contributions"] for event in rounds(submission)]
    assert counts[-1] == 3
    spent = _spent(deployment, "hospital-02")
    assert spent == sorted(spent)
    assert spent[-1] == 14


def _resume(deployment: LocalDeployment, submission: Submission) -> None:
    """Go on by the command that the guide names, and expect all rounds and no lost entry."""
    before = {name: _spent(deployment, name) for name in deployment.names}
    link = str(deployment.link.folder)
    deployment.asclepias("resume", "resume", str(submission.folder), "--superlink", link)
    assert deployment.ends("resume") == 0, deployment.log("resume")
    assert json.loads((submission.folder / "summary.json").read_text())["rounds"] == 8
    for name in deployment.names:
        spent = _spent(deployment, name)
        assert spent[: len(before[name])] == before[name], "nothing that was spent is forgotten"
        assert set(range(1, 9)) <= set(spent)
    starts = [event for event in events(submission) if event["kind"] == "start"]
    assert len(starts) == 2
    assert len({event["training"] for event in starts}) == 1


def test_a_killed_superlink_comes_back_and_the_training_is_resumed(
    deployment: LocalDeployment,
) -> None:
    deployment.start()
    submission = deployment.submit_by_command(*SHORT)
    deployment.until(lambda: len(rounds(submission)) >= 3, "three rounds")
    deployment.kill("superlink")
    assert deployment.ends("submit", 60.0) == 1
    assert "asclepias resume" in " ".join(deployment.log("submit").split())
    deployment.until(lambda: not deployment.server_apps(), "the end of its server app", 60.0)
    deployment.start_superlink()
    deployment.wait_online(3)
    _resume(deployment, submission)


def test_a_killed_server_app_is_run_again_and_the_training_is_resumed(
    deployment: LocalDeployment,
) -> None:
    deployment.start()
    submission = deployment.submit_by_command(*SHORT)
    deployment.until(lambda: len(rounds(submission)) >= 3, "three rounds")
    [server_app] = deployment.server_apps()
    os.kill(server_app, signal.SIGKILL)
    assert deployment.ends("submit") == 1
    _resume(deployment, submission)


def test_a_node_with_an_unregistered_key_is_refused(deployment: LocalDeployment) -> None:
    deployment.start_superlink()
    site = deployment.consortium.site("hospital-00")
    (site / "private" / "node.key").unlink()
    write_node_key(site / "private" / "node.key", site / "node.pub")
    deployment.start_node("hospital-00")
    deployment.start_node("hospital-01")
    deployment.wait_node("hospital-01")
    deployment.until(lambda: "not let in yet" in deployment.log("hospital-00"), "a refusal")
    assert "SuperNode ID" not in deployment.log("hospital-00")


def test_a_superlink_of_another_authority_is_refused(
    deployment: LocalDeployment, tmp_path: Path
) -> None:
    deployment.start_superlink()
    other: Consortium = benchmark_consortium(tmp_path / "other", 3)
    site = deployment.consortium.site("hospital-00")
    shutil.copy(other.site("hospital-00") / "ca.pem", site / "ca.pem")
    deployment.start_node("hospital-00")
    deployment.until(
        lambda: (
            deployment.processes["hospital-00"].poll() is not None
            or "retrying" in deployment.log("hospital-00")
            or "CERTIFICATE_VERIFY_FAILED" in deployment.log("hospital-00")
        ),
        "an answer",
    )
    assert "SuperNode ID" not in deployment.log("hospital-00")


def test_a_wrong_fingerprint_stops_the_ceremony(deployment: LocalDeployment) -> None:
    pins = read_site_file(deployment.consortium.site("hospital-01") / "site.toml").pins
    rewrite(deployment.consortium, "hospital-01", pins["hospital-00"], pins["hospital-02"])
    deployment.start()
    submission, status = deployment.run(*SHORT)
    assert status == "stopped"
    assert "pin" in events(submission)[-1]["message"]
    assert not list(deployment.consortium.site("hospital-01").glob("private/keys-*"))
    assert _spent(deployment, "hospital-00") == []


def test_a_hospital_at_its_limit_stays_out_and_the_run_goes_on(
    deployment: LocalDeployment,
) -> None:
    rewrite(deployment.consortium, "hospital-01", "delta = 1e-4", "max-epsilon = 0.4\ndelta = 1e-4")
    deployment.start()
    submission, status = deployment.run(*SHORT)
    assert status == "finished", events(submission)
    faults = {e["code"] for e in events(submission) if e["kind"] == "fault"}
    assert faults == {"limit-refused:max-epsilon"}
    assert len(_spent(deployment, "hospital-01")) < len(_spent(deployment, "hospital-00")) == 8


def test_a_tampered_sealed_message_is_left_out_by_name(deployment: LocalDeployment) -> None:
    deployment.start_superlink()
    for name in ("hospital-00", "hospital-01"):
        deployment.start_node(name)
    deployment.start_tampering_node("hospital-02")
    deployment.wait_online(3)
    submission, status = deployment.run(*SHORT, "training.rounds=3")
    assert status == "finished", events(submission)
    assert [event["contributions"] for event in rounds(submission)] == [2, 2, 2]
    faults = {(e["hospital"], e["code"]) for e in events(submission) if e["kind"] == "fault"}
    assert faults == {("hospital-02", "payload-mismatch")}


def test_a_bundle_that_is_not_allowed_runs_nowhere(deployment: LocalDeployment) -> None:
    for name in deployment.names:
        rewrite(deployment.consortium, name, 'allowed-apps = ["', 'allowed-apps = ["' + "0" * 64)
        site = deployment.consortium.site(name) / "site.toml"
        text = site.read_text()
        start = text.index('["') + 2
        site.write_text(text[: start + 64] + text[start + 128 :])
    deployment.start()
    submission, status = deployment.run(*SHORT)
    assert status == "stopped"
    assert "is not in allowed-apps" in deployment.log("hospital-00")
    assert deployment.hospital_log("hospital-00") == ""
    message = events(submission)[-1]["message"]
    assert "0 of 3 hospitals joined" in message
    assert message.count("app-refused") == 3


def test_control_is_answered_on_the_superlinks_own_machine_only(
    deployment: LocalDeployment,
) -> None:
    import socket

    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has a loopback address only")
    import httpx

    deployment.start_superlink()
    port = deployment.link.port
    for address, expected in ((own, 403), ("127.0.0.1", 200)):
        with httpx.Client(verify=False) as client:
            answer = client.post(f"https://{address}:{port}/v1/control/list-nodes", content=b"")
        assert (answer.status_code == 403) == (expected == 403), (address, answer.status_code)
