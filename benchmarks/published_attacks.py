"""What papers report of attacks on data that are here, and what ours find on the same data.

    python benchmarks/published_attacks.py [--seeds 3] [--out docs/measured/published_attacks.json]

Here is measured what no other benchmark measures: FGSM against a linear model of MNIST. What Singh
et al. (2020) report is beside what `benchmarks/learning.py` and `benchmarks/attacks.py` measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from needed_data import data_or_exit  # noqa: E402  (after the path is set)
from robust_groups import SCENARIO, TOLD  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "published_attacks.json"
#: How far a value moves, as in the paper, of a range of 1.
RADIUS = 0.25
#: Regimes and their targets; the paper's has no protection.
WAYS: tuple[tuple[str, float | None], ...] = (("C", None), ("FSCDP", 3.0))
#: The first seed; nothing was tuned on any of them.
FIRST = 300
WHY_LESS = (
    "ours takes 60 clipped steps, theirs is trained to its end; whether theirs keeps pixels "
    "within 0 and 1 it does not say"
)
WHY_ONE_CLASS = (
    "theirs is a ResNet-18 with ImageNet weights on 256 pixels a side, at the best of 50 epochs on "
    "the test pictures; ours a linear head on scattering of 64, which says one class"
)
LAPLACE = {1: "91.0", 2: "89.6", 4: "91.7"}


def fgsm(regime: str, epsilon: float | None, seed: int) -> dict[str, float]:
    """Train a linear model of MNIST and return its errors, before and after one step of FGSM."""
    import numpy as np
    import torch

    from simulations.attacks.adversarial import accuracy, changed
    from simulations.attacks.ground import Ground, Way
    from simulations.attacks.shadow_models import module_of
    from simulations.attacks.trainings import train
    from simulations.scenario import find_scenario, resolve

    ground = Ground(
        settings=resolve(find_scenario(SCENARIO), [], {**TOLD, "run.seed": seed}), seed=seed
    )
    settings = ground.told(Way(regime=regime, epsilon=epsilon))
    with tempfile.TemporaryDirectory() as folder:
        model = train(settings, ground.cohorts, Path(folder) / "run").model
    module, holdout = module_of(settings, ground, model), ground.cohort.holdout
    inputs = torch.as_tensor(np.asarray(holdout.inputs, dtype=np.float32))
    labels, bounds = torch.as_tensor(holdout.labels), ground.cohort.info.input_range
    # The paper does not say that pixels stay within their range: once they do, once they do not.
    wide = (bounds[0] - RADIUS, bounds[1] + RADIUS)
    free = changed(module, inputs, labels, RADIUS / (wide[1] - wide[0]), wide, steps=1)
    moved = changed(module, inputs, labels, RADIUS, bounds, steps=1)
    return {
        "clean": 1.0 - accuracy(module, inputs, labels),
        "moved": 1.0 - accuracy(module, moved, labels),
        "free": 1.0 - accuracy(module, free, labels),
    }


def measure(out: Path, seeds: int) -> None:
    """Measure what is missing, and keep it."""
    known: dict[str, Any] = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    for seed in range(FIRST, FIRST + seeds):
        for regime, epsilon in WAYS:
            found = known.setdefault("fgsm", {}).setdefault(regime, {})
            if str(seed) not in found:
                found[str(seed)] = fgsm(regime, epsilon, seed)
                print(regime, seed, found[str(seed)], flush=True)
                out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def published_table(
    measured: dict[str, Any], learning: dict[str, Any], attacks: dict[str, Any], rows: Any
) -> str:
    """Return papers' results beside ours, with the reason where they differ."""
    table = [_fgsm_row(measured["fgsm"], regime, epsilon) for regime, epsilon in WAYS]
    scales = ", ".join(str(scale) for scale in LAPLACE)
    noised = f"chest X-rays, Laplace noise of scale {scales} on pixels"
    ours = [
        _spread([100 * one["value"] for one in learning[f"singh-laplace-{scale}"]["seeds"]])
        for scale in LAPLACE
    ]
    seen = {row["way"]: row for row in attacks["attack-visual-xray"]["rows"]}
    rows_of = [seen[f"scale {scale}"] for scale in LAPLACE]
    like = ", ".join(f"{row['ssim']:.2f}" for row in rows_of)
    picked = ", ".join(f"{row['picked']:.0%}" for row in rows_of)
    paper = "Singh et al. 2020"
    table += [
        [f"{paper}, figure 4", f"{noised}: test accuracy, %", ", ".join(LAPLACE.values()),
         ", ".join(ours), WHY_ONE_CLASS],
        [f"{paper}, conclusion", f"{noised}: whether they are hidden", "not always",
         f"SSIM {like} denoised; {picked} picked out of ten", "agrees; theirs are pictures alone"],
    ]  # fmt: skip
    head = ["Paper", "What", "Theirs", "Ours", "Why they differ"]
    return rows(head, table) + "\n`python benchmarks/published_attacks.py`.\n"


def _fgsm_row(found: dict[str, Any], regime: str, epsilon: float | None) -> list[str]:
    runs = found[regime].values()
    free, moved = ([100 * one[key] for one in runs] for key in ("free", "moved"))
    clean = statistics.fmean(100 * one["clean"] for one in runs)
    ours = f"{_spread(free)} ({_spread(moved)} within 0 and 1; {clean:.1f} unchanged)"
    what = f"MNIST, a linear softmax model, FGSM {RADIUS:g}: test error, %"
    if epsilon is None:
        return [
            "Goodfellow et al. 2015, section 4",
            what,
            "99.9",
            ours,
            WHY_LESS,
        ]
    what = f"the same, {regime} at epsilon {epsilon:g}"
    return ["-", what, "-", ours, "noise is no protection against it"]


def _spread(values: list[float]) -> str:
    """Return a mean and half of its 95% interval."""
    from simulations.compare.rows import summarise

    found = summarise(values)
    half = "" if found["high"] is None else f" ± {found['high'] - found['mean']:.1f}"
    return f"{found['mean']:.1f}{half}"


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=MEASURED)
    options = parser.parse_args()
    with data_or_exit():
        measure(options.out, options.seeds)


if __name__ == "__main__":
    main()
