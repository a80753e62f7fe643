"""A round on a real local deployment: `asclepias supernode` beside Flower's stock SuperNode.

    python benchmarks/deployed_round.py [--hospitals 2] [--rounds 10]

Both sides run the same app, data and SuperLink (TLS, node authentication, a process a message) on
this machine; the round does real work: open, step, sample, clip, noise, seal, sign.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.flower_home import command, environment
from deployment.submission import settings_of
from tests.deployment.local_deployment import (
    LocalDeployment,
    free_port,
    local_deployment,
    rounds,
)


def start_stock(deployment: LocalDeployment, name: str) -> None:
    """Start Flower's own SuperNode for a site, with its default pauses."""
    site = deployment.consortium.site(name)
    surroundings = environment(site / "private" / "flower")
    del surroundings["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"]
    with (deployment.consortium.folder / f"{name}.log").open("ab") as log:
        deployment.processes[name] = subprocess.Popen(
            [
                command("flower-supernode"),
                "--root-certificates", str(site / "ca.pem"),
                "--superlink", deployment.consortium.address,
                "--auth-supernode-private-key", str(site / "private" / "node.key"),
                "--port", str(free_port()),
                "--node-config", f'site="{site / "site.toml"}"',
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=surroundings,
        )  # fmt: skip


def measure(hospitals: int, count: int, *, stock: bool) -> list[dict]:
    """Run a training and return its rounds but the first."""
    changes = (
        f"partition.hospitals={hospitals}",
        f"training.rounds={count}",
        "run.seed=7",
        "tracking.wandb=disabled",
    )
    with (
        tempfile.TemporaryDirectory(prefix="asclepias-") as folder,
        local_deployment(Path(folder) / "c", settings_of("default", changes, {})) as deployment,
    ):
        deployment.start_superlink()
        for name in deployment.names:
            if stock:
                start_stock(deployment, name)
            else:
                deployment.start_node(name)
        deployment.wait_online(hospitals)
        submission, status = deployment.run(*changes, seconds=900)
        assert status == "finished", status
        return rounds(submission)[1:]


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hospitals", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'SuperNode':<22}{'median s':>9}{'min s':>8}{'max s':>8}{'own work s':>12}")
    for name, stock in (("asclepias supernode", False), ("flower-supernode", True)):
        found = measure(arguments.hospitals, arguments.rounds, stock=stock)
        seconds = [event["seconds"] for event in found]
        work = statistics.median(sum(event["phases"].values()) for event in found)
        print(
            f"{name:<22}{statistics.median(seconds):>9.2f}{min(seconds):>8.2f}"
            f"{max(seconds):>8.2f}{work:>12.3f}"
        )
    print(f"load of this machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
