"""What one hospital of ten that lies costs: in one sum of all, and in sums of groups.

    python benchmarks/robust_groups.py [--seeds 20] [--jobs 2] [--out FILE]

MNIST's 60,000 training pictures are dealt to ten hospitals, 10,000 others judge. Each seed trains
every way twice, with all hospitals honest and with one that seals its update reversed and ten times
as long; the seeds are ones that nothing was tuned on. Integers are sealed without encryption, which
ends in the same models. What was measured before is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from needed_data import data_or_exit  # noqa: E402  (after the path is set)

MEASURED = ROOT / "docs" / "measured" / "robust_groups.json"
SCENARIO = "mnist"
#: A linear model, and few rounds: seconds a training. With shorter steps 60 rounds are not enough,
#: and a liar, who makes steps shorter, costs more.
TOLD = {
    "model.name": "logistic",
    "partition.name": "iid",
    "training.rounds": 60,
    "training.sampling-rate": 0.01,
    "training.release-every": 60,
    "training.learning-rate": 0.4,
    "privacy.target-epsilon": 3.0,
    "sealing.scheme": "modular",
}
GROUPS = {"exchange.group-size": 2}
#: Way -> how it differs from one sum of all.
WAYS: dict[str, dict[str, Any]] = {
    "one sum": {},
    "groups of 2, median": {**GROUPS, "exchange.robust": "median"},
    "groups of 2, trimmed mean": {**GROUPS, "exchange.robust": "trimmed-mean"},
}
REGIMES = ("F", "FSCDP")
LIE = "scaling"
#: The first seed; those below served to look around, 100 among them.
FIRST = 200


@cache
def _cohorts() -> Any:
    """Where a process reads data, once."""
    from clients.data.cohorts import Cohorts

    return Cohorts()


def accuracy(way: str, regime: str, seed: int, lie: bool) -> float:
    """Return what one training reaches on the holdout."""
    from simulations.attacks.ground import QUIET
    from simulations.attacks.lies import POISONS, lying
    from simulations.attacks.trainings import train
    from simulations.scenario import find_scenario, resolve

    changes = {**QUIET, **TOLD, **WAYS[way], "privacy.regime": regime, "run.seed": seed}
    settings = resolve(find_scenario(SCENARIO), [], changes)
    cohorts = _cohorts()
    names = list(cohorts.of(settings).names)
    liar = [names[seed % len(names)]]
    with (
        tempfile.TemporaryDirectory() as folder,
        lying(liar, POISONS[LIE], 0) if lie else nullcontext(),
    ):
        return train(settings, cohorts, Path(folder) / "run").accuracy


def measure(out: Path, seeds: int, jobs: int) -> dict[str, Any]:
    """Measure what is missing, and return all of it by way, regime, lie and seed."""
    known: dict[str, float] = json.loads(out.read_text("utf-8"))["found"] if out.is_file() else {}
    asked = {
        f"{regime}; {way}; {'lie' if lie else 'honest'}; {seed}": (way, regime, seed, lie)
        for seed in range(FIRST, FIRST + seeds)
        for regime in REGIMES
        for way in WAYS
        for lie in (False, True)
    }
    waiting = {key: what for key, what in asked.items() if key not in known}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(accuracy, *what): key for key, what in waiting.items()}
        for number, done in enumerate(as_completed(running), start=1):
            known[running[done]] = done.result()
            print(f"{number}/{len(running)}: {running[done]}: {done.result():.4f}", flush=True)
            out.write_text(json.dumps({"found": known, **summed_up(known)}, indent=1) + "\n")
    return {"found": known, **summed_up(known)}


def summed_up(found: dict[str, float]) -> dict[str, Any]:
    """Return a row for each regime and way: accuracies, and what the lie costs, in points."""
    from simulations.compare.rows import summarise

    rows = []
    for regime in REGIMES:
        for way in WAYS:
            both = {
                kind: {
                    int(key.rpartition("; ")[2]): value
                    for key, value in found.items()
                    if key.startswith(f"{regime}; {way}; {kind}; ")
                }
                for kind in ("honest", "lie")
            }
            seeds = sorted(both["honest"].keys() & both["lie"].keys())
            lost = [100.0 * (both["honest"][one] - both["lie"][one]) for one in seeds]
            if seeds:
                rows.append(
                    {
                        "regime": regime,
                        "way": way,
                        "seeds": len(seeds),
                        "honest": statistics.fmean(both["honest"][one] for one in seeds),
                        "lie": statistics.fmean(both["lie"][one] for one in seeds),
                        "lost": summarise(lost),
                        "most_lost": max(lost),
                    }
                )
    return {"rows": rows, "data": f"{SCENARIO}, logistic, 10 hospitals, 10,000 test pictures"}


def robust_groups_table(measured: dict[str, Any], rows: Any) -> str:
    """Return what was measured as a table."""
    head = ["Regime", "Sums", "All honest", "One lies", "Points lost", "Most lost", "Seeds"]
    table = []
    for row in measured["rows"]:
        lost = row["lost"]
        half = f" ± {lost['high'] - lost['mean']:.1f}" if lost["high"] is not None else ""
        table.append(
            [
                row["regime"] if row["regime"] == "F" else f"{row['regime']}, epsilon 3",
                row["way"],
                f"{row['honest']:.3f}",
                f"{row['lie']:.3f}",
                f"{lost['mean']:.1f}{half}",
                f"{row['most_lost']:.1f}",
                f"{row['seeds']}",
            ]
        )
    said = (
        "Accuracy, mean over seeds; points lost with half a 95% interval, and at the worst seed. "
        f"One liar of ten, reversed and ten times as long. {measured['data']}. "
        "`python benchmarks/robust_groups.py`.\n"
    )
    return f"{rows(head, table)}\n{said}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=MEASURED)
    options = parser.parse_args()
    with data_or_exit():
        measured = measure(options.out, options.seeds, options.jobs)
    for row in measured["rows"]:
        print(
            f"{row['regime']}, {row['way']}: {row['honest']:.4f} honest, {row['lie']:.4f} with a "
            f"liar, {row['lost']['mean']:.2f} points lost, over {row['seeds']} seeds"
        )


if __name__ == "__main__":
    main()
