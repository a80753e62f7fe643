"""How long `default` takes from the command to its tables, and to the prompt.

    python benchmarks/start_cost.py [--repeats 7] [--json docs/measured/start_cost.json]

In turns with a bare Ray on this machine: a process that starts it, has one process for each
processor import torch and answer, and ends. What a run does beyond that is the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The heading of the last table that a run prints.
TABLES = "Who could learn what"
#: What has to start whoever trains: Ray, and processes that can compute.
BARE = """
import os, ray
def imported():
    import torch
    return torch.__version__
ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
work = ray.remote(num_cpus=1)(imported)
ray.get([work.options(scheduling_strategy="SPREAD").remote() for _ in range(os.cpu_count())])
ray.shutdown()
"""


def timed(command: list[str], until: str = "") -> tuple[float, float]:
    """Return seconds from a command to the line of its output that has a word, and to its end."""
    shown = 0.0
    start = time.perf_counter()
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=surroundings,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if until and until in line:
                shown = time.perf_counter() - start
    if process.returncode or (until and not shown):
        raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}")
    return shown, time.perf_counter() - start


def measure(repeats: int) -> dict[str, list[float]]:
    """Time both in turns, after one of each that warms the caches."""
    found: dict[str, list[float]] = {"tables": [], "prompt": [], "bare": []}
    with TemporaryDirectory() as out:
        program = str(Path(sys.executable).with_name("flower-simulation"))
        run = [program, "run", "default", "--out", out]
        for repeat in range(repeats + 1):
            tables, prompt = timed(run, TABLES)
            _, bare = timed([sys.executable, "-W", "ignore", "-c", BARE])
            if repeat:
                for name, seconds in (("tables", tables), ("prompt", prompt), ("bare", bare)):
                    found[name].append(seconds)
    return found


def start_text(found: dict[str, Any]) -> str:
    """Return what was measured, in a sentence."""
    tables, prompt, bare = (median(found[key]) for key in ("tables", "prompt", "bare"))
    return (
        f"`default` takes {tables:.1f} s to its tables and {prompt:.1f} s to the prompt on "
        f"{found['processors']} processors: {tables / bare:.1f} and {prompt / bare:.1f} times what "
        f"a bare Ray takes to start, to import torch in a process for each processor, and to end "
        f"({bare:.1f} s; medians of {len(found['bare'])}, in turns).\n"
    )


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.repeats)
    for name, seconds in found.items():
        print(f"{name:8s} {median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
    if options.json:
        content = {"processors": os.cpu_count(), **found}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
