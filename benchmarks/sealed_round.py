"""What sealing adds to a round: the whole app, SqueezeNet on 64x64 chest X-rays, K = 10.

    python benchmarks/sealed_round.py [--against COMMIT] [--rounds 5] [--repeats 3] [--rate 0.0876]
        [--json FILE]

Server and hospitals are one process here, so its processor time is that of all the work of a round,
threads included, whatever else the machine does. `modular` is the same round unsealed. Schemes, and
another commit of this repository where one is named, take turns. On a machine with c cores that are
all busy a round takes a c-th of it; `engine_cost.py --sealed` measures that, on an idle one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from edition_pair import ROOT, worktree

SCHEMES = ("modular", "one-time", "bfv")


def child(scheme: str, rounds: int, rate: float) -> dict[str, Any]:
    """Train in this process; returns seconds of processor and clock by round, and by phase."""
    sys.path.insert(0, os.environ["PYTHONPATH"])
    from flwr.app import Message

    from clients.contract.kinds import Kind
    from clients.contract.settings import Settings
    from clients.data import Cohorts
    from simulations.engines.direct_transport import DirectTransport, train_here

    marks: list[tuple[float, float]] = []

    class Timed(DirectTransport):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            asked = list(messages)
            if asked and asked[0].metadata.message_type == Kind.TRAIN and len(asked) > 1:
                marks.append((time.process_time(), time.perf_counter()))
            return super().push_messages(asked)

    with TemporaryDirectory() as scratch:
        changes = {
            "run.out": scratch,
            "run.seed": 1,
            "run.scenario": "sealed-round",
            "data.name": "chest-xray",
            "data.public": True,
            "partition.name": "iid",
            "model.name": "squeezenet",
            "training.sampling-rate": rate,
            "training.rounds": rounds + 2,
            "training.release-every": 100,
            "privacy.target-epsilon": 0.0,
            "privacy.noise-multiplier": 1.0,
            "sealing.scheme": scheme,
            "tracking.wandb": "disabled",
            "audit.enabled": False,
        }
        train_here(Settings.from_config(changes), Cohorts(), Timed)
        lines = (Path(scratch) / "metrics.jsonl").read_text().splitlines()
    kept = [row for row in map(json.loads, lines) if row["kind"] == "round"][1:-1]
    # The first round warms up, and the last has no end.
    both = list(pairwise(marks[1:]))
    return {
        "processor": [after[0] - before[0] for before, after in both],
        "clock": [after[1] - before[1] for before, after in both],
        "phases": {name: median(row["phases"][name] for row in kept) for name in kept[0]["phases"]},
    }


def run(tree: Path, scheme: str, rounds: int, rate: float) -> dict[str, Any]:
    """Do so in a new process, with another checkout's code where one is asked for."""
    command = [sys.executable, __file__, "--child", scheme, "--rounds", str(rounds)]
    done = subprocess.run(
        [*command, "--rate", str(rate)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(trees: dict[str, Path], rounds: int, repeats: int, rate: float) -> dict[str, Any]:
    """Medians over all rounds by tree and scheme."""
    jobs = [(name, scheme) for scheme in SCHEMES for name in trees]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {job: [] for job in jobs}
    for repeat in range(repeats):
        for job in jobs if repeat % 2 == 0 else reversed(jobs):
            found[job].append(run(trees[job[0]], job[1], rounds, rate))
    table: dict[str, Any] = {name: {} for name in trees}
    for (name, scheme), runs in found.items():
        row = {
            what: median(s for one in runs for s in one[what]) for what in ("processor", "clock")
        }
        names = runs[0]["phases"]
        phases = {phase: median(one["phases"][phase] for one in runs) for phase in names}
        table[name][scheme] = {**row, "phases": phases}
    return table


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", help="another commit, measured in turns")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0876, help="q: 32 patients at the default")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.rounds, options.rate)))
        return
    load = os.getloadavg()[0]
    with worktree(options.against) if options.against else nullcontext() as peer:
        trees = {"here": ROOT, **({options.against: peer} if peer else {})}
        table = measure(trees, options.rounds, options.repeats, options.rate)
    for name, rows in table.items():
        for scheme, row in rows.items():
            unsealed = rows["modular"]["processor"]
            phases = " ".join(f"{k} {1e3 * v:.1f}" for k, v in row["phases"].items())
            print(
                f"{name:10} {scheme:9} {row['processor']:.3f} s of processor a round "
                f"({row['processor'] / unsealed:.3f} of unsealed, "
                f"{row['processor'] - unsealed:+.3f} s), {row['clock']:.3f} s by the clock\n"
                f"{'':21}ms by phase: {phases}"
            )
    print(f"load at the start: {load:.1f}")
    if options.json:
        options.json.write_text(json.dumps({"load": load, **table}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
