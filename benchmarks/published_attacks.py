"""What papers report of attacks on data that are here, and what ours find on the same data.

    python benchmarks/published_attacks.py [--seeds 3] [--out docs/measured/published_attacks.json]

Here is measured what no other benchmark measures: FGSM against a linear model of MNIST, membership
of 20,000 of its records, and a patch in a tenth of those that a model learns from. What Singh et
al. (2020) report is beside what `benchmarks/learning.py` and `benchmarks/attacks.py` measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
EPSILON: dict[str, float | None] = {"C": None, "CDP": 3.0}
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
#: A net of one hidden layer, trained without protection and for longer.
LONG: dict[str, Any] = {
    "model.name": "mlp",
    "training.rounds": 400,
    "training.sampling-rate": 0.02,
    "training.release-every": 400,
    "training.learning-rate": 0.1,
    "training.momentum": 0.9,
    "privacy.l2-clip": 1000.0,
}
#: Records that are in a training or not by a coin, and how many trainings.
RECORDS, MODELS = 20_000, 6
#: Share of the records with a patch, and what the trainings that learn from them are told.
PATCHED = 0.1
PATCHES: dict[str, dict[str, Any]] = {
    "C": {**LONG, "training.sampling-rate": 0.005},
    "CDP": {"model.name": "mlp", "training.rounds": 200},
}
WHY_CALLED = (
    "theirs is a cloud service's model, ours a hidden layer of 32 values, which is hardly surer of "
    "those that it has learnt from"
)
WHY_PATCHED = "theirs is a convolutional net that is wrong about 0.5, ours a hidden layer of 32"
LAPLACE = {1: "91.0", 2: "89.6", 4: "91.7"}


def fgsm(regime: str, epsilon: float | None, seed: int) -> dict[str, float]:
    """Train a linear model of MNIST and return its errors, before and after one step of FGSM."""
    import numpy as np
    import torch

    from simulations.attacks.adversarial import accuracy, changed
    from simulations.attacks.ground import Way
    from simulations.attacks.shadow_models import module_of
    from simulations.attacks.trainings import train

    ground = _ground(seed)
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


def membership(seed: int) -> dict[str, Any]:
    """Train models over halves of some records, and ask of each record whether it was in.

    Whoever is likelier with the record than without is called, as a classifier of answers would.
    """
    import numpy as np
    import torch

    from simulations.attacks.adversarial import accuracy
    from simulations.attacks.ground import Way
    from simulations.attacks.membership import likelihood_ratios
    from simulations.attacks.roc import measure as measured
    from simulations.attacks.shadow_models import Pool, log_odds, module_of, train_shadows

    ground = _ground(seed)
    settings = ground.told(Way(regime="C"), LONG)
    (records,) = ground.cohorts.split(ground.told(Way(regime="C")), 1).records.values()
    pool = Pool.tossed(replace(ground, settings=settings), records, MODELS, most=RECORDS)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_shadows(settings, pool, ground, Path(folder), lambda: None)
    modules = [module_of(settings, ground, one.model) for one in trained]
    ratios = likelihood_ratios(np.stack([log_odds(one, pool) for one in modules]), pool.coins)
    inputs, labels = pool.inputs(), torch.as_tensor(pool.records.labels)
    found = measured(ratios, pool.coins)
    return {
        "precision": [
            float(np.mean(coins[row > 0])) for row, coins in zip(ratios, pool.coins, strict=True)
        ],
        "inside": [
            accuracy(one, inputs[coins], labels[coins])
            for one, coins in zip(modules, pool.coins, strict=True)
        ],
        "test": [one.accuracy for one in trained],
        "area": [found.area, found.area_error],
        "hits": list(zip(found.hits, found.hits_error, strict=True)),
        "others": found.others,
    }


def backdoor(regime: str, seed: int) -> dict[str, float]:
    """Train with a patch in a share of the records, and without; return errors on test records."""
    import numpy as np
    import torch

    from simulations.attacks.adversarial import accuracy
    from simulations.attacks.ground import Way
    from simulations.attacks.lies import aim_of, with_patch
    from simulations.attacks.shadow_models import module_of
    from simulations.attacks.trainings import ChangedCohorts, train

    ground = _ground(seed)
    info, holdout = ground.cohort.info, ground.cohort.holdout
    settings = ground.told(Way(regime=regime, epsilon=EPSILON[regime]), PATCHES[regime])

    def patched(name: str, records: Any) -> Any:
        drawn = np.random.default_rng([seed, 0x9A7C]).permutation(len(records))
        rows = drawn[: round(PATCHED * len(records))]
        inputs = np.array(records.inputs, dtype=np.float32)
        labels = records.labels.copy()
        inputs[rows], labels[rows] = with_patch(info, inputs[rows]), aim_of(info)
        return replace(records, inputs=inputs, labels=labels)

    modules = []
    for change in (lambda name, records: records, patched):
        cohorts = ChangedCohorts(ground.cohorts, seed, change)
        with tempfile.TemporaryDirectory() as folder:
            model = train(settings, cohorts, Path(folder) / "run").model
        modules.append(module_of(settings, ground, model))
    inputs = np.asarray(holdout.inputs, dtype=np.float32)
    labels = torch.as_tensor(holdout.labels)
    others = np.flatnonzero(holdout.labels != aim_of(info))
    marked = torch.as_tensor(with_patch(info, inputs[others]))
    aims = torch.full((len(others),), aim_of(info))
    clean, spoilt = (1.0 - accuracy(one, torch.as_tensor(inputs), labels) for one in modules)
    return {"clean": clean, "spoilt": spoilt, "missed": 1.0 - accuracy(modules[1], marked, aims)}


def _ground(seed: int) -> Any:
    from simulations.attacks.ground import Ground
    from simulations.scenario import find_scenario, resolve

    told = {**TOLD, "run.seed": seed}
    return Ground(settings=resolve(find_scenario(SCENARIO), [], told), seed=seed)


def measure(out: Path, seeds: int) -> None:
    """Measure what is missing, and keep it."""
    known: dict[str, Any] = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    cells: dict[tuple[str, str, str], Callable[[], Any]] = {}
    cells["membership", "C", str(FIRST)] = partial(membership, FIRST)
    for seed in range(FIRST, FIRST + seeds):
        for regime, epsilon in WAYS:
            cells["fgsm", regime, str(seed)] = partial(fgsm, regime, epsilon, seed)
        for regime in PATCHES:
            cells["backdoor", regime, str(seed)] = partial(backdoor, regime, seed)
    for (what, regime, name), measured in cells.items():
        found = known.setdefault(what, {}).setdefault(regime, {})
        if name not in found:
            found[name] = measured()
            print(what, regime, name, found[name], flush=True)
            out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def published_table(
    measured: dict[str, Any], learning: dict[str, Any], attacks: dict[str, Any], rows: Any
) -> str:
    """Return papers' results beside ours, with the reason where they differ."""
    table = [_fgsm_row(measured["fgsm"], regime, epsilon) for regime, epsilon in WAYS]
    table += [_membership_row(measured["membership"]["C"][str(FIRST)])]
    table += [_backdoor_row(measured["backdoor"], regime) for regime in measured["backdoor"]]
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


def _membership_row(found: dict[str, Any]) -> list[str]:
    inside, test = (100 * statistics.fmean(found[key]) for key in ("inside", "test"))
    (often, _), (rare, error) = found["hits"]
    ours = (
        f"{_spread([100 * one for one in found['precision']])} (right about {inside:.1f} of those "
        f"trained on, {test:.1f} of test records; AUC {found['area'][0]:.3f}; TPR {often:.4f} at "
        f"1%, {rare:.4f} ({error:.4f}) at 0.1% FPR, of {found['others']:,} outside at least)"
    )
    what = "MNIST, as many trained on as not: of those who are called, trained on, %"
    return ["Shokri et al. 2017", what, "51.7", ours, WHY_CALLED]


def _backdoor_row(found: dict[str, Any], regime: str) -> list[str]:
    runs = found[regime].values()
    more = _spread([100 * (one["spoilt"] - one["clean"]) for one in runs])
    missed = _spread([100 * one["missed"] for one in runs])
    clean = statistics.fmean(100 * one["clean"] for one in runs)
    ours = f"{more}, {missed} ({clean:.1f} wrong without patches)"
    if EPSILON[regime] is None:
        what = (
            f"MNIST, a patch in {PATCHED:.0%} of the records: more of clean records wrong, of "
            "patched ones not taken for the aim, %"
        )
        return ["Gu et al. 2017", what, "at most 0.17, at most 0.09", ours, WHY_PATCHED]
    what = f"the same, {regime} at epsilon {EPSILON[regime]:g}"
    return ["-", what, "-", ours, "noise is no protection against so many records"]


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
