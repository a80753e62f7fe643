"""What a simulated round costs, beside a bare loop and Flower's stock engine, in one run.

    python benchmarks/engine_cost.py [--hospitals 10] [--repeats 7] [--json FILE]

Each measure is the median over repeats of one round; the contenders take turns, so that a machine
that slows down slows down for all. Ratios are what to read: seconds are this machine's, today.

* floor: a null client that returns as many bytes as a model of 56k parameters has.
* DP round: a CNN of 56k parameters, 32 patients of 28x28 a hospital, per-patient clipping. The bare
  loop is two processes that do nothing but that work and return the sum.
* sealed over unsealed: the same round of the whole app with `bfv` and with `modular`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import engine_apps  # noqa: E402  (after the path is set)

PARAMETERS = engine_apps.PARAMETERS
Round = Callable[[], None]


@contextmanager
def ray_rounds(app: str, hospitals: int) -> Iterator[Round]:
    """Rounds on our engine."""
    import ray
    from flwr.app import Message
    from flwr.supercore.run import Run

    from simulations.actors import start_actors
    from simulations.ray_grid import RayGrid

    nodes = {1000 + k: k for k in range(hospitals)}
    actors = start_actors(2, {}, nodes, cpus=1, app=app)
    ray.get([actor.ready.remote() for actor in actors])
    grid = RayGrid(actors, nodes, Run.create_empty(7))

    def run_round() -> None:
        content = engine_apps.request()
        asked = [Message(content, node, "train") for node in nodes]
        replies = list(grid.send_and_receive(asked))
        assert len(replies) == hospitals and all(reply.has_content() for reply in replies)
        engine_apps.add_up(replies)

    try:
        yield run_round
    finally:
        for actor in actors:
            ray.kill(actor)


@contextmanager
def bare_rounds(hospitals: int, work: bool) -> Iterator[Round]:
    """Rounds of two processes that do the work and nothing else."""
    with get_context("spawn").Pool(2) as pool:
        pool.map(engine_apps.warm_up, range(2), chunksize=1)
        halves = [list(range(0, hospitals, 2)), list(range(1, hospitals, 2))]

        def run_round() -> None:
            engine_apps.add_up_vectors(
                pool.map(engine_apps.bare_half, [(half, work) for half in halves], chunksize=1)
            )

        yield run_round


@contextmanager
def stock_rounds(app: str, hospitals: int) -> Iterator[Round]:
    """Rounds on Flower's own simulation engine, driven from a thread that holds its ServerApp."""
    with engine_apps.StockEngine(app, hospitals) as engine:
        yield engine.run_round


def interleaved(contenders: dict[str, Round], repeats: int) -> dict[str, list[float]]:
    """Time each contender in turn, ``repeats`` times, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, run_round in contenders.items():
            start = time.perf_counter()
            run_round()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(hospitals: int, repeats: int, stock: bool) -> dict[str, Any]:
    """Measure floor and DP round for one number of hospitals."""
    import ray

    found: dict[str, Any] = {}
    for measure_name, app, work in (
        ("floor", "engine_apps:null_app", False),
        ("dp_round", "engine_apps:dp_app", True),
    ):
        ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
        try:
            with ray_rounds(app, hospitals) as ours, bare_rounds(hospitals, work) as bare:
                contenders = {"ours": ours, "bare loop": bare}
                seconds = interleaved(contenders, repeats)
        finally:
            ray.shutdown()
        if stock:
            with stock_rounds(app, hospitals) as theirs, bare_rounds(hospitals, work) as bare:
                more = interleaved({"stock Flower": theirs, "bare again": bare}, repeats)
            seconds |= more
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        found[measure_name] = {"median_seconds": medians, "seconds": seconds}
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hospitals", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-stock", action="store_true", help="leave out Flower's own engine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for hospitals in options.hospitals:
        results[hospitals] = measure(hospitals, options.repeats, not options.no_stock)
        for name, row in results[hospitals].items():
            medians = row["median_seconds"]
            cells = ", ".join(f"{peer} {value:.4f} s" for peer, value in medians.items())
            print(f"K={hospitals:5d} {name:9s} {cells}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
