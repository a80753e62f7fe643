"""A run's own Ray has no process that a run does not need, and all of it ends with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.engines.ray_processes import without_agents
from tests.simulations.engine_runs import alive, descendants, environment, title

#: A run's Ray that has worked, and lives until it is told to end.
RUNS = """
import sys
import ray
from simulations.engines.ray_cluster import start_ray

start_ray("")
answer = ray.remote(lambda: "answered").remote()
print(ray.get(answer), flush=True)
sys.stdin.readline()
ray.shutdown()
"""
WORDS = (
    "raylet",
    "--session_dir={folder}",
    "--node_id=ab12",
    "--dashboard_agent_command=python -u agent.py --node-id=ab12",
    "--runtime_env_agent_command=python -u main.py",
    "--head",
)


def words(folder: Path, *without: str) -> list[str]:
    found = [one.format(folder=folder) for one in WORDS]
    return [one for one in found if not one.startswith(without or ("none",))]


def parent(pid: int) -> int:
    """Return whose child a process is; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_has_rays_two_processes_one_that_forks_and_stand_ins_and_all_end_with_it(
    killed: bool,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "answered\n"
        below = {pid: title(pid).strip() for pid in alive(descendants(driver.pid))}
        own = sorted(one.split() for one in below.values() if not one.startswith("ray::"))
        programs = [Path(one[0]).name for one in own]
        assert [one for one in programs if not one.startswith("python")] == ["gcs_server", "raylet"]
        python = [one for one in own if Path(one[0]).name.startswith("python")]
        ours = [Path(one[3]).name for one in python if one[1:3] == ["-I", "-S"]]
        # Ray may have asked for a worker that is not there yet.
        workers = len(ours) - 2
        assert sorted(ours) == ["ray_agent.py"] * 2 + ["ray_worker.py"] * workers and workers > 0
        # A fork has its parent's title until Ray has given it one.
        forks = [one for one in python if one[1:3] != ["-I", "-S"]]
        assert all(any(word.startswith("serve(") for word in one) for one in forks)
        assert sum(parent(pid) == driver.pid for pid, one in below.items() if "serve(" in one) == 1
        if killed:
            driver.send_signal(signal.SIGKILL)
        else:
            driver.communicate("end\n", timeout=60)
    end = time.monotonic() + 30
    while alive(set(below)) and time.monotonic() < end:
        time.sleep(0.2)
    assert {below[pid] for pid in alive(set(below))} == set()


def test_agents_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    told = without_agents(words(tmp_path))
    given = words(tmp_path)
    assert [one for one in told if one not in given] == told[3:5]
    assert all(one.endswith(("ray_agent.py", 'ray_agent.py"')) for one in told[3:5])
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{name}_ab12": "-1"
        for name in (
            "dashboard_agent_listen_port",
            "metrics_agent_port",
            "metrics_export_port",
            "runtime_env_agent_port",
        )
    }


@pytest.mark.parametrize(
    "without", ["--session_dir", "--node_id", "--dashboard_agent", "--runtime_env", "raylet"]
)
def test_what_is_no_raylet_or_has_other_words_is_started_as_it_is(
    tmp_path: Path, without: str
) -> None:
    given = words(tmp_path, without)
    assert without_agents(given) == given
    assert list(tmp_path.iterdir()) == []


def test_a_stand_in_whose_raylet_is_gone_ends_at_once() -> None:
    from simulations.engines import ray_agent

    gone = os.environ | {"RAY_RAYLET_PID": str(os.getppid())}
    subprocess.run(
        [sys.executable, "-I", "-S", ray_agent.__file__], check=True, env=gone, timeout=20
    )
