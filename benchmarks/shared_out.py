"""What a round takes when a large hospital's passes are shared out among free processors.

    python benchmarks/shared_out.py [--actors 1 2 4 8 16] [--rounds 6] [--compute 16] [--json FILE]

The whole app on our engine: SqueezeNet on 64x64 chest X-rays, ten hospitals by Dirichlet .5, a
fifth of all patients in each round, unsealed. For each number of processes, up to this
machine's processors: the median seconds of a round, shared out or each hospital in a process of its
own, in turn; and the model, which has to be the same bits.

With ``--compute`` the makespan of these rounds is computed for more processors than there are here:
from the seconds of a pass, of a fork and of what a hospital does beside its gradient, all measured
here, and from who was sampled. The server adds answers in the order in which they come, while other
hospitals still work. It leaves out what processors that share caches and memory take from each
other, and it is printed as computed.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from engine_cost import whole_app  # noqa: E402  (after the path is set)
from needed_data import data_or_exit  # noqa: E402

CHANGES = {
    "data.name": "chest-xray",
    "partition.name": "dirichlet",
    "partition.alpha": 0.5,
    "model.name": "squeezenet",
    "training.sampling-rate": 0.2,
    "training.release-every": 100,
    "privacy.target-epsilon": 0.0,
    "privacy.noise-multiplier": 1.0,
    "sealing.scheme": "modular",
}
#: Records of a pass of such a model, and of a hospital's patients one each.
PASS_RECORDS = 16


@contextmanager
def one_process_each() -> Iterator[None]:
    """Have each hospital computed by one process alone."""
    from simulations.engines import device_room

    with mock.patch.object(device_room, "Processors", lambda name, count: None):
        yield


def rounds_of(actors: int, rounds: int, shared: bool) -> dict[str, Any]:
    """Return the seconds of rounds, and the digest of the model after them."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        changes = CHANGES | {"training.rounds": rounds}
        if shared:
            found = whole_app(changes, folder, actors)
        else:
            with one_process_each():
                found = whole_app(changes, folder, actors)
        model = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {
        "seconds": found["round_seconds"],
        "median": found["round_median"],
        "phases": found["phases_median"],
        "server": found["server_phases_median"],
        "model": model,
    }


def batches(rounds: int) -> list[list[int]]:
    """Return how many patients of each hospital are sampled in each round after the first."""
    from clients.contract.settings import Settings
    from clients.data import Cohorts
    from clients.site.chances import Chances
    from crypto.roles import Place

    settings = Settings.from_config({"run.seed": 1, "data.public": True} | CHANGES)
    cohort = Cohorts().of(settings)
    numbers = {name: cohort.hospital(name).patient_ids for name in cohort.names}
    return [
        [
            len(
                Chances(name, settings).sampled(
                    each, Place(training="any", round=number, attempt=1)
                )
            )
            for name, each in numbers.items()
        ]
        for number in range(2, rounds + 1)
    ]


def measure_pass() -> tuple[float, float]:
    """Return the processor's seconds of a pass, and what a copy takes more for its first one."""
    import torch

    from clients.contract.settings import Settings
    from clients.data import Cohorts
    from clients.learning.batch import Batch
    from clients.learning.dp_sgd import clipped_gradient_sum
    from clients.learning.per_sample import PerSample
    from clients.models import build_model

    torch.set_num_threads(1)
    settings = Settings.from_config(CHANGES | {"run.seed": 1})
    model = PerSample(build_model(settings, Cohorts().of(settings).info, 1))
    batch = Batch(
        inputs=torch.rand(PASS_RECORDS, 1, 64, 64),
        labels=torch.arange(PASS_RECORDS) % 2,
        patients=torch.arange(PASS_RECORDS),
    )
    passes, begins = [], []
    for _ in range(24):
        start = time.process_time()
        clipped_gradient_sum(model, batch, l2_clip=1.0)
        passes.append(time.process_time() - start)
        start = time.process_time()
        if (child := os.fork()) == 0:
            clipped_gradient_sum(model, batch, l2_clip=1.0)
            os._exit(0)
        used = os.wait4(child, 0)[2]
        forked = time.process_time() - start
        begins.append(forked + used.ru_utime + used.ru_stime - passes[-1])
    return statistics.median(passes[4:]), max(0.0, statistics.median(begins[4:]))


def makespan(
    records: list[int], processors: int, *, each: float, beside: float, begin: float
) -> list[float]:
    """Return the computed seconds until each hospital is done.

    Whoever is free takes a hospital that nobody has begun, the largest first, and then the next
    pass of the one with most left.

    Args:
        records: of each hospital's batch.
        processors: how many there are.
        each: seconds of a pass.
        beside: seconds of a hospital beside its gradient, in its own process.
        begin: seconds until a copy computes; infinite: there are none.
    """
    left = sorted((math.ceil(one / PASS_RECORDS) for one in records), reverse=True)
    waiting, ends = list(range(len(left))), [0.0] * len(left)
    free: list[tuple[float, int, int]] = [(0.0, number, -1) for number in range(processors)]
    heapq.heapify(free)
    while free:
        now, processor, at = heapq.heappop(free)
        if at >= 0 and left[at]:
            left[at] -= 1
            ends[at] = max(ends[at], now + each)
            heapq.heappush(free, (now + each, processor, at))
        elif waiting:
            mine = waiting.pop(0)
            heapq.heappush(free, (now + beside, processor, mine))
        elif max(left) > 1 and math.isfinite(begin):
            heapq.heappush(free, (now + begin, processor, left.index(max(left))))
    return ends


def closed(ends: list[float], add: float, keep: float) -> float:
    """Return the computed seconds until the server has added all answers and kept the round.

    Args:
        ends: seconds until each hospital is done.
        add: seconds to add one answer.
        keep: seconds from the last one to the round's end.
    """
    now = 0.0
    for end in sorted(ends):
        now = max(now, end) + add
    return now + keep


def compute(
    counts: list[int], rounds: int, beside: float, server: tuple[float, float]
) -> list[dict[str, float]]:
    """Print and return medians of computed rounds for numbers of processors.

    Args:
        counts: of processors.
        rounds: of which who was sampled is known.
        beside: seconds of a hospital beside its gradient.
        server: seconds of the server for all answers of a round, and after the last of them.
    """
    each, begin = measure_pass()
    drawn = batches(rounds)
    print(f"a pass {each * 1e3:.0f} ms, a copy's beginning {begin * 1e3:.0f} ms, ", end="")
    add, keep = server
    print(f"beside {beside * 1e3:.0f} ms a hospital, {(add + keep) * 1e3:.0f} ms at the server")

    def median(count: int, begin: float) -> float:
        ends = [makespan(one, count, each=each, beside=beside, begin=begin) for one in drawn]
        return statistics.median(closed(one, add / len(one), keep) for one in ends)

    # One processor does the server's work, too: none of it while hospitals do theirs.
    one_by_one = [makespan(one, 1, each=each, beside=beside, begin=math.inf) for one in drawn]
    alone, found = add + keep + statistics.median(map(max, one_by_one)), []
    for count in counts:
        apart, shared = median(count, math.inf), median(count, begin)
        print(
            f"computed for {count} processors, not measured: {alone:.2f} s with one, {apart:.2f} "
            f"with a process for each hospital, {shared:.2f} shared out: {alone / apart:.1f} and "
            f"{alone / shared:.1f} times faster"
        )
        found.append(
            {"processors": count, "one": alone, "one process each": apart, "shared out": shared}
            | {"pass": each, "begin": begin, "beside": beside, "server": add + keep}
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--compute", type=int, nargs="*", default=[], metavar="PROCESSORS")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with data_or_exit():
        from clients.data import load_dataset

        load_dataset("chest-xray")
    results: dict[str, Any] = {"load": os.getloadavg()[0], "measured": {}, "computed": []}
    beside, server, models = 0.05, (0.05, 0.01), set()
    for actors in options.actors:
        if actors > (os.cpu_count() or 1):
            continue
        for shared in (False, True):
            found = rounds_of(actors, options.rounds, shared)
            name = f"{actors} {'shared out' if shared else 'one process each'}"
            results["measured"][name] = found
            models.add(found["model"])
            print(f"{name}: {found['median']:.2f} s a round, model {found['model'][:16]}")
            if not shared:
                beside = sum(s for phase, s in found["phases"].items() if phase != "gradient")
                server = found["server"]["add"], found["server"]["keep"]
    assert len(models) < 2, "the model depends on how many processes there are"
    if options.compute:
        results["computed"] = compute(options.compute, options.rounds, beside, server)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
