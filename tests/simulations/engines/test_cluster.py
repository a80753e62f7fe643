"""Runs on an existing Ray cluster of two nodes; one is started for all that is claimed here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.compare.axes import Axes, cell_folder, plan_comparison
from simulations.compare.workers import run_trainings
from simulations.scenario import find_scenario
from tests.simulations.engine_runs import COMMAND, environment, run_folder

#: Two nodes take half a minute to start and end.
pytestmark = pytest.mark.exhaustive

#: Starts the cluster, says where it is, and ends it with its own input.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
)
try:
    cluster.add_node(num_cpus=1)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
finally:
    cluster.shutdown()
"""


@pytest.fixture(name="cluster", scope="module")
def start_cluster() -> Iterator[subprocess.Popen[str]]:
    # In a folder of its own (with a short name: sockets lie in it), so that nobody else joins it.
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as home,
        subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment() | {"RAY_TMPDIR": home},
        ) as process,
    ):
        yield process
        process.communicate(timeout=60)


@pytest.fixture(name="on_cluster", scope="module")
def address_of_cluster(cluster: subprocess.Popen[str]) -> list[str]:
    assert cluster.stdout
    for line in cluster.stdout:
        if line.startswith("address "):
            return ["--ray-address", line.split()[1]]
    raise AssertionError("the cluster did not start")


@pytest.mark.parametrize(
    ("regime", "exchange"),
    [
        pytest.param("FSCDP", "gradients", id="sums"),
        pytest.param("FPDP", "layers", id="layers"),
    ],
)
def test_a_scaled_out_run_ends_in_the_model_of_the_same_cell_in_one_process(
    tmp_path: Path, on_cluster: list[str], regime: str, exchange: str
) -> None:
    """What a comparison measures is what `run` does: its shortcut through one process is none."""
    axes = Axes(
        regimes=(regime,),
        exchanges=(exchange,),
        assignments=("training.rounds=3", "partition.hospitals=3", "audit.enabled=false"),
    )
    plan = plan_comparison(find_scenario("default"), axes)
    cell = plan.cells(plan.setups[0])[0]
    folder = cell_folder(tmp_path, cell)
    config = {**cell.settings.to_config(), "run.out": str(folder)}
    [(_, outcome)] = run_trainings([config], processes=1)
    assert outcome.status == "finished", outcome.message
    command = [*COMMAND, "run", str(folder / "config.toml"), "--quiet", "--actors", "2"]
    ray = subprocess.run(
        [*command, *on_cluster, "--out", str(tmp_path / "ray")],
        capture_output=True, text=True, env=environment(), timeout=300, check=False,
    )  # fmt: skip
    assert ray.returncode == 0, ray.stderr
    other = run_folder(tmp_path / "ray")
    files = [path / "model.safetensors" for path in (folder, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (folder, other))
    for key in ("accuracy", "hospital_accuracy", "epsilon", "regime", "exchange"):
        assert ours[key] == theirs[key]
    assert len(theirs["peak_memory_mib"]["hospital_processes"]) == 2
