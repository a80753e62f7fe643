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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MEASURED = ROOT / "docs" / "measured" / "learning.json"
PAGE = ROOT / "docs" / "results-data.md"
QUIET = ("tracking.wandb=disabled", "run.log-level=warning")
#: The same integers as bfv, so the same model; for the tables in which nothing is claimed of time.
FAST = "sealing.scheme=modular"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        table: which table.
        name: folder of its trainings.
        title: what the line says.
        scenario: what is trained.
        sets: settings that differ from the scenario.
        measure: the figure that the line is about.
        least: what it must reach; "majority" for five points above the commonest class.
        published: figures of others, for comparison.
        seeds: trainings.
    """

    table: str
    name: str
    title: str
    scenario: str
    sets: tuple[str, ...] = ()
    measure: str = "accuracy"
    least: float | str | None = None
    published: str = ""
    seeds: int = 5


def _claims() -> list[Row]:
    def claim(scenario: str, title: str, measure: str, **more: Any) -> Row:
        return Row(
            table="claims", name=scenario, title=title, scenario=scenario, measure=measure, **more
        )

    return [
        claim(
            "heart-disease",
            "heart-disease, four real hospitals",
            "mean_hospital_accuracy",
            least=0.78,
            published=".685 (FLamby, each hospital alone)",
        ),
        claim(
            "heart-disease-strict",
            "the same at a tenth of epsilon",
            "mean_hospital_accuracy",
            least=0.68,
            published=".606 (FLamby)",
        ),
        claim(
            "chest-xray",
            "chest-xray 64x64, by child",
            "auc",
            least=0.93,
            published=".94 at epsilon 6 (DenseNet-121, 36 hospitals)",
        ),
        claim("retinamnist", "retinamnist, grades", "accuracy", least="majority"),
        claim("vesselmnist3d", "vesselmnist3d, volumes", "auc", least=0.5, seeds=5),
        claim(
            "mnist",
            "mnist, delta 1e-5",
            "accuracy",
            least=0.95,
            published=".98 without pretraining",
        ),
    ]


def _options() -> list[Row]:
    rows = []
    bases = {
        "default": ("breast-cancer", "accuracy", "0.37,0.63"),
        "heart-disease": ("heart-disease", "mean_hospital_accuracy", "0.45,0.55"),
        "chest-xray": ("chest-xray", "auc", "0.27,0.73"),
        "retinamnist": ("retinamnist", "accuracy", "0.45,0.12,0.19,0.18,0.06"),
    }
    for scenario, (data, measure, shares) in bases.items():
        average, shared = "training.averaging=0.9", f'training.class-shares="{shares}"'
        last, even = "training.averaging=0.0", 'training.class-shares=""'
        variants: dict[str, tuple[str, ...]] = {
            "neither": (last, even),
            "averaging 0.9": (average, even),
            f"class-shares {shares}": (last, shared),
            "both": (average, shared),
        }
        for number, (title, sets) in enumerate(variants.items()):
            rows.append(
                Row(
                    table="options",
                    name=f"option-{data}-{number}",
                    title=f"{data}: {title}",
                    scenario=scenario,
                    sets=(*sets, FAST),
                    measure=measure,
                )
            )
    cnn = ("model.name=cnn", "training.learning-rate=0.3", FAST)
    for copies in (0, 4):
        rows.append(
            Row(
                table="options",
                name=f"option-cnn-copies-{copies}",
                title=f"retinamnist, cnn: {copies or 'no'} altered copies",
                scenario="retinamnist",
                sets=(*cnn, f"training.augmentations={copies}"),
                seeds=3,
            )
        )
    return rows


def _steps() -> list[Row]:
    """Step size, clip and batch of the default scenario."""
    rows = []
    for rate, clip, sampling in (
        (0.1, 0.5, 0.2),
        (0.3, 0.5, 0.2),
        (1.0, 0.5, 0.2),
        (0.3, 0.25, 0.2),
        (0.3, 1.0, 0.2),
        (1.0, 1.0, 0.2),
        (0.3, 0.5, 0.1),
        (0.3, 0.5, 0.5),
    ):
        rows.append(
            Row(
                table="steps",
                name=f"steps-{rate}-{clip}-{sampling}",
                title=f"breast-cancer: learning-rate {rate}, l2-clip {clip}, q {sampling}",
                scenario="default",
                sets=(
                    f"training.learning-rate={rate}",
                    f"privacy.l2-clip={clip}",
                    f"training.sampling-rate={sampling}",
                    FAST,
                ),
            )
        )
    return rows


def _singh() -> list[Row]:
    private = ("privacy.regime=FSCDP", FAST)
    theirs = {"plain": "90.2", "laplace": ("91.0", "89.6", "91.7"), "sgd": ("79.8", "77.7", "79.7")}

    def row(name: str, title: str, sets: tuple[str, ...], published: str) -> Row:
        return Row(
            table="singh",
            name=f"singh-{name}",
            title=title,
            scenario="singh-2020",
            sets=sets,
            published=published,
            seeds=3,
        )

    rows = [row("plain", "plain", (FAST,), str(theirs["plain"]))]
    for number, level in enumerate((1, 2, 4)):
        sets = (f"privacy.input-laplace={level}", FAST)
        title = f"noise on every pixel, beta {level}"
        rows.append(row(f"laplace-{level}", title, sets, theirs["laplace"][number]))
    for number, level in enumerate((1, 2, 4)):
        sets = (f"privacy.target-epsilon={level}", *private)
        title = f"noise on the sums of gradients, epsilon {level}"
        rows.append(row(f"sgd-{level}", title, sets, theirs["sgd"][number]))
    return rows


ROWS = [*_claims(), *_steps(), *_options(), *_singh()]


def run(out: Path, only: Sequence[str]) -> None:
    """Train what is not there yet."""
    import tomli_w

    from simulations.compare_grid import train_here
    from simulations.scenario import find_scenario, resolve

    for row in ROWS:
        if only and not any(row.name.startswith(name) for name in only):
            continue
        for seed in range(row.seeds):
            folder = out.absolute() / row.name / f"seed{seed}"
            if (folder / "summary.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            overrides = {"run.seed": seed, "run.out": str(folder)}
            settings = resolve(find_scenario(row.scenario), [*row.sets, *QUIET], overrides)
            (folder / "config.toml").write_text(tomli_w.dumps(settings.to_tables()))
            train_here(settings)
            print(row.name, seed, _figures(folder, row)["value"], flush=True)


def _figures(folder: Path, row: Row) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    privacy = json.loads((folder / "privacy.json").read_text())
    confusion = json.loads((folder / "evaluation.json").read_text())["confusion"]
    counts = [sum(line) for line in confusion]
    value = summary[row.measure] if row.measure in summary else summary["metrics"][row.measure]
    epsilon = summary["epsilon"]["prv"] if summary["epsilon"] else None
    return {
        "value": round(value, 4),
        "metrics": {name: round(one, 4) for name, one in summary["metrics"].items()},
        "majority": round(max(counts) / sum(counts), 4),
        "epsilon": round(epsilon, 4) if epsilon else None,
        "seconds": round(summary["seconds"]["total"], 1),
        "uplink_bytes": summary["uplink_bytes_per_hospital_round"],
        "input_noise": privacy.get("input_noise"),
    }


def gather(out: Path) -> None:
    """Take what run folders hold over into `MEASURED`; incomplete rows stay as they are."""
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for row in ROWS:
        folders = [out / row.name / f"seed{seed}" for seed in range(row.seeds)]
        found = [_figures(one, row) for one in folders if (one / "summary.json").exists()]
        if len(found) == row.seeds:
            kept[row.name] = {"scenario": row.scenario, "sets": list(row.sets), "seeds": found}
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n")


def page(kept: dict[str, Any]) -> str:
    """Return the page that the measured rows make."""
    parts = [INTRODUCTION]
    for table, text in TABLES.items():
        lines = [row for row in ROWS if row.table == table and row.name in kept]
        if lines:
            parts.append(text + "\n" + LAYOUTS.get(table, _plain)(lines, kept))
    return "\n".join(parts)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled) + "\n"


def _spread(values: Sequence[float]) -> list[str]:
    return [f"{statistics.fmean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]


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
                *_spread(values),
                f"{least:.3f}",
                f"{met} ({len(seeds)} seeds)",
                f"{seconds:.0f}",
                row.published or "-",
            ]
        )
        commands.append(f"flower-simulation run {row.scenario} --seed N")
    head = ["cohort", "epsilon (PRV)", "figure", "mean", "range", "wanted", "met", "s", "others"]
    shown = "\n".join(commands)
    return _table(head, lines) + f"\nN = 0, 1, 2, 3, 4 in:\n\n```sh\n{shown}\n```\n" + _more(kept)


def _more(kept: dict[str, Any]) -> str:
    """All figures of the grades, of which accuracy alone says little."""
    if "retinamnist" not in kept:
        return ""
    seeds = kept["retinamnist"]["seeds"]
    names = [name for name in seeds[0]["metrics"] if name != "loss"]
    means = [statistics.fmean(one["metrics"][name] for one in seeds) for name in names]
    listed = ", ".join(f"{n.replace('_', ' ')} {m:.3f}" for n, m in zip(names, means, strict=True))
    return f"\nThe grades of retinamnist, mean over seeds: {listed}.\n"


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


LAYOUTS: dict[str, Callable[[Sequence[Row], dict[str, Any]], str]] = {
    "claims": _claimed,
    "singh": _compared,
}

INTRODUCTION = """# What is learnt under noise

Every number below was measured by `python benchmarks/learning.py run` and written by
`python benchmarks/learning.py write`; none is typed. A seed decides holdout, split, initial
weights, sampling and noise together, so the ranges hold all of these. Seconds are wall-clock of
the machine it ran on, shared with other work.
"""

TABLES = {
    "claims": """## The scenarios

Sealed with BFV, all hospitals' shares of the noise in the sum (FSCDP). The epsilon is the one that
the server and the public face, spent over the whole training.
""",
    "steps": """## Step size, clip and batch

What counts is step times clip: the noise of a step grows with both. Settings of one product are
alike within the spread of the seeds; of these the defaults take the smaller step.
""",
    "options": """## Options that help under noise

`training.averaging` releases an average of the models so far; `training.class-shares` learns as if
the classes, of which the shares are public, were even; `training.augmentations` averages altered
copies of a picture before the clip. All are free of privacy cost. A scenario has those on that win
by more than the spread of the seeds here, or that win in balanced accuracy and lose nothing.
""",
    "singh": """## Noise on pictures or on gradients (Singh et al. 2020, Figure 4)

Chest X-rays with `scattering`, ten hospitals; theirs is a pretrained ResNet-18 on pooled pictures
of 256 pixels a side, so compare rows, not columns. Noise on every pixel protects a *pixel* by
1 / beta. For a whole picture these epsilons add up to a number that promises nothing, while all of
a child's pictures are covered by the epsilon of the sums. Labels are not covered by noise on
pixels at all.

The holdout is behind the same noise as what was learnt from. An accuracy that no seed moves is the
share of the commoner class: at these scales the noise left nothing of 64 by 64 pixels to learn.
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
        run(arguments.out, arguments.only)
    else:
        gather(arguments.out)
        PAGE.write_text(page(json.loads(MEASURED.read_text())))


if __name__ == "__main__":
    main()
