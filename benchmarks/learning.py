"""Measures what is learnt under noise, and writes docs/results-data.md from what it measured.

    python benchmarks/learning.py run [--only ROW ...] [--out runs/learning]
    python benchmarks/learning.py write [--out runs/learning]

``run`` trains every row of the tables below on its seeds, through the two apps that a deployment
runs, in this one process (``flower-simulation run SCENARIO --seed N`` gives the same model, to the
bit); what has finished is left alone, so it can be stopped and started at will. ``write`` gathers
the run folders in ``docs/measured/learning.json`` and makes the page of it. Data: $ASCLEPIAS_DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tarfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from learning_rows import FAST, ROWS, Row  # noqa: E402  (after the path is set)
from needed_data import data_or_exit  # noqa: E402

from strategies.run.events import is_finished  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "learning.json"
PAGE = ROOT / "docs" / "results-data.md"
QUIET = ("tracking.wandb=disabled", "run.log-level=warning", "audit.enabled=false")


def run(out: Path, only: Sequence[str]) -> None:
    """Train what is not there yet."""
    import tomli_w

    from clients.data import Cohorts
    from simulations.engines.direct_transport import train_here
    from simulations.scenario import find_scenario, resolve

    cohorts = Cohorts()
    for row in ROWS:
        if only and not any(row.name.startswith(name) for name in only):
            continue
        for seed in row.chance:
            folder = out.absolute() / row.name / f"seed{seed}"
            if is_finished(folder):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            overrides = {"run.seed": seed, "run.out": str(folder)}
            if row.archive:
                overrides["data.dir"] = unpacked(row.archive, out.absolute())
            settings = resolve(find_scenario(row.scenario), [*row.sets, *QUIET], overrides)
            (folder / "config.toml").write_text(tomli_w.dumps(settings.to_tables()))
            train_here(settings, cohorts)
            print(row.name, seed, _figures(folder, row)["value"], flush=True)


def unpacked(archive: str, out: Path) -> str:
    """Return the folder of an archive's pictures, which are unpacked below `out`.

    Raises:
        DataError: there is no such archive in $ASCLEPIAS_DATA.
    """
    from clients.data.files import find

    folder = out / "unpacked" / archive
    if not folder.is_dir():
        with tarfile.open(find(None, [archive])) as held, TemporaryDirectory(dir=out) as made:
            held.extractall(made, filter="data")
            folder.parent.mkdir(exist_ok=True)
            Path(made).rename(folder)
    return str(folder)


def _figures(folder: Path, row: Row) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    privacy = json.loads((folder / "privacy.json").read_text())
    config = tomllib.loads((folder / "config.toml").read_text())
    confusion = json.loads((folder / "evaluation.json").read_text())["confusion"]
    counts = [sum(line) for line in confusion]
    value = summary[row.measure] if row.measure in summary else summary["metrics"][row.measure]
    epsilon = summary["epsilon"]["prv"] if summary["epsilon"] else None
    return {
        "seed": config["run"]["seed"],
        "value": round(value, 4),
        "metrics": {name: round(one, 4) for name, one in summary["metrics"].items()},
        "majority": round(max(counts) / sum(counts), 4),
        "epsilon": round(epsilon, 4) if epsilon else None,
        "seconds": round(summary["seconds"]["total"], 1),
        "uplink_bytes": summary["uplink_bytes_per_hospital_round"],
        "input_noise": privacy.get("input_noise"),
        "learning_rate": config["training"]["learning-rate"],
    }


def gather(out: Path) -> None:
    """Take what run folders hold over into `MEASURED`; other seeds and rows stay as they are."""
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for row in ROWS:
        folders = [out / row.name / f"seed{seed}" for seed in row.chance]
        found = [_figures(one, row) for one in folders if is_finished(one)]
        head = {"scenario": row.scenario, "sets": list(row.sets)}
        before = kept.get(row.name, {})
        same = {name: before.get(name) for name in head} == head
        seeds = {one["seed"]: one for one in (*(before["seeds"] if same else ()), *found)}
        if all(seed in seeds for seed in row.chance):
            kept[row.name] = head | {"seeds": [seeds[seed] for seed in row.chance]}
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n")


def page(kept: dict[str, Any]) -> str:
    """Return the page that the measured rows make.

    Raises:
        ValueError: if a row was measured on other seeds than those it is to be measured on, as one
            that is claimed on those that its settings were chosen on.
    """
    for row in ROWS:
        if row.name in kept:
            seeds = [one["seed"] for one in kept[row.name]["seeds"]]
            if seeds != list(row.chance):
                raise ValueError(
                    f"{row.name} was measured on seeds {seeds}, not on {[*row.chance]}: "
                    "run it again"
                )
    parts = [INTRODUCTION]
    for table, text in TABLES.items():
        rows = [row for row in ROWS if row.table == table]
        lines = [row for row in rows if row.name in kept or table in OPEN]
        if lines:
            parts.append(text + "\n" + LAYOUTS.get(table, _plain)(lines, kept))
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled) + "\n"


def _spread(values: Sequence[float]) -> list[str]:
    return [f"{statistics.fmean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]


def _interval(values: Sequence[float]) -> str:
    """Return where the mean over all seeds lies, at 95%, by Student's t."""
    from scipy.stats import t

    mean, spread = statistics.fmean(values), statistics.stdev(values)
    reach = t.ppf(0.975, len(values) - 1) * spread / len(values) ** 0.5
    return f"{mean - reach:.3f} to {mean + reach:.3f}"


def _known(values: Sequence[float]) -> str:
    return _interval(values) if len(values) > 1 else "one seed"


def _claimed(rows: Sequence[Row], kept: dict[str, Any]) -> str:
    lines, commands = [], []
    for row in rows:
        seeds = kept[row.name]["seeds"]
        values = [one["value"] for one in seeds]
        least = seeds[0]["majority"] + 0.05 if row.least == "majority" else row.least
        assert isinstance(least, float)
        met = "yes" if statistics.fmean(values) >= least else "no"
        seconds = statistics.median(one["seconds"] for one in seeds)
        lines.append(
            [
                row.title,
                f"{seeds[0]['epsilon']:.3g}",
                row.measure.replace("_", " "),
                f"{statistics.fmean(values):.3f}",
                _interval(values),
                f"{least:.3f}",
                f"{met} ({len(seeds)} seeds)",
                f"{seconds:.0f}",
                row.published or "-",
            ]
        )
        commands.append(f"flower-simulation run {row.scenario} --seed N")
    head = ["cohort", "epsilon (PRV)", "figure", "mean", "95 %", "wanted", "met", "s", "others"]
    shown, listed = "\n".join(commands), ", ".join(map(str, rows[0].chance))
    return _table(head, lines) + f"\nN = {listed} in:\n\n```sh\n{shown}\n```\n" + _more(kept)


def _more(kept: dict[str, Any]) -> str:
    """All figures of the grades, of which accuracy alone says little."""
    if "retinamnist" not in kept:
        return ""
    seeds = kept["retinamnist"]["seeds"]
    names = [name for name in seeds[0]["metrics"] if name != "loss"]
    means = [statistics.fmean(one["metrics"][name] for one in seeds) for name in names]
    listed = ", ".join(f"{n.replace('_', ' ')} {m:.3f}" for n, m in zip(names, means, strict=True))
    return f"\nThe grades of retinamnist, mean over seeds: {listed}.\n"


def _beside(rows: Sequence[Row], kept: dict[str, Any]) -> str:
    """Each net beside the linear model, seed by seed; what was not measured says so."""
    lines, commands = [], []
    for row in rows:
        told = f"{'' if row.linear else '**'}{row.title}{'' if row.linear else '**'}"
        sets = "".join(f" --set {one}" for one in row.sets if one != FAST)
        commands.append(f"flower-simulation run {row.scenario}{sets} --seed N")
        if row.name not in kept:
            lines.append([told, *["not measured"] * 4, "-"])
            continue
        seeds = kept[row.name]["seeds"]
        accuracy, auc = ([one["metrics"][name] for one in seeds] for name in ("accuracy", "auc"))
        line = [told, f"{seeds[0]['epsilon']:.3g}"]
        line += [f"{statistics.fmean(one):.3f} ({_known(one)})" for one in (accuracy, auc)]
        lines.append([*line, *(_apart(row, kept, name) for name in ("accuracy", "auc"))])
    head = ["model", "epsilon", "accuracy (95 %)", "AUC (95 %)"]
    head += ["accuracy less the line's", "AUC less the line's"]
    shown, listed = "\n".join(dict.fromkeys(commands)), ", ".join(map(str, rows[0].chance))
    return _table(head, lines) + f"\nN = {listed} in:\n\n```sh\n{shown}\n```\n"


def _apart(row: Row, kept: dict[str, Any], name: str) -> str:
    """Return what a figure is less the linear model's on the same seeds, and whether it tells."""
    if row.linear not in kept:
        return "-"
    own, of_line = (
        {one["seed"]: one["metrics"][name] for one in kept[of]["seeds"]}
        for of in (row.name, row.linear)
    )
    apart = [value - of_line[seed] for seed, value in own.items()]
    if len(apart) == 1:
        return f"{apart[0]:+.3f}, one seed"
    low, _, high = _interval(apart).split()
    word = "better" if float(low) > 0 else "worse" if float(high) < 0 else "not clear"
    return f"{statistics.fmean(apart):+.3f} ({low} to {high}), {word}"


def _plain(rows: Sequence[Row], kept: dict[str, Any]) -> str:
    lines = []
    for row in rows:
        seeds = kept[row.name]["seeds"]
        balanced = [one["metrics"]["balanced_accuracy"] for one in seeds]
        values = [one["value"] for one in seeds]
        lines.append(
            [
                row.title,
                row.measure.replace("_", " "),
                *_spread(values),
                f"{statistics.fmean(balanced):.3f}",
                str(len(seeds)),
            ]
        )
    return _table(["training", "figure", "mean", "range", "balanced accuracy", "seeds"], lines)


def _compared(rows: Sequence[Row], kept: dict[str, Any]) -> str:
    lines = []
    for row in rows:
        seeds = kept[row.name]["seeds"]
        noise = seeds[0]["input_noise"]
        if noise:
            cost = f"{noise['epsilon_per_value']:g} a pixel, {noise['epsilon_per_record']:g} a "
            cost += "picture"
        else:
            cost = f"{seeds[0]['epsilon']:.3g} a child" if seeds[0]["epsilon"] else "none"
        auc = statistics.fmean(one["metrics"]["auc"] for one in seeds)
        accuracy = [one["value"] for one in seeds]
        lines.append([row.title, cost, *_spread(accuracy), f"{auc:.3f}", row.published])
    head = ["training", "epsilon", "accuracy", "range", "AUC", "theirs, %"]
    return _table(head, lines)


def _ruled(rows: Sequence[Row], kept: dict[str, Any]) -> str:
    lines = []
    for row in rows:
        values = [one["value"] for one in kept[row.name]["seeds"]]
        rate = statistics.median(one["learning_rate"] for one in kept[row.name]["seeds"])
        lines.append([row.title, f"{rate:.3g}", row.measure.replace("_", " "), *_spread(values)])
    return _table(["training", "step size", "figure", "mean", "range"], lines)


LAYOUTS: dict[str, Callable[[Sequence[Row], dict[str, Any]], str]] = {
    "claims": _claimed,
    "nets": _beside,
    "rule": _ruled,
    "singh": _compared,
}

#: Tables that also list what was not measured.
OPEN = ("nets",)

INTRODUCTION = """# What is learnt under noise

Every number below was measured by `python benchmarks/learning.py run` and written by
`python benchmarks/learning.py write`; none is typed by hand. A seed decides holdout, split, initial
weights, sampling and noise together, so the ranges hold all of these. Settings were chosen on the
seeds from 0 on, which all tables but the first two use; those, of what is claimed, use seeds that
nothing was chosen on. Seconds are wall-clock of the machine it ran on, shared with other work.
"""

TABLES = {
    "claims": """## The scenarios

Sealed with BFV, all hospitals' shares of the noise in the sum (FSCDP). The epsilon is the one that
the server and the public face, spent over the whole training: per patient where it is known whose a
record is (heart-disease, chest-xray, breast-cancer), per record in MedMNIST and MNIST, which name
no patients.
""",
    "nets": """## The field's nets beside a line

What a net that is trained whole, from a random start, learns under the noise that a linear model
has at the same epsilon, private and in sealed sums (FSCDP). The line is `scattering` on X-rays and
photographs, the head on a pretrained net at 224 pixels, and logistic regression on voxels and on
hours. Differences are seed by seed: the same holdout and the same split; "better" and "worse" where
their interval leaves nought out.

Measured under `modular`, which adds the same integers as the scenarios' bfv and gives the same
model to the bit. Of the published pictures of 224 only 240 are at hand, and 80 to measure on: three
hospitals share what `chest_xray_sample.tar` holds (unpacked, `data.dir` says where), and noise of
the same epsilon weighs far more there than over the 5,216 of 64 pixels. Torchvision's weights are
not at hand either; with them a net starts from ImageNet: `--set
model.weights=squeezenet1_1-b8a52dc0.pth`, or `--set model.name=pretrained:resnet18 --set
model.weights=resnet18-f37072fd.pth --set model.weights-digest=SHA-256 --set model.tuned-stages=1`.
""",
    "steps": """## Step size, clip and batch

What counts is step times clip: the noise of a step grows with both. Settings with the same product
differ by less than the spread over seeds; of these the defaults take the smaller step.
""",
    "rule": """## A step size that needs no tuning

Tuning on private data would cost privacy that no ledger shows. With `training.learning-rate=auto`
the step size follows from public numbers alone: q*N, sigma, d, T, the clip and the momentum
(`simulations/step_size.py`). Beside it stand the step sizes of the scenarios, which were tuned on
public data.
""",
    "options": """## Options that help under noise

`training.averaging` releases an average of the models so far; `training.class-shares` learns as if
all classes, whose shares are public, were equally common (logit adjustment);
`training.augmentations` averages altered copies of a picture before the clip. None of them costs
privacy. A scenario turns on those that gain more than the spread over seeds here, or that gain
balanced accuracy and lose nothing.
""",
    "singh": """## Noise on pictures or on gradients (Singh et al. 2020, Figure 4)

Chest X-rays with `scattering`, ten hospitals; theirs is a pretrained ResNet-18 on pooled pictures
of 256 pixels per side, so compare rows, not columns. Noise on every pixel protects a *pixel* by
1 / beta. For a whole picture these epsilons add up to a number that promises nothing, while all of
a child's pictures are covered by the epsilon of the sums. Labels are not covered by noise on
pixels at all.

The holdout is behind the same noise as what was learnt from. An accuracy that is the same for every
seed is the share of the more common class: at these scales the noise left nothing of 64 by 64
pixels to learn.
""",
}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "write"))
    parser.add_argument("--only", nargs="*", default=[], help="rows whose names start so")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning")
    arguments = parser.parse_args()
    if arguments.command == "run":
        with data_or_exit():
            run(arguments.out, arguments.only)
    else:
        gather(arguments.out)
        PAGE.write_text(page(json.loads(MEASURED.read_text())))


if __name__ == "__main__":
    main()
