"""Both engines, for real: the same model, clean ends, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "simulations.cli"]
SMALL = [
    "--set", "partition.hospitals=4",
    "--set", "training.rounds=4",
    "--set", "privacy.target-epsilon=0.0",
    "--set", "privacy.noise-multiplier=2.0",
    "--set", "tracking.wandb=disabled",
]  # fmt: skip


def rounds(number: int) -> list[str]:
    return ["--set", f"training.rounds={number}"]


def environment() -> dict[str, str]:
    return os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def simulate(out: Path, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", "default", "--out", str(out), "--quiet", *SMALL, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=timeout,
        check=False,
    )


def run_folder(out: Path) -> Path:
    [folder] = out.iterdir()
    return folder


def descendants(pid: int) -> set[int]:
    """Every live process below one, by /proc."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def alive(pids: set[int]) -> set[int]:
    living = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            living.add(pid)
    return living


def wait_for_round(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        lines = list(folder.glob("*/metrics.jsonl"))
        if lines and f'"round": {number},' in lines[0].read_text():
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError(f"round {number} did not come")


def model_in(out: Path) -> bytes:
    return (run_folder(out) / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def model_of_seed_3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What our own engine makes of seed 3 on a Ray of its own."""
    out = tmp_path_factory.mktemp("ray")
    result = simulate(out, "--seed", "3")
    assert result.returncode == 0, result.stderr
    return model_in(out)


def test_both_engines_end_in_the_same_model_for_a_seed(
    tmp_path: Path, model_of_seed_3: bytes
) -> None:
    result = simulate(tmp_path, "--seed", "3", "--engine", "flower")
    assert result.returncode == 0, result.stderr
    assert model_in(tmp_path) == model_of_seed_3


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


def test_a_hospital_process_that_dies_once_is_replaced(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "default", "--out", str(tmp_path), "--quiet", *SMALL, *rounds(30)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        wait_for_round(tmp_path, 3, process)
        actors = [pid for pid in descendants(process.pid) if _title(pid).startswith("ray::Hospit")]
        assert actors
        os.kill(actors[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 0, stderr
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("finished", 30)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.parametrize("value", ["privacy.regime=FSDCP", "training.sampling-rate=2.0"])
def test_wrong_settings_start_nothing(tmp_path: Path, value: str) -> None:
    result = simulate(tmp_path / "out", "--set", value, timeout=30)
    assert result.returncode == 2
    assert not (tmp_path / "out").exists()


def test_hospitals_run_on_an_existing_cluster_of_two_nodes(
    tmp_path: Path, model_of_seed_3: bytes
) -> None:
    """A scaled-out run, on two Ray nodes of this machine, ends in the model of a local one."""
    script = (
        "from ray.cluster_utils import Cluster\n"
        "import subprocess, sys\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})\n"
        "cluster.add_node(num_cpus=1)\n"
        "try:\n"
        "    code = subprocess.call([*sys.argv[1:], '--ray-address', cluster.address])\n"
        "finally:\n"
        "    cluster.shutdown()\n"
        "sys.exit(code)\n"
    )
    arguments = ["run", "default", "--quiet", *SMALL, "--seed", "3", "--actors", "2"]
    result = subprocess.run(
        [sys.executable, "-c", script, *COMMAND, *arguments, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert model_in(tmp_path) == model_of_seed_3
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert len(summary["peak_memory_mib"]["hospital_processes"]) == 2
