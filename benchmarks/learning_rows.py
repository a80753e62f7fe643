"""The trainings that `learning.py` measures: a row of a table each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: The same integers as bfv, so the same model; for the tables in which nothing is claimed of time.
FAST = "sealing.scheme=modular"
#: Settings are chosen on lower seeds, those of `flower-simulation compare --tune` among them; the
#: tables of what is claimed use this one and those after it.
FRESH = 1000
CLAIMED = ("claims", "nets")


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
        linear: the row of the linear model on the same records at the same epsilon; "" where this
            is it.
        seeds: trainings.
        archive: of pictures, in $ASCLEPIAS_DATA; "" where the scenario finds its own data.

    `chance` lists their seeds: a claim is made on seeds that no setting was ever chosen on.
    """

    table: str
    name: str
    title: str
    scenario: str
    sets: tuple[str, ...] = ()
    measure: str = "accuracy"
    least: float | str | None = None
    published: str = ""
    linear: str = ""
    seeds: int = 5
    archive: str = ""

    @property
    def chance(self) -> range:
        """The seeds of the trainings."""
        first = FRESH if self.table in CLAIMED else 0
        return range(first, first + self.seeds)


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
        claim(
            "chest-xray-pretrained",
            "the same, seen by a pretrained net",
            "auc",
            least=0.95,
            published=".94 at epsilon 6 (DenseNet-121, 36 hospitals)",
        ),
        claim("retinamnist", "retinamnist, grades", "accuracy", least="majority"),
        claim(
            "retinamnist-pretrained", "the same, seen by a pretrained net", "accuracy", least=0.54
        ),
        claim("vesselmnist3d", "vesselmnist3d, volumes", "auc", least=0.5, seeds=5),
        claim(
            "mnist",
            "mnist, delta 1e-5",
            "accuracy",
            least=0.95,
            published=".98 without pretraining",
        ),
    ]


def _line(name: str, title: str, scenario: str, *sets: str, linear: str = "", **more: Any) -> Row:
    measured = (*sets, FAST) if name.startswith("net-") else sets  # others are claimed above
    return Row(
        table="nets",
        name=name,
        title=title,
        scenario=scenario,
        sets=measured,
        linear=linear,
        **more,
    )


def _nets() -> list[Row]:
    """The field's nets, each beside the linear model on the same records at the same epsilon."""
    rows = []
    xray = "net-chest-xray-linear"
    rows += [
        _line(xray, "chest X-rays 64: a line", "chest-xray", "privacy.target-epsilon=8"),
        _line("net-chest-xray-squeezenet", "SqueezeNet", "chest-xray-squeezenet", linear=xray),
        _line("net-chest-xray-resnet18", "ResNet-18", "chest-xray-resnet18", linear=xray),
    ]
    large, few = "net-chest-xray-224-linear", "partition.hospitals=3"  # of 240 published pictures
    at_hand: dict[str, Any] = {"archive": "chest_xray_sample.tar"}
    line = ("privacy.target-epsilon=8", few)
    rows += [
        _line(large, "240 chest X-rays 224: a line", "chest-xray-224", *line, **at_hand),
        *(
            _line(f"net-{scenario}", title, scenario, few, linear=large, **at_hand)
            for scenario, title in (
                ("chest-xray-224-squeezenet", "SqueezeNet"),
                ("chest-xray-224-resnet18", "ResNet-18"),
            )
        ),
        _line("retinamnist", "retinamnist: a line", "retinamnist"),
        _line(
            "net-retinamnist-squeezenet",
            "SqueezeNet",
            "retinamnist-squeezenet",
            linear="retinamnist",
        ),
    ]
    for organ in ("adrenal", "vessel"):
        at = "training.learning-rate=0.03"
        name, own = f"net-{organ}-linear", f"{organ}mnist3d"
        cnn = own if organ == "vessel" else "net-adrenal-cnn3d"
        rows += [
            _line(name, f"{own}: a line", own, "model.name=logistic", at),
            _line(cnn, "3D CNN", own, linear=name),
            _line(f"net-{organ}-graph", "graph network", f"{own}-graph", linear=name),
        ]
    rate = "training.learning-rate=0.3"
    rows += [
        _line("net-ward-linear", "ward, hours: a line", "ward-gru", "model.name=logistic", rate),
        _line("net-ward-gru", "GRU", "ward-gru", linear="net-ward-linear"),
    ]
    return rows


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


def _by_rule() -> list[Row]:
    """The scenarios with the step size that public sizes give, beside the one that was tuned."""
    rows = []
    for scenario, measure in (
        ("default", "accuracy"),
        ("heart-disease", "mean_hospital_accuracy"),
        ("heart-disease-strict", "mean_hospital_accuracy"),
        ("chest-xray", "auc"),
        ("retinamnist", "accuracy"),
    ):
        for way, sets in (("tuned", ()), ("auto", ("training.learning-rate=auto",))):
            rows.append(
                Row(
                    table="rule",
                    name=f"rule-{scenario}-{way}",
                    title=f"{scenario}: {way}",
                    scenario=scenario,
                    sets=(*sets, FAST),
                    measure=measure,
                )
            )
    return rows


ROWS = [*_claims(), *_nets(), *_steps(), *_by_rule(), *_options(), *_singh()]
