"""What a round of `default` costs beside another commit of this repository, in turns.

    python benchmarks/edition_pair.py 7c9cb7b [--hospitals 10 100] [--pairs 7] [--json FILE]

The peer is the same command in a git worktree of that commit. Both take turns, and who begins
changes from pair to pair, so that a machine that slows down slows down for both. A run counts by
the seconds between its records of the first rounds and of the last, divided by the rounds between.
The ratio of the two medians is what to read; the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
#: Rounds before this one warm up.
FIRST = 5


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A checkout of a commit, gone afterwards."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with TemporaryDirectory(prefix="edition-") as scratch:
        tree = Path(scratch) / "peer"
        subprocess.run([*git, "add", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def seconds_a_round(tree: Path, hospitals: int, rounds: int) -> float:
    """Run `default` once from a checkout; returns its mean seconds a round after the first few."""
    with TemporaryDirectory(prefix="edition-") as scratch:
        command = [sys.executable, "-m", "simulations.cli", "run", "default", "--seed", "3"]
        changes = {
            "training.rounds": rounds,
            "tracking.wandb": "disabled",
            "partition.hospitals": hospitals,
        }
        for key, value in changes.items():
            command += ["--set", f"{key}={value}"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "FLWR_HOME": scratch,
            "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        subprocess.run(
            [*command, "--out", str(Path(scratch) / "runs"), "--quiet"],
            cwd=tree,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        [records] = Path(scratch).glob("runs/*/metrics.jsonl")
        return _mean(records)


def _mean(records: Path) -> float:
    times = {}
    for line in records.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "round":
            times[record["round"]] = record["time"]
    last = max(times)
    return float(times[last] - times[FIRST]) / (last - FIRST)


def compare(peer: Path, hospitals: int, rounds: int, pairs: int) -> dict[str, object]:
    """Both editions in turns."""
    found: dict[Path, list[float]] = {ROOT: [], peer: []}
    for pair in range(pairs):
        for tree in (ROOT, peer) if pair % 2 else (peer, ROOT):
            found[tree].append(seconds_a_round(tree, hospitals, rounds))
    here, there = median(found[ROOT]), median(found[peer])
    by_pair = [a / b for a, b in zip(found[ROOT], found[peer], strict=True)]
    return {
        "hospitals": hospitals,
        "here_ms": 1e3 * here,
        "peer_ms": 1e3 * there,
        "ratio": here / there,
        "pairs": [round(ratio, 4) for ratio in by_pair],
    }


def main() -> None:
    """Measure what is asked for, print a row each, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="of the peer, for example a tag")
    parser.add_argument("--hospitals", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    rows = []
    with worktree(options.commit) as peer:
        for hospitals in options.hospitals:
            row = compare(peer, hospitals, options.rounds, options.pairs)
            rows.append(row)
            print(
                f"K={hospitals:4d} here {row['here_ms']:7.1f} ms a round, {options.commit} "
                f"{row['peer_ms']:7.1f} ms, ratio of medians {row['ratio']:.3f}"
            )
    if options.json:
        options.json.write_text(json.dumps({"peer": options.commit, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
