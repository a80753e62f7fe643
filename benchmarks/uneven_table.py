"""Whether the default finds the rare class of an uneven table, and how near the truth it comes.

    python benchmarks/uneven_table.py run [--tuning] [--out runs/uneven-table]
    python benchmarks/uneven_table.py write [--out runs/uneven-table]

A table is made anew for each seed: 4,000 patients, 15 in 100 of them positive, 15 columns that all
lack values, more often in the sick. The truth is known, so every figure stands beside the most that
anybody could reach on this table with all values at hand. ``run`` trains on it what ``flower-
simulation run default --set data.name=csv:...`` trains, on fresh seeds; ``--tuning`` on those that
settings may be chosen on. ``write`` gathers what was measured in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import re
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from learning_rows import FAST, FRESH  # noqa: E402  (after the path is set)

from strategies.run.events import is_finished  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "uneven_table.json"
PATIENTS, POSITIVE, COLUMNS, SEEDS = 4000, 0.15, 15, 5
#: Far from 0, so that no table is any training's own draw.
TABLES = 50_000
LOWEST, HIGHEST = 0.0, 100.0
QUIET = ("tracking.wandb=disabled", "run.log-level=warning", "audit.enabled=false")
PRIVATE = ("privacy.target-epsilon=3", FAST)
#: What is trained -> settings beside those of the scenario `default`.
ROWS: dict[str, tuple[str, ...]] = {
    "default, epsilon 3: class-shares learned": PRIVATE,
    "the same, class-shares declared": (*PRIVATE, 'training.class-shares="0.85,0.15"'),
    "the same, class-shares ''": (*PRIVATE, 'training.class-shares=""'),
    "the same, class-shares '', clip 0.5": (
        *PRIVATE,
        'training.class-shares=""',
        "privacy.l2-clip=0.5",
    ),
    "default, epsilon 1: class-shares learned": ("privacy.target-epsilon=1", FAST),
    "without noise: class-shares learned": ("privacy.regime=F", FAST),
}


def make_table(folder: Path, seed: int) -> dict[str, float]:
    """Write ``table.csv`` and ``table.toml``; return the chance of being positive by patient.

    Args:
        folder: where to.
        seed: of the table.
    """
    generator = np.random.default_rng(TABLES + seed)
    values = generator.normal(size=(PATIENTS, COLUMNS))
    weights = np.linspace(0.9, 0.1, COLUMNS) * generator.choice([-1.0, 1.0], COLUMNS)
    signal = values @ weights
    low, high = -20.0, 20.0
    for _ in range(60):  # the intercept at which so many are positive
        middle = (low + high) / 2
        below = (1 / (1 + np.exp(-(signal + middle)))).mean() < POSITIVE
        low, high = (middle, high) if below else (low, middle)
    chances = 1 / (1 + np.exp(-(signal + low)))
    sick = generator.random(PATIENTS) < chances
    absent = generator.random(values.shape) < np.where(sick[:, None], 0.25, 0.15)
    shown = np.clip(50 + 15 * values, LOWEST, HIGHEST)
    names = [f"lab{number:02d}" for number in range(COLUMNS)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *names, "outcome"])
        for patient in range(PATIENTS):
            cells = [
                "" if absent[patient, k] else f"{shown[patient, k]:.1f}" for k in range(COLUMNS)
            ]
            writer.writerow([f"p{patient:04d}", *cells, "yes" if sick[patient] else "no"])
    ranges = "\n".join(f"{name} = [{LOWEST}, {HIGHEST}]" for name in names)
    (folder / "table.toml").write_text(
        'target = "outcome"\nclasses = ["no", "yes"]\npatient = "patient"\n'
        f"[missing]\ncolumns = {json.dumps(names)}\n[ranges]\n{ranges}\n",
        encoding="utf-8",
    )
    return {f"p{patient:04d}": float(chance) for patient, chance in enumerate(chances)}


def run(out: Path, seeds: range) -> None:
    """Train what is not there yet."""
    import tomli_w

    from clients.data import Cohorts
    from simulations.engines.direct_transport import train_here
    from simulations.scenario import find_scenario, resolve

    logging.getLogger("flwr").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
    for seed in seeds:
        folder = out.absolute() / f"table{seed}"
        chances = make_table(folder, seed)
        cohorts = Cohorts()
        known = folder / "known.json"
        for name, sets in ROWS.items():
            place = _place(folder, name)
            if is_finished(place):
                continue
            place.mkdir(parents=True, exist_ok=True)
            own = (f"data.name=csv:{folder / 'table.csv'}", *sets, *QUIET)
            overrides = {"run.seed": seed, "run.out": str(place)}
            settings = resolve(find_scenario("default"), own, overrides)
            (place / "config.toml").write_text(tomli_w.dumps(settings.to_tables()))
            train_here(settings, cohorts)
            if not known.exists():
                known.write_text(json.dumps(_known(settings, cohorts, chances, folder)))
            print(seed, name, _figures(place), flush=True)


def _place(folder: Path, name: str) -> Path:
    """Return the run folder of a row, of whose name it has the letters and digits."""
    return folder / re.sub(r"[^a-z0-9.]+", "-", name).strip("-")


def _figures(place: Path) -> dict[str, Any]:
    summary = json.loads((place / "summary.json").read_text())
    names = (
        "accuracy",
        "majority",
        "balanced_accuracy",
        "auc",
        "average_precision",
        "sensitivity",
        "specificity",
    )
    found = {name: round(summary["metrics"][name], 4) for name in names}
    epsilon = (summary["epsilon"] or {}).get("prv")
    return {**found, "epsilon": round(epsilon, 4) if epsilon else None, "seed": summary["seed"]}


def _known(settings: Any, cohorts: Any, chances: dict[str, float], folder: Path) -> dict[str, Any]:
    """Return what others reach on the same holdout: a curator without noise, and the truth.

    The curator fits scikit-learn's logistic regression with balanced classes to all training
    records; the truth is the chance that each patient's outcome was drawn with, from all values.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    cohort = cohorts.of(settings)
    train = [np.asarray(one.inputs) for one in cohort.records.values()]
    labels = [one.labels for one in cohort.records.values()]
    curator = LogisticRegression(class_weight="balanced", max_iter=1000)
    curator.fit(np.concatenate(train), np.concatenate(labels))
    held = cohort.holdout
    guesses = curator.predict_proba(np.asarray(held.inputs))[:, 1]
    # Patients are numbered in the order of their names, which is that of the chances.
    truth = np.array(sorted(chances.items()), dtype=object)[held.patients, 1].astype(float)
    return {
        name: {
            "seed": settings.run.seed,
            "balanced_accuracy": round(balanced_accuracy_score(held.labels, scores > cut), 4),
            "auc": round(float(roc_auc_score(held.labels, scores)), 4),
        }
        for name, scores, cut in (
            ("curator without noise (scikit-learn, balanced)", guesses, 0.5),
            ("the truth, from all values, none of them absent", truth, POSITIVE),
        )
    }


def gather(out: Path, seeds: range) -> dict[str, Any]:
    """Return what was measured, row by row; rows that are not whole are left out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        folder = out / f"table{seed}"
        if (folder / "known.json").exists():
            for name, found in json.loads((folder / "known.json").read_text()).items():
                rows.setdefault(name, []).append(found)
        for name in ROWS:
            place = _place(folder, name)
            if is_finished(place):
                rows.setdefault(name, []).append(_figures(place))
    return {
        "command": "python benchmarks/uneven_table.py run",
        "seeds": list(seeds),
        "patients": PATIENTS,
        "positive": POSITIVE,
        "columns": COLUMNS,
        "rows": {name: found for name, found in rows.items() if len(found) == len(seeds)},
    }


def means(found: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of each figure of a row over its seeds."""
    names = [name for name, value in found[0].items() if name != "seed" and value is not None]
    return {name: statistics.fmean(one[name] for one in found) for name in names}


def page_rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Return head, rows and caption of the table of what was measured."""
    names = ("balanced_accuracy", "auc", "accuracy", "sensitivity", "specificity", "epsilon")
    rows = []
    for name, seeds in found["rows"].items():
        cells = []
        for figure in names:
            values = [one[figure] for one in seeds if one.get(figure) is not None]
            cells.append(f"{statistics.fmean(values):.3f}" if values else "-")
        balanced = [one["balanced_accuracy"] for one in seeds]
        rows.append([name, cells[0], f"{min(balanced):.3f} to {max(balanced):.3f}", *cells[1:]])
    head = ["trained", "balanced accuracy", "its range", "AUC", "accuracy"]
    head += ["sensitivity", "specificity", "epsilon (PRV)"]
    most = [
        one["majority"] for seeds in found["rows"].values() for one in seeds if "majority" in one
    ]
    said = (
        f"Means over seeds {found['seeds'][0]} to {found['seeds'][-1]}, on which no setting was "
        f"chosen; {statistics.fmean(most):.3f} of the holdout are negative. Sensitivity and "
        "specificity: at a threshold chosen on the other half of the holdout. -: not measured. "
        f"Measured by `{found['command']}`.\n"
    )
    return head, rows, said


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "write"))
    parser.add_argument("--tuning", action="store_true", help="seeds from 0 on, never reported")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "uneven-table")
    arguments = parser.parse_args()
    first = 0 if arguments.tuning else FRESH
    seeds = range(first, first + SEEDS)
    if arguments.command == "run":
        run(arguments.out, seeds)
    found = gather(arguments.out, seeds)
    for name, one in found["rows"].items():
        print(name, {key: round(value, 3) for key, value in means(one).items()})
    if arguments.command == "write":
        if arguments.tuning:
            parser.error("what settings were chosen on is not published")
        MEASURED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
