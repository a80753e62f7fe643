"""Simulations as commands, in processes of their own, and a look at those."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "simulations.cli"]
SMALL = [
    "--set", "partition.hospitals=4",
    "--set", "training.rounds=4",
    "--set", "privacy.target-epsilon=0.0",
    "--set", "privacy.noise-multiplier=2.0",
    "--set", "tracking.wandb=disabled",
    "--set", "audit.canaries=200",
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


def wait_for_round(folder: Path, number: int, process: subprocess.Popen[str]) -> int:
    """Wait until a round has been closed, and return the last one that is."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        for events in folder.glob("*/metrics.jsonl"):
            closed = [int(found) for found in re.findall(r'"round": (\d+),', events.read_text())]
            if closed and closed[-1] >= number:
                return closed[-1]
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError(f"round {number} did not come")


def hospital_processes(pid: int, number: int) -> list[int]:
    """Wait until so many processes below one answer for hospitals, and return them."""
    end = time.monotonic() + 30
    while True:
        below = {one: title(one) for one in sorted(alive(descendants(pid)))}
        found = [one for one, name in below.items() if name.startswith("ray::Hospitals")]
        if len(found) == number:
            return found
        assert time.monotonic() < end, f"{len(found)} processes of hospitals among {below}"
        time.sleep(0.1)


def model_in(out: Path) -> bytes:
    return (run_folder(out) / "model.safetensors").read_bytes()


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
