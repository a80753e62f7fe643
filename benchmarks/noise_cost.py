"""What cryptographic noise costs, against numpy's normal sampler in the same run.

    python benchmarks/noise_cost.py [--json FILE] [--repeats 21]

The goal: a standard normal value from an AES-256 keystream, right in the tails, within 3 times
numpy's. "noised" is the whole step of a hospital: clamp, add noise, round to the grid; "drawn
ahead" is what of it can be done before there is anything to put noise on. "parts" is the same in
parts, of which two may be taken out, and "taken out" what everybody who opens a sum of ten then
does if nobody is missing (K = 10, d = 2).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from accounting.grid import GridPlan, plan_grid
from accounting.noise import make_noise_plan
from accounting.noising import draw_ahead, noised_unpaid, without_parts
from accounting.parts import Seeds
from accounting.randomness import Stream

SIZES = (1_000, 725_061, 11_179_077)
BASELINE = "numpy standard_normal (PCG64)"


def _grid(size: int, dropouts: int) -> GridPlan:
    plan = make_noise_plan(
        "semi-central",
        noise_multiplier=5.0,
        hospitals=10,
        dropouts=dropouts,
        removable=True,
    )
    return plan_grid(
        dimensions=size,
        hospitals=10,
        plan=plan,
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=60,
        epsilon=1.0,
        delta=1e-4,
    )


def _jobs(size: int) -> dict[str, Callable[[], object]]:
    generator, stream = np.random.default_rng(1), Stream.fresh()
    grid, parted = _grid(size, 0), _grid(size, 2)
    names = [f"hospital-{number}" for number in range(10)]
    seeds = {name: Seeds.drawn(stream, parted.parts) for name in names}
    opened = {(name, part): seeds[name].each[part - 1] for name in names for part in (1, 2)}
    total = np.rint(generator.standard_normal(size) / parted.step) * parted.step
    values = generator.standard_normal(size)
    kept: list[Stream] = []

    def ahead() -> Stream:
        drawn = Stream.fresh()
        draw_ahead(grid, drawn, size)
        return drawn

    return {
        BASELINE: lambda: generator.standard_normal(size),
        "Stream.normal (AES-256-CTR)": lambda: stream.normal(size),
        "noised (clamp, noise, round)": lambda: noised_unpaid(values, grid, stream),
        "drawn ahead": lambda: kept.append(ahead()),
        "noised, where it was drawn ahead": lambda: noised_unpaid(values, grid, kept.pop()),
        "noised in parts (K = 10, d = 2)": lambda: noised_unpaid(
            values, parted, stream, seeds[names[0]]
        ),
        "20 parts taken out of a sum": lambda: without_parts(total, parted, opened, missing=0),
        "Stream.bernoulli": lambda: stream.bernoulli(size, 0.034),
    }


def _measure(size: int, repeats: int) -> list[dict[str, float | str]]:
    jobs = _jobs(size)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    medians = {name: median(found[1:]) for name, found in times.items()}  # the first warms up
    return [
        {
            "values": size,
            "what": name,
            "ms": took * 1e3,
            "ns_a_value": took / size * 1e9,
            "ratio": took / medians[BASELINE],
        }
        for name, took in medians.items()
    ]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    rows = [
        row
        for size in SIZES
        for row in _measure(size, options.repeats if size < 10**7 else min(options.repeats, 5))
    ]
    print(f"{'':34}{'values':>12}{'ms':>10}{'ns/value':>12}{'x numpy':>9}")
    for row in rows:
        print(
            f"{row['what']:34}{row['values']:>12,}{row['ms']:10.3f}{row['ns_a_value']:12.1f}"
            f"{row['ratio']:9.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
