"""What each task but plain classes reaches on real data, private and sealed, beside no noise.

    python benchmarks/task_rows.py run [--tuning] [--only NAME ...] [--out runs/task-rows]
    python benchmarks/task_rows.py write [--out runs/task-rows]

``run`` writes the records below as a user's own files, with a declaration beside them, and trains
on them by the two apps that a deployment runs, in this one process; what has finished is left
alone. ``--tuning`` uses the seeds that settings may be chosen on. ``write`` gathers the rest in
``docs/measured/task_rows.json``; `write_tables.py` makes the table of it. Data: $ASCLEPIAS_DATA;
for the times `gbsg2.csv` there (Schumacher et al. 1994, 686 patients; the package lifelines has
it).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from learning import QUIET, _interval  # noqa: E402  (after the path is set)
from learning_rows import FRESH  # noqa: E402
from needed_data import data_or_exit  # noqa: E402

from strategies.run.events import is_finished  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "task_rows.json"
SEEDS = 5
#: Both rows of a task: what differs between them.
WAYS = {"private": ("sealing.scheme=bfv",), "without noise": ("privacy.regime=F",)}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A line of the table.

    Attributes:
        title: what is learnt of whom.
        figure: the measure that the line is about.
        guess: what a model reaches that knows nothing; "" where that depends on the records.
        sets: settings beside those of the scenario `default`.
        write: writes the records, and returns the data set's name.
    """

    title: str
    figure: str
    guess: str
    sets: tuple[str, ...]
    write: Callable[[Path], str]


def _find(name: str) -> Path:
    from clients.data.files import find

    return find("", [name])


def _chest(folder: Path) -> str:
    """Write chest X-rays of children with two findings each, bacterial and viral pneumonia."""
    found = np.load(_find("kermany_cxr_64.npz"))
    arrays = {}
    for part in ("train", "test"):
        kind = found[f"{part}_subtype"]
        arrays[f"{part}_images"] = found[f"{part}_images"]
        arrays[f"{part}_labels"] = np.stack([kind == 1, kind == 2], axis=1).astype(np.int64)
        arrays[f"{part}_patient"] = found[f"{part}_patient"]
    np.savez(folder / "chest.npz", **arrays)
    (folder / "chest.toml").write_text('labels = ["bacterial", "viral"]\n', encoding="utf-8")
    return f"npz:{folder / 'chest.npz'}"


def _grades(folder: Path) -> str:
    return "medmnist:retinamnist"


def _table(folder: Path, name: str, rows: list[dict[str, Any]], declared: str) -> str:
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / f"{name}.toml").write_text(declared, encoding="utf-8")
    return f"csv:{folder / f'{name}.csv'}"


def _hearts(folder: Path) -> str:
    """Write the hearts of four hospitals; learnt is the highest heart rate that was reached."""
    from clients.data.heart_disease import COLUMNS, FOLDER, HOSPITALS

    rows = []
    for hospital in HOSPITALS:
        file = _find(FOLDER) / f"processed.{hospital}.data"
        for line in file.read_text(encoding="latin-1").splitlines():
            cells = ["" if cell.strip() == "?" else cell.strip() for cell in line.split(",")]
            known = dict(zip(COLUMNS, cells, strict=True))
            kept = {name: known[name] for name in COLUMNS[:10]}
            kept |= {
                name: f"c{float(known[name]):g}" if known[name] else ""
                for name in ("sex", "cp", "fbs", "restecg", "exang")
            }
            rows.append({"patient": f"{hospital}{len(rows)}", "hospital": hospital, **kept})
    declared = """target = "thalach"
target-range = [60, 210]
patient = "patient"
hospital = "hospital"
[missing]
columns = ["trestbps", "chol", "fbs", "exang", "oldpeak"]
[missing.of]
trestbps = ["0"]
chol = ["0"]
[ranges]
age = [20, 80]
trestbps = [80, 200]
chol = [100, 400]
oldpeak = [-2, 5]
[kinds]
sex = ["c0", "c1"]
cp = ["c1", "c2", "c3", "c4"]
fbs = ["c0", "c1"]
restecg = ["c0", "c1", "c2"]
exang = ["c0", "c1"]
"""
    return _table(folder, "hearts", rows, declared)


_MOST = {"tsize": 80, "pnodes": 20, "progrec": 500, "estrec": 500}


def _tumours(folder: Path) -> str:
    """Write patients after breast cancer; learnt is when it comes back, or they die."""
    with _times().open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read):
        years = f"{float(row.pop('time')) / 365.25:.4f}"
        # A doctor would say: so many, or more.
        most = {name: min(float(row[name]), limit) for name, limit in _MOST.items()}
        rows.append({"patient": f"p{number:03d}", **row, **most, "years": years})
    declared = """target = "years"
event = "cens"
horizons = [1, 2, 3, 5]
patient = "patient"
[ranges]
age = [20, 80]
tsize = [0, 80]
pnodes = [0, 20]
progrec = [0, 500]
estrec = [0, 500]
[kinds]
horTh = ["no", "yes"]
menostat = ["Pre", "Post"]
tgrade = ["I", "II", "III"]
"""
    return _table(folder, "tumours", rows, declared)


def _times() -> Path:
    from importlib.util import find_spec

    from clients.data.errors import DataError

    try:
        return _find("gbsg2.csv")
    except DataError:
        package = find_spec("lifelines")
        if package is None or package.origin is None:
            raise
        return Path(package.origin).parent / "datasets" / "gbsg2.csv"


def _glands(folder: Path) -> str:
    """Write slices of real adrenal glands in made-up grain; learnt is which pixels are gland."""
    found, draw = np.load(_find("adrenalmnist3d.npz")), np.random.default_rng(7)
    arrays = {}
    for part, count in (("train", 400), ("test", 200)):
        volumes = found[f"{part}_images"][:count] > 0
        widest = volumes.sum(axis=(2, 3)).argmax(axis=1)
        masks = volumes[np.arange(len(volumes)), widest].astype(np.uint8)
        shape = (len(masks), 1, 1)
        grain = draw.normal(size=masks.shape) * 45 + draw.uniform(-20, 20, shape)
        contrast = draw.uniform(40, 90, shape)
        arrays[f"{part}_masks"] = masks
        arrays[f"{part}_images"] = np.clip(90 + contrast * masks + grain, 0, 255).astype(np.uint8)
    np.savez(folder / "glands.npz", **arrays)
    declared = 'classes = ["rest", "gland"]\n[pictures]\nmasks = "masks"\n'
    (folder / "glands.toml").write_text(declared, encoding="utf-8")
    return f"npz:{folder / 'glands.npz'}"


TASKS: dict[str, Task] = {
    "multi-label": Task(
        title="bacterial and viral pneumonia, chest X-rays by child",
        figure="macro_auc",
        guess="0.5",
        sets=(
            *("model.name=scattering", "training.rounds=40", "training.learning-rate=0.1"),
            "partition.hospitals=5",
            *("training.averaging=0.9", "privacy.l2-clip=1.0", "privacy.target-epsilon=1.0"),
        ),
        write=_chest,
    ),
    "ordinal": Task(
        title="grades of retinopathy, retinamnist",
        figure="kappa",
        guess="0",
        sets=(
            *("task.name=ordinal", "model.name=scattering", "training.rounds=60"),
            "partition.hospitals=5",
            *("training.learning-rate=0.05", "privacy.l2-clip=1.0", "privacy.target-epsilon=8.0"),
        ),
        write=_grades,
    ),
    "regression": Task(
        title="highest heart rate (60 to 210), four real hospitals",
        figure="r2",
        guess="0",
        sets=(
            *("partition.name=natural", "partition.hospitals=4", "training.rounds=40"),
            *("data.holdout=0.3", "training.learning-rate=0.1", "privacy.target-epsilon=3.0"),
        ),
        write=_hearts,
    ),
    "survival": Task(
        title="years until breast cancer is back (GBSG-2)",
        figure="concordance",
        guess="0.5",
        sets=(
            *("partition.name=iid", "partition.hospitals=5", "training.rounds=40"),
            *("data.holdout=0.3", "training.learning-rate=1.0", "privacy.target-epsilon=3.0"),
        ),
        write=_tumours,
    ),
    "segmentation": Task(
        title="adrenal glands: real shapes in made-up grain, 28 x 28",
        figure="dice",
        guess="0",
        sets=(
            *("model.name=unet", "partition.name=iid", "training.rounds=15"),
            "partition.hospitals=5",
            *("training.sampling-rate=0.1", "training.learning-rate=0.5"),
            *("privacy.l2-clip=1.0", "privacy.target-epsilon=8.0", "training.release-every=15"),
        ),
        write=_glands,
    ),
}


def run(out: Path, seeds: range, only: list[str]) -> None:
    """Train what is not there yet."""
    import tomli_w

    from clients.data import Cohorts
    from simulations.engines.direct_transport import train_here
    from simulations.scenario import find_scenario, resolve

    logging.getLogger("flwr").setLevel(logging.WARNING)
    for name, task in TASKS.items():
        if only and name not in only:
            continue
        folder, cohorts = out.absolute() / name, Cohorts()
        folder.mkdir(parents=True, exist_ok=True)
        data = task.write(folder)
        for seed in seeds:
            for way, more in WAYS.items():
                place = _place(out, name, way, seed)
                if is_finished(place):
                    continue
                place.mkdir(parents=True, exist_ok=True)
                sets = (f"data.name={data}", "data.public=true", *task.sets, *more, *QUIET)
                overrides = {"run.seed": seed, "run.out": str(place)}
                settings = resolve(find_scenario("default"), sets, overrides)
                (place / "config.toml").write_text(tomli_w.dumps(settings.to_tables()))
                start = time.process_time()
                train_here(settings, cohorts)
                (place / "took.json").write_text(json.dumps(time.process_time() - start))
                print(name, way, seed, _figures(place), flush=True)


def _place(out: Path, name: str, way: str, seed: int) -> Path:
    return out.absolute() / name / f"{way.replace(' ', '-')}-{seed}"


def _figures(place: Path) -> dict[str, Any]:
    summary = json.loads((place / "summary.json").read_text())
    known = {k: round(v, 4) for k, v in summary["metrics"].items() if isinstance(v, float)}
    epsilon = (summary["epsilon"] or {}).get("prv")
    return {
        "seed": summary["seed"],
        **known,
        "epsilon": round(epsilon, 4) if epsilon else None,
        "cpu_seconds": round(json.loads((place / "took.json").read_text()), 1),
    }


def gather(out: Path, seeds: range) -> dict[str, Any]:
    """Return what was measured, task by task; tasks that are not whole are left out."""
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in TASKS:
        found = {
            way: [
                _figures(place)
                for seed in seeds
                if is_finished(place := _place(out, name, way, seed))
            ]
            for way in WAYS
        }
        if all(len(one) == len(seeds) for one in found.values()):
            rows[name] = found
    return {
        "command": "python benchmarks/task_rows.py run",
        "seeds": list(seeds),
        "sets": {name: list(TASKS[name].sets) for name in rows},
        "rows": rows,
    }


def page_rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Return head, rows and caption of the table of what was measured."""
    from simulations.compare.measures import MEASURES

    head = ["task", "of", "figure", "guessing", "epsilon", "private, sealed", "95 %"]
    head += ["without noise", "95 %", "s of a processor"]
    rows = []
    for name, ways in found["rows"].items():
        task, private, plain = TASKS[name], ways["private"], ways["without noise"]
        values, bare = ([one[task.figure] for one in way] for way in (private, plain))
        rows.append(
            [
                name,
                task.title,
                MEASURES[task.figure],
                task.guess,
                f"{private[0]['epsilon']:.3g}",
                f"{statistics.fmean(values):.3f}",
                _interval(values),
                f"{statistics.fmean(bare):.3f}",
                _interval(bare),
                f"{statistics.median(one['cpu_seconds'] for one in private):.0f}",
            ]
        )
    said = (
        f"Means over seeds {found['seeds'][0]} to {found['seeds'][-1]}, on which no setting was "
        "chosen, and where the mean over all seeds lies (Student's t). Epsilon (PRV, delta 1e-4) "
        "is against the server, by patient where patients are named (multi-label, regression, "
        "survival), else by record. Both columns have the same settings; only the step size of "
        "survival was tuned, on seeds 0 and 1. s: processor time of the whole training, all "
        "hospitals in one process, beside other work. "
        f"Measured by `{found['command']}`.\n"
    )
    return head, rows, said


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "write"))
    parser.add_argument("--tuning", action="store_true", help="seeds from 0 on, never reported")
    parser.add_argument("--only", nargs="*", default=[], choices=tuple(TASKS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, of --tuning")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "task-rows")
    arguments = parser.parse_args()
    if arguments.tuning and arguments.command == "write":
        parser.error("what settings were chosen on is not published")
    seeds = range(arguments.seeds) if arguments.tuning else range(FRESH, FRESH + SEEDS)
    if arguments.command == "run":
        with data_or_exit():
            run(arguments.out, seeds, arguments.only)
    else:
        MEASURED.write_text(json.dumps(gather(arguments.out, seeds), indent=1) + "\n")


if __name__ == "__main__":
    main()
