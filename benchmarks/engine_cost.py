"""What a simulated round costs, beside a bare loop and Flower's stock engine, in one run.

    python benchmarks/engine_cost.py [--hospitals 10 100] [--repeats 7] [--pfl] [--json FILE]

Each measure is the median over repeats of one round; the contenders take turns, so that a machine
that slows down slows down for all. Ratios are what to read: seconds are this machine's, today.

* floor: a null client that returns as many bytes as a model of 56k parameters has.
* DP round: a CNN of 56k parameters, 32 patients of 28x28 a hospital, per-patient clipping. The bare
  loop is two processes that do nothing but that work and return the sum; "bare loop, memory kept"
  does it with the allocator set as our hospitals set it (`clients.site.memory`), so that ours less
  that is the engine, and that less the bare loop is page faults.
* pfl-research, two workers (with ``--pfl``): see `pfl_rounds.py`.
* sealed (with ``--sealed``): a round of the whole app with `bfv`, `one-time` and `modular`:
  SqueezeNet on 64x64 chest X-rays, 32 patients per hospital on average. Needs the X-rays
  (ASCLEPIAS_DATA).
* default (with ``--default-rounds``): the scenario `default`, from its start to its model, with as
  many rounds as are given.
* device (with ``--device cuda`` or ``cpu``): steps and rounds of a real net, see
  `device_rounds.py`; nothing else is measured then.
* scale (with ``--scale``): the whole app with a small CNN on MNIST and as many hospitals as are
  given: seconds and memory per hospital.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # as simulations.engines.engine sets it
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import engine_apps  # noqa: E402  (after the path is set)
from device_rounds import SCHEMES, measure_device  # noqa: E402
from needed_data import data_or_exit  # noqa: E402

from clients.site.memory import keep_freed_memory  # noqa: E402

PARAMETERS = engine_apps.PARAMETERS
Round = Callable[[], None]
KEPT = "bare loop, memory kept"


@contextmanager
def ray_rounds(app: str, hospitals: int) -> Iterator[Round]:
    """Rounds on our engine."""
    import ray
    from flwr.app import Message
    from flwr.supercore.run import Run

    from simulations.engines.actors import Crew
    from simulations.engines.device_room import Room
    from simulations.engines.ray_transport import RayTransport

    nodes = {1000 + k: k for k in range(hospitals)}
    crew = Crew(Room(actors=2), {"keep-memory": True}, nodes, cpus=1, app=app)
    ray.get([actor.ready.remote() for actor in crew.actors])
    transport = RayTransport(crew, nodes, Run.create_empty(7))

    def run_round() -> None:
        content = engine_apps.request()
        asked = [Message(content, node, "train") for node in nodes]
        waiting, total = set(transport.push_messages(asked)), engine_apps.nothing()
        while waiting:  # as the server does: it adds while others compute
            for reply in transport.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                engine_apps.add_to(total, reply)

    try:
        yield run_round
    finally:
        crew.end()


@contextmanager
def bare_rounds(hospitals: int, work: bool, keep_memory: bool = False) -> Iterator[Round]:
    """Rounds of two processes that do the work and nothing else."""
    start = keep_freed_memory if keep_memory else None
    with get_context("spawn").Pool(2, initializer=start) as pool:
        pool.map(engine_apps.warm_up, range(2), chunksize=1)
        halves = [list(range(0, hospitals, 2)), list(range(1, hospitals, 2))]

        def run_round() -> None:
            engine_apps.add_up_vectors(
                pool.map(engine_apps.bare_half, [(half, work) for half in halves], chunksize=1)
            )

        yield run_round


@contextmanager
def pfl_rounds(hospitals: int, work: bool) -> Iterator[Round]:
    """Rounds of pfl-research's simulator with two workers."""
    from simulations.engines.local_server import free_port

    script = str(ROOT / "benchmarks" / "pfl_rounds.py")
    surroundings = os.environ | {
        "TORCHELASTIC_RUN_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, script, str(hospitals), "work" if work else "null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=surroundings | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]

    def run_round() -> None:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "done\n", "pfl-research ended; its words are above"

    try:
        yield run_round
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


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


def measure(hospitals: int, repeats: int, *, stock: bool, pfl: bool) -> dict[str, Any]:
    """Measure floor and DP round for one number of hospitals."""
    import ray

    from simulations.engines.ray_cluster import start_ray

    found: dict[str, Any] = {}
    for measure_name, app, work in (
        ("floor", "engine_apps:null_app", False),
        ("dp_round", "engine_apps:dp_app", True),
    ):
        start_ray("")
        try:
            with ExitStack() as stack:
                contenders = {
                    "ours": stack.enter_context(ray_rounds(app, hospitals)),
                    "bare loop": stack.enter_context(bare_rounds(hospitals, work)),
                    KEPT: stack.enter_context(bare_rounds(hospitals, work, keep_memory=True)),
                }
                if pfl:
                    contenders["pfl-research"] = stack.enter_context(pfl_rounds(hospitals, work))
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


def whole_app(changes: dict[str, Any], folder: Path, actors: int = 0) -> dict[str, Any]:
    """Run the whole app on our engine; returns the medians of a round and its phases."""
    from clients.contract.settings import Settings
    from simulations.engines.engine import EngineOptions, simulate

    config = {
        "run.out": str(folder),
        "data.public": True,
        "run.seed": 1,
        "tracking.wandb": "disabled",
        "audit.enabled": False,
    }
    folder.mkdir(parents=True)
    simulate(Settings.from_config(config | changes), EngineOptions(actors=actors))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["kind"] == "round"][1:]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "round_seconds": [line["seconds"] for line in rounds],
        "round_median": statistics.median(line["seconds"] for line in rounds),
        "phases_median": {
            name: statistics.median(line["phases"][name] for line in rounds)
            for name in rounds[0]["phases"]
        },
        "server_phases_median": {
            name: statistics.median(line["server_phases"].get(name, 0.0) for line in rounds)
            for name in rounds[0]["server_phases"]
        },
        "uplink_bytes": summary["uplink_bytes_per_hospital_round"],
        "peak_memory_mib": summary["peak_memory_mib"],
    }


def measure_sealed(repeats: int) -> dict[str, Any]:
    """Measure the whole app with and without sealing, in turn."""
    changes = {
        "data.name": "chest-xray",
        "partition.name": "iid",
        "model.name": "squeezenet",
        "training.sampling-rate": 0.0876,
        "training.rounds": 5,
        "training.release-every": 100,
        "privacy.target-epsilon": 0.0,
        "privacy.noise-multiplier": 1.0,
    }
    found: dict[str, list[dict[str, Any]]] = {"bfv": [], "one-time": [], "modular": []}
    with TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            for scheme, runs in found.items():
                folder = Path(scratch) / f"{scheme}-{repeat}"
                runs.append(whole_app(changes | {"sealing.scheme": scheme}, folder))
    medians = {
        scheme: statistics.median(s for run in runs for s in run["round_seconds"])
        for scheme, runs in found.items()
    }
    ratios = {scheme: medians[scheme] / medians["modular"] for scheme in ("bfv", "one-time")}
    return {"median_seconds": medians, "ratio": ratios["bfv"], "ratios": ratios, "runs": found}


def measure_default(rounds: int) -> dict[str, Any]:
    """Measure the scenario `default`, sealed, released and judged as always, over many rounds."""
    with TemporaryDirectory() as scratch:
        start = time.perf_counter()
        found = whole_app({"training.rounds": rounds}, Path(scratch) / "default")
        return found | {"rounds": rounds, "seconds": time.perf_counter() - start}


def measure_scale(counts: list[int]) -> dict[str, Any]:
    """Measure seconds and memory per hospital as their number grows."""
    found = {}
    with TemporaryDirectory() as scratch:
        for count in counts:
            changes = {
                "data.name": "mnist",
                "partition.name": "iid",
                "partition.hospitals": count,
                "model.name": "cnn",
                "training.sampling-rate": min(1.0, 8 * count / 60_000),
                "training.rounds": 6,
                "training.release-every": 100,
                "privacy.target-epsilon": 0.0,
                "privacy.noise-multiplier": 1.0,
            }
            found[count] = whole_app(changes, Path(scratch) / str(count))
    return found


def _load_what_is_asked_for(options: argparse.Namespace) -> None:
    """Read the data sets of the whole app's measures, before any of them takes its time."""
    from clients.data import load_dataset

    for name, wanted in (("chest-xray", options.sealed), ("mnist", options.scale)):
        if wanted:
            load_dataset(name)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hospitals", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-stock", action="store_true", help="leave out Flower's own engine")
    parser.add_argument("--pfl", action="store_true", help="beside pfl-research, if it is there")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sealed", action="store_true", help="sealed over unsealed, whole app")
    parser.add_argument("--default-rounds", type=int, metavar="T", help="`default` with T rounds")
    parser.add_argument("--scale", type=int, nargs="+", default=[], metavar="K")
    parser.add_argument("--device", metavar="cuda", help="a real net there: steps and rounds")
    parser.add_argument("--model", default="squeezenet", help="with --device")
    parser.add_argument("--side", type=int, default=224, help="pixels a side, with --device")
    parser.add_argument("--rounds", type=int, default=30, help="with --device; 0: steps alone")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), help="with --device")
    parser.add_argument("--actors", type=int, default=0, help="processes, with --device")
    options = parser.parse_args()
    if options.pfl and find_spec("pfl") is None:
        parser.error("--pfl: no pfl-research here; benchmarks/pfl_rounds.py says where it is from")
    results = _on_device(options) if options.device else _on_processors(options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def _on_device(options: argparse.Namespace) -> dict[str, Any]:
    return measure_device(
        options.device,
        model=options.model,
        side=options.side,
        hospitals=options.hospitals,
        repeats=options.repeats,
        rounds=options.rounds,
        schemes=options.schemes,
        whole_app=partial(whole_app, actors=options.actors),
    )


def _on_processors(options: argparse.Namespace) -> dict[Any, Any]:
    with data_or_exit():
        _load_what_is_asked_for(options)
    results: dict[Any, Any] = {}
    for hospitals in options.hospitals:
        results[hospitals] = measure(
            hospitals, options.repeats, stock=not options.no_stock, pfl=options.pfl
        )
        for name, row in results[hospitals].items():
            medians = row["median_seconds"]
            cells = ", ".join(f"{peer} {value:.4f} s" for peer, value in medians.items())
            print(f"K={hospitals:5d} {name:9s} {cells}")
    if options.sealed:
        results["sealed"] = measure_sealed(max(1, options.repeats // 3))
        for scheme, ratio in results["sealed"]["ratios"].items():
            print(f"sealed over unsealed, {scheme}: {ratio:.3f}")
    if options.default_rounds:
        found = results["default"] = measure_default(options.default_rounds)
        print(f"{found['rounds']} rounds of default: {found['seconds']:.0f} s")
    if options.scale:
        results["scale"] = measure_scale(options.scale)
        for count, row in results["scale"].items():
            memory = sum(row["peak_memory_mib"]["hospital_processes"])
            each = row["round_median"] / count * 1000
            print(f"K={count:5d} {each:.2f} ms per hospital and round, processes {memory:.0f} MiB")
    return results


if __name__ == "__main__":
    main()
