"""Whether sets hold the truth at each of twenty hospitals: by the pooled threshold, by their own.

    python benchmarks/own_calibration.py [--only DATA ...] [--json FILE]

For each data set a model is trained privately over the app's own two halves; its threshold is that
of the public holdout. Then twenty hospitals that the model never saw differ from it by their mix of
classes, or by their scanner. A hospital's patients are drawn from a population that is known whole
(records that took part in nothing else), so what a threshold covers there is computed, not
estimated. Each hospital calibrates on some patients, as ``asclepias calibrate`` does; that is
repeated with other patients. Data but the made ones: $ASCLEPIAS_DATA.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from needed_data import data_or_exit  # noqa: E402  (after the path is set)

from clients.data import Cohorts, load_dataset  # noqa: E402
from clients.data.scanner import scanner_of  # noqa: E402
from clients.prediction.artefact import read_artefact  # noqa: E402
from clients.prediction.asked import Asked  # noqa: E402
from clients.prediction.conformal import (  # noqa: E402
    CONFIDENCE,
    COVERAGE,
    one_record_each,
    prediction_sets,
)
from clients.prediction.own_calibration import calibrate  # noqa: E402
from clients.prediction.predictor import Predictor  # noqa: E402
from strategies.predictors import PREDICTOR  # noqa: E402

HOSPITALS, PATIENTS, REPEATS = 20, 200, 5
#: Dirichlet concentration of hospitals' classes, and strength of their scanners.
CONCENTRATION, STRENGTH = 0.5, 1.0
Arrays = tuple[NDArray[Any], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Records of one data set: to train on, public, and of the hospitals to come."""

    train: Arrays
    public: Arrays
    rest: Arrays
    model: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """A population that is known whole: records, and how often each kind of patient comes."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]

    def draw(self, generator: np.random.Generator, count: int) -> Asked:
        """Return so many of its patients."""
        rows = generator.choice(len(self.labels), size=count, p=self.weights)
        return Asked(
            keys={"row": [str(row) for row in rows]},
            inputs=self.inputs[rows],
            rows=np.arange(count),
            notes=[""] * count,
            labels=self.labels[rows],
            patients=np.arange(count),
        )


def by_label(inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Iterator[Hospital]:
    """Yield hospitals with classes mixed in shares of their own."""
    classes = np.unique(labels)
    for number in range(HOSPITALS):
        generator = np.random.default_rng([number, 1])
        shares = generator.dirichlet(np.full(len(classes), CONCENTRATION))
        weights = np.zeros(len(labels))
        for one, share in zip(classes, shares, strict=True):
            weights[labels == one] = share / np.count_nonzero(labels == one)
        yield Hospital(inputs=inputs, labels=labels, weights=weights / weights.sum())


def by_scanner(inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Iterator[Hospital]:
    """Yield hospitals with scanners of their own; of records that are no pictures, a shift."""
    weights = np.full(len(labels), 1 / len(labels))
    for number in range(HOSPITALS):
        if inputs.ndim == 4:
            scanner = scanner_of(number, strength=STRENGTH, seed=0)
            seen = scanner.scan(inputs, np.arange(len(inputs)))
        else:
            generator = np.random.default_rng([number, 2])
            shift = generator.normal(0, 0.12 * STRENGTH, inputs.shape[1])
            seen = np.clip(inputs * generator.uniform(0.7, 1.3) + shift, -1, 1)
        yield Hospital(inputs=seen.astype(np.float32), labels=labels, weights=weights)


SPLITS: dict[str, Callable[..., Iterator[Hospital]]] = {"label": by_label, "scanner": by_scanner}


def judge(predictor: Predictor, hospital: Hospital, *, number: int, repeats: int) -> dict[str, Any]:
    """Return what the pooled threshold and the hospital's own cover of its population."""
    chances = predictor.chances(hospital.inputs)

    def covered(threshold: float) -> tuple[float, float]:
        sets = prediction_sets(chances, threshold)
        held = sets[np.arange(len(sets)), hospital.labels]
        return float(hospital.weights @ held), float(hospital.weights @ sets.sum(axis=1))

    public = predictor.artefact.doubt
    pooled = covered(public.threshold())
    own = []
    for repeat in range(repeats):
        asked = hospital.draw(np.random.default_rng([number, repeat, 3]), PATIENTS)
        found, _ = calibrate(predictor, asked, seed=repeat)
        own.append(covered(found.threshold(COVERAGE, CONFIDENCE)))
    return {"pooled": pooled, "own": own}


def measure(predictor: Predictor, rest: Arrays, split: str, repeats: int) -> dict[str, Any]:
    """Return a row of the table: twenty hospitals of one kind."""
    found = [
        judge(predictor, hospital, number=number, repeats=repeats)
        for number, hospital in enumerate(SPLITS[split](*rest))
    ]
    pooled = np.asarray([one["pooled"] for one in found])
    own = np.asarray([one["own"] for one in found])  # [hospital, repeat, (coverage, size)]
    by_repeat = (own[:, :, 0] >= COVERAGE).sum(axis=0)
    return {
        "split": split,
        "pooled": {
            "covered": int((pooled[:, 0] >= COVERAGE).sum()),
            "least": float(pooled[:, 0].min()),
            "size": float(pooled[:, 1].mean()),
        },
        "own": {
            "covered": by_repeat.tolist(),
            "least": float(own[:, :, 0].min()),
            "size": float(own[:, :, 1].mean()),
        },
    }


def made() -> Parts:
    """Four classes of which the truth is known: Gaussians that overlap."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(-0.4, 0.4, (4, 6))

    def some(count: int) -> Arrays:
        labels = generator.integers(0, 4, count)
        values = centres[labels] + generator.normal(0, 0.25, (count, 6))
        return np.clip(values, -1, 1).astype(np.float32), labels

    settings = {"training.rounds": 40, "training.learning-rate": 1.0}
    return Parts(
        train=some(4000), public=some(2000), rest=some(20_000), model="logistic", settings=settings
    )


def mnist() -> Parts:
    """MNIST: its first 10,000 pictures train, the 3,000 after them are public."""
    dataset = load_dataset("mnist")

    def of(records: Any, rows: slice) -> Arrays:
        return np.asarray(records.inputs[rows]), records.labels[rows]

    return Parts(
        train=of(dataset.train, slice(0, 10_000)),
        public=of(dataset.train, slice(10_000, 13_000)),
        rest=of(dataset.train, slice(20_000, 23_000)),
        model="logistic",
        settings={"training.rounds": 40, "training.learning-rate": 1.0},
    )


def retina() -> Parts:
    """RetinaMNIST: five grades of diabetic retinopathy, shuffled by a fixed seed."""
    dataset = load_dataset("medmnist:retinamnist")
    assert dataset.test is not None
    inputs = np.concatenate([np.asarray(one.inputs) for one in (dataset.train, dataset.test)])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    rows = np.random.default_rng(0).permutation(len(labels))

    def of(chosen: NDArray[np.int64]) -> Arrays:
        return inputs[chosen], labels[chosen]

    return Parts(
        train=of(rows[:700]),
        public=of(rows[700:1000]),
        rest=of(rows[1000:]),
        model="logistic",
        settings={"training.rounds": 40, "training.learning-rate": 0.3},
    )


def chest_xray() -> Parts:
    """Chest X-rays, one picture of each child, shuffled by a fixed seed."""
    dataset = load_dataset("chest-xray")
    rows = one_record_each(dataset.train.patients, seed=0)
    rows = np.random.default_rng(0).permutation(rows)

    def of(chosen: NDArray[np.int64]) -> Arrays:
        return np.asarray(dataset.train.inputs[chosen]), dataset.train.labels[chosen]

    return Parts(
        train=of(rows[:1800]),
        public=of(rows[1800:2600]),
        rest=of(rows[2600:]),
        model="scattering",
        settings={"training.rounds": 40, "training.learning-rate": 0.5},
    )


DATA: dict[str, Callable[[], Parts]] = {
    "made": made,
    "mnist": mnist,
    "retinamnist": retina,
    "chest-xray": chest_xray,
}


def trained(parts: Parts, folder: Path) -> Predictor:
    """Train privately, by hospitals that are alike, and return what predicts."""
    from clients.contract.settings import Settings
    from simulations.engines.direct_transport import train_here

    file = folder / "records.npz"
    arrays = {}
    for part, (inputs, labels) in (("train", parts.train), ("test", parts.public)):
        pixels = inputs
        if inputs.ndim == 4:
            pixels = np.rint(np.moveaxis(inputs, 1, -1) * 255).astype(np.uint8)
        arrays |= {f"{part}_images": pixels, f"{part}_labels": labels}
    np.savez(file, **arrays)
    config = {
        "data.name": f"npz:{file}",
        "data.public": True,
        "partition.name": "iid",
        "model.name": parts.model,
        "privacy.target-epsilon": 3.0,
        "run.seed": 0,
        "run.out": str(folder / "run"),
        "run.log-level": "warning",
        "tracking.wandb": "disabled",
        "audit.enabled": False,
        **parts.settings,
    }
    (folder / "run").mkdir()
    train_here(Settings.from_config(config), Cohorts())
    return Predictor(read_artefact(folder / "run" / PREDICTOR))


def main() -> int:
    """Measure every data set and split, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    rows = []
    for name in options.only:
        with data_or_exit(), tempfile.TemporaryDirectory() as folder:
            parts = DATA[name]()
            predictor = trained(parts, Path(folder))
            chances = predictor.chances(parts.rest[0])
            accuracy = float((chances.argmax(axis=1) == parts.rest[1]).mean())
            for split in SPLITS:
                row = {"data": name, "model": parts.model, "accuracy": accuracy}
                rows.append({**row, **measure(predictor, parts.rest, split, REPEATS)})
                print(json.dumps(rows[-1]), flush=True)
    if options.json:
        before = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
        rows += [row for row in before if row["data"] not in options.only]
        rows.sort(key=lambda row: list(DATA).index(row["data"]))
        kept = {
            "command": "python benchmarks/own_calibration.py --json "
            "docs/measured/own_calibration.json",
            "hospitals": HOSPITALS,
            "patients": PATIENTS,
            "repeats": REPEATS,
            "coverage": COVERAGE,
            "confidence": CONFIDENCE,
            "rows": rows,
        }
        options.json.write_text(json.dumps(kept, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
