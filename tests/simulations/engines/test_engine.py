"""Both engines, for real: the same model, clean ends, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from strategies.run.reading import read_settings
from tests.exchange_runs import run_app
from tests.simulations.engine_runs import (
    COMMAND,
    SMALL,
    alive,
    descendants,
    environment,
    hospital_processes,
    model_in,
    rounds,
    run_folder,
    simulate,
    title,
    wait_for_round,
)
from tests.strategies.run.test_tracking_wandb import stored_runs


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.exhaustive  # 'make test' runs one on a cluster, and one that is interrupted
@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_an_engine_ends_in_the_model_of_the_apps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    # Each engine starts a Ray of its own; a cluster that happens to be known is not joined.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    tracked = ["--set", "tracking.wandb=offline"]
    result = simulate(tmp_path / engine, "--seed", "3", "--engine", engine, *tracked)
    assert result.returncode == 0, result.stderr
    folder = run_folder(tmp_path / engine)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["audited"] and summary["audit"]["passed"]
    shown = stored_runs(folder)["server"].summary
    assert shown["audited"] and shown["status"] == "finished"
    alone = tmp_path / "alone"
    settings = read_settings(run_folder(tmp_path / engine)).with_config({"run.out": str(alone)})
    run_app(settings)
    assert model_in(tmp_path / engine) == (alone / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_a_process_that_dies_is_replaced_and_ctrl_c_leaves_none_and_a_run_that_resumes(
    tmp_path: Path, kills: int
) -> None:
    """A process is lost, with whatever it was doing; somebody's cluster is not joined.

    The noise is planned for three attempts at a round, so what is lost with a process and paid for
    again ends nothing.
    """
    process = subprocess.Popen(
        [*COMMAND, "run", "default", "--out", str(tmp_path), *SMALL, *rounds(2000), "--seed", "5"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"RAY_ADDRESS": "127.0.0.1:9"},
        start_new_session=True,
    )
    try:
        killed = 0
        for _ in range(kills):
            killed = wait_for_round(tmp_path, killed + 2, process)
            actors = hospital_processes(process.pid, 2)
            os.kill(actors[-1], signal.SIGKILL)
            killed = wait_for_round(tmp_path, killed + 20, process)
        hospital_processes(process.pid, 2)
        started = descendants(process.pid)
        needless = ("dashboard.py", "log_monitor.py", "/monitor.py")
        assert not [one for one in map(title, started) if any(name in one for name in needless)]
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 130, stderr
    assert "resume" in stderr
    assert "Traceback" not in stderr
    end = time.monotonic() + 10
    while alive(started) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(started)
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["rounds"] >= killed


@pytest.mark.exhaustive  # two trainings are begun
def test_sigterm_ends_a_run_as_ctrl_c_does_and_one_command_at_a_time_resumes_it(
    tmp_path: Path,
) -> None:
    words = ["run", "default", "--out", str(tmp_path), *SMALL, *rounds(2000), "--quiet"]
    done = 0
    for end in (os.kill, os.killpg):  # its whole group, as some schedulers do
        process = subprocess.Popen(
            [*COMMAND, *words],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
            start_new_session=True,
        )  # fmt: skip
        try:
            wait_for_round(tmp_path, done + 3, process)
            again = [*COMMAND, "resume", str(run_folder(tmp_path)), "--quiet"]
            second = subprocess.run(
                again, capture_output=True, text=True, env=environment(), check=False
            )
            end(process.pid, signal.SIGTERM)
            _, stderr = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()
        assert second.returncode == 2 and "Another command" in second.stderr
        assert process.returncode == 143, stderr
        assert f"resume {run_folder(tmp_path)}" in stderr and "Traceback" not in stderr
        words = again[len(COMMAND) :]
        summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
        assert summary["status"] == "interrupted" and summary["rounds"] > done
        done = summary["rounds"]


@pytest.mark.exhaustive
def test_a_quiet_run_says_its_folder_and_nothing_else(tmp_path: Path) -> None:
    result = simulate(tmp_path / "out", "--set", "tracking.wandb=offline")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout == f"{run_folder(tmp_path / 'out')}\n"


@pytest.mark.parametrize("value", ["privacy.regime=FSDCP", "training.sampling-rate=2.0"])
def test_wrong_settings_start_nothing(tmp_path: Path, value: str) -> None:
    result = simulate(tmp_path / "out", "--set", value, timeout=30)
    assert result.returncode == 2
    assert not (tmp_path / "out").exists()
