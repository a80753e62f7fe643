"""Both engines, for real: the same model, clean ends, and no process left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from simulations.compare.workers import run_trainings
from strategies.run.reading import read_settings
from tests.simulations.engine_runs import (
    COMMAND,
    SMALL,
    alive,
    descendants,
    environment,
    model_in,
    rounds,
    run_folder,
    simulate,
    wait_for_round,
)


def test_both_engines_and_a_single_process_end_in_the_same_model_for_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each engine starts a Ray of its own; a cluster that happens to be known is not joined.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    for engine in ("ray", "flower"):
        result = simulate(tmp_path / engine, "--seed", "3", "--engine", engine)
        assert result.returncode == 0, result.stderr
    alone = tmp_path / "process" / "run"
    config = read_settings(run_folder(tmp_path / "ray")).to_config() | {"run.out": str(alone)}
    [(_, outcome)] = run_trainings([config], processes=1)
    assert outcome.status == "finished", outcome.message
    models = {model_in(tmp_path / name) for name in ("ray", "flower", "process")}
    assert len(models) == 1


@pytest.mark.usefixtures("at_a_terminal")
def test_ctrl_c_leaves_no_process_behind_and_a_run_that_resumes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "default", "--out", str(tmp_path), *SMALL, *rounds(400), "--seed", "5"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        wait_for_round(tmp_path, 2, process)
        started = descendants(process.pid)
        assert len(started) >= 3
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, stderr
    assert "resume" in stderr
    assert "Traceback" not in stderr
    end = time.monotonic() + 10
    while alive(started) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(started)
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["rounds"] >= 1


@pytest.mark.parametrize("value", ["privacy.regime=FSDCP", "training.sampling-rate=2.0"])
def test_wrong_settings_start_nothing(tmp_path: Path, value: str) -> None:
    result = simulate(tmp_path / "out", "--set", value, timeout=30)
    assert result.returncode == 2
    assert not (tmp_path / "out").exists()
