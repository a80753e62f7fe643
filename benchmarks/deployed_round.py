"""A round on a real local deployment: `asclepias supernode` beside Flower's stock SuperNode.

    python benchmarks/deployed_round.py [--hospitals 2] [--rounds 10] [--schemes] [--json FILE]

Both sides run the same app, data and SuperLink (TLS, node authentication, a process per message) on
this machine; the round does real work: open, step, sample, clip, noise, seal, sign. The time from
the start of an app's process to its first work ends when the hospital's ledger says what the round
spends, which is after the sum of the round before was opened and before a record is touched.

With ``--schemes`` it compares ways of sealing instead, at five hospitals: one key of all (`bfv`),
keys for one sum where none may be missing (one trip), and where one may (a second trip: holders
answer the round's roster with shares of the sum's key). The file keeps both.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deployment.flower_home import command, environment
from deployment.submission import settings_of
from simulations.engines.local_server import free_port
from tests.deployment.local_deployment import (
    LocalDeployment,
    ledger_rounds,
    local_deployment,
    rounds,
)

NODES = {"asclepias supernode": False, "flower-supernode": True}
#: What is sealed how, with what a round may take of what one takes under `bfv`.
SCHEMES: dict[str, tuple[tuple[str, ...], float | None]] = {
    "bfv": ((), None),
    "one-time, none may be missing": (("sealing.scheme=one-time",), 1.05),
    "one-time, one may be missing": (("sealing.scheme=one-time", "privacy.dropouts=1"), 1.7),
}
SCHEMES_HOSPITALS = 5
TARGET_ROUND_SECONDS = 5.0
TARGET_START_SECONDS = 1.5


def start_stock(deployment: LocalDeployment, name: str) -> None:
    """Start Flower's own SuperNode for a site, with its default pauses."""
    site = deployment.consortium.site(name)
    surroundings = environment(site / "private" / "flower")
    del surroundings["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"]
    noting = _note_starts(site, _starts(deployment, name))
    surroundings["PATH"] = f"{noting}{os.pathsep}{surroundings['PATH']}"
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


def _note_starts(site: Path, file: Path) -> Path:
    """Make a folder whose ``flwr-clientapp`` notes the time, then becomes Flower's own."""
    folder = site / "noting"
    folder.mkdir()
    script = folder / "flwr-clientapp"
    script.write_text(
        f"#!/bin/sh\ndate +%s.%N >> {shlex.quote(str(file))}\n"
        f'exec {shlex.quote(command("flwr-clientapp"))} "$@"\n'
    )
    script.chmod(0o755)
    return folder


def _starts(deployment: LocalDeployment, name: str) -> Path:
    return deployment.consortium.folder / f"{name}.starts"


def _start_seconds(deployment: LocalDeployment) -> list[float]:
    """Return, for each hospital and round but the first, seconds from process to first work."""
    found = []
    for name in deployment.names:
        starts = [float(line) for line in _starts(deployment, name).read_text().split()]
        for line in ledger_rounds(deployment, name):
            if line.get("kind") == "spend" and line["round"] > 1:
                found.append(line["time"] - max(s for s in starts if s <= line["time"]))
    return found


def measure(
    hospitals: int, count: int, *, stock: bool = False, sets: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run a training; return what its rounds but the first took, and its processes' starts."""
    changes = (
        *sets,
        f"partition.hospitals={hospitals}",
        f"training.rounds={count}",
        "run.seed=7",
        "tracking.wandb=disabled",
    )
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="asclepias-") as folder,
        local_deployment(Path(folder) / "c", settings_of("default", changes, {})) as deployment,
    ):
        deployment.start_superlink()
        for name in deployment.names:
            if stock:
                start_stock(deployment, name)
            else:
                deployment.start_timed_node(name, _starts(deployment, name))
        deployment.wait_online(hospitals)
        submission, status = deployment.run(*changes, seconds=900)
        assert status == "finished", status
        found = rounds(submission)[1:]
        return {
            "round_seconds": [event["seconds"] for event in found],
            "phases_median": {
                name: statistics.median(event["phases"].get(name, 0.0) for event in found)
                for name in found[0]["phases"]
            },
            "start_seconds": _start_seconds(deployment),
            "load_before": load,
            "load_after": os.getloadavg()[0],
        }


def import_seconds(module: str, repeats: int = 3) -> float:
    """Return what importing a module takes a new process, the least of some tries."""
    text = f"import time; t = time.time(); import {module}; print(time.time() - t)"
    return min(
        float(subprocess.check_output([sys.executable, "-c", text], text=True))
        for _ in range(repeats)
    )


def print_table(found: dict[str, Any]) -> None:
    """Print one line for each kind of SuperNode."""
    print(
        f"{'SuperNode':<22}{'median s':>9}{'min s':>8}{'max s':>8}{'own work s':>12}{'start s':>9}"
    )
    for name, node in found["nodes"].items():
        seconds = node["round_seconds"]
        print(
            f"{name:<22}{statistics.median(seconds):>9.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}"
            f"{sum(node['phases_median'].values()):>12.3f}"
            f"{statistics.median(node['start_seconds']):>9.2f}"
            f"   load {node['load_before']:.1f} to {node['load_after']:.1f}"
        )
    ours = found["nodes"]["asclepias supernode"]
    whole, start = (statistics.median(ours[key]) for key in ("round_seconds", "start_seconds"))
    for what, value, target in (
        ("a round", whole, TARGET_ROUND_SECONDS),
        ("start to first work", start, TARGET_START_SECONDS),
    ):
        verdict = "reached" if value <= target else "missed"
        print(f"{what}: {value:.2f} s, target {target} s {verdict}")


def print_schemes(found: dict[str, dict[str, Any]]) -> None:
    """Print one line for each way of sealing, beside `bfv`."""
    base = statistics.median(found["bfv"]["round_seconds"])
    print(f"{'sealing':<32}{'median s':>9}{'of bfv':>8}{'target':>8}")
    for name, (_, target) in SCHEMES.items():
        seconds = statistics.median(found[name]["round_seconds"])
        print(f"{name:<32}{seconds:>9.2f}{seconds / base:>8.2f}{target or '-':>8}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hospitals", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--schemes", action="store_true", help="compare ways of sealing instead")
    parser.add_argument("--json", type=Path, help="also write what was measured to this file")
    arguments = parser.parse_args()
    found = measured_schemes(arguments.rounds) if arguments.schemes else measured_nodes(arguments)
    found["command"] = shlex.join(["python", "benchmarks/deployed_round.py", *sys.argv[1:]])
    if arguments.json:
        kept = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        kept["schemes" if arguments.schemes else "nodes"] = found
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measured_nodes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure both kinds of SuperNode and print a table."""
    found: dict[str, Any] = {
        "processors": os.cpu_count(),
        "hospitals": arguments.hospitals,
        "torch_import_seconds": import_seconds("torch"),
        "nodes": {},
    }
    for name, stock in NODES.items():
        found["nodes"][name] = measure(arguments.hospitals, arguments.rounds, stock=stock)
    print_table(found)
    return found


def measured_schemes(count: int) -> dict[str, Any]:
    """Measure ways of sealing and print a table."""
    found = {
        name: measure(SCHEMES_HOSPITALS, count, sets=sets) for name, (sets, _) in SCHEMES.items()
    }
    print_schemes(found)
    targets = {name: target for name, (_, target) in SCHEMES.items()}
    return {
        "processors": os.cpu_count(),
        "hospitals": SCHEMES_HOSPITALS,
        "schemes": found,
        "targets": targets,
    }


if __name__ == "__main__":
    main()
