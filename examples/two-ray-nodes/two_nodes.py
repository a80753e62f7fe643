"""A run whose hospitals work on two Ray nodes, both on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ray.cluster_utils import Cluster

#: As many processors for each node as one process of hospitals needs.
PROCESSORS = 1


def main() -> int:
    """Start a head and a second node, and run what was asked for on both; return its exit code."""
    asked = sys.argv[1:] or ["default", "--set", "training.rounds=10"]
    # The sockets of Ray lie in this folder, so its name is short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        os.environ["RAY_TMPDIR"] = folder
        head = {"num_cpus": PROCESSORS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(num_cpus=PROCESSORS)
            program = Path(sys.executable).with_name("flower-simulation")
            command = [program, "run", *asked, "--ray-address", cluster.address, "--actors", "2"]
            return subprocess.run(command, check=False).returncode
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
