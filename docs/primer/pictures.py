"""The primer's pictures, each drawn from a computation: `python docs/primer/pictures.py`.

Every draw has a seed, so the same files come out each time, which a test checks. Data are public:
442 patients of Efron et al. (2004) and 8 by 8 digits, both of which scikit-learn brings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes, load_digits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from simulations.pages.drawing import BLUE, GREY, ORANGE, STYLE  # noqa: E402


def panels(count: int, width: float = 7.5, height: float = 2.9) -> tuple[Figure, Any]:
    """Return a figure and its axes, side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, count)


def linkage() -> Figure:
    """Who is alone in what is known, before and after generalising until k is 5."""
    from clients.data.anonymity import measure_anonymity
    from clients.data.declaration import Declaration
    from clients.data.deidentified import Wanted, deidentify
    from clients.data.identified import Identified
    from clients.data.pseudonyms import PseudonymKey
    from clients.data.reading_log import ReadingLog

    found = load_diabetes(scaled=False)
    names = ("age", "bmi", "bp")
    ranges = {"age": [18, 90], "bmi": [15, 50], "bp": [50, 150]}
    patients = np.arange(len(found.data), dtype=np.int64)
    table = Identified(
        declared=Declaration.model_validate(
            {"target": "t", "classes": ["low", "high"], "ranges": ranges, "kinds": {"sex": [1, 2]}}
        ),
        names=("",) * len(patients),
        patients=patients,
        labels=(found.target > 140).astype(np.int64),
        numbers={n: found.data[:, found.feature_names.index(n)] for n in names},
        kinds={"sex": tuple(str(int(one)) for one in found.data[:, 1])},
        dates={},
        log=ReadingLog(),
    )
    made = deidentify(table, PseudonymKey(bytes(32)), Wanted(k=5))
    cells = {name: [row[at] for row in made.rows[1:]] for at, name in enumerate(made.rows[0])}
    after = {n: np.unique(one, return_inverse=True)[1] for n, one in cells.items()}
    before, order = table.exact(), ("sex", "age", "bp", "bmi")
    figure, axes = panels(1, height=3.2)
    for codes, colour, label, shift in (
        (before, BLUE, "as it was read", -0.2),
        (after, ORANGE, "after generalising until k = 5", 0.2),
    ):
        shares = []
        for count in range(1, len(order) + 1):
            known = np.stack([codes[name] for name in order[:count]], axis=1)
            whose = np.arange(len(known))
            one = measure_anonymity(known, whose, whose)
            shares.append(one.alone / one.patients)
        places = np.arange(len(order)) + shift
        axes.bar(places, shares, width=0.38, color=colour, label=label)
        for place, share in zip(places, shares, strict=True):
            axes.text(place, share + 0.015, f"{share:.0%}", ha="center", fontsize=8)
    axes.set_xticks(range(len(order)), ["sex", "+ age", "+ blood pressure", "+ body mass"])
    axes.set_ylim(0, 1.1)
    axes.set_ylabel("patients whom nobody else equals")
    axes.legend(frameon=False, loc="upper left")
    return figure


def randomised_response() -> Figure:
    """What one answer tells, and what a thousand do."""
    levels = np.array([0.25, 0.5, 1.0, 2.0, 3.0, 4.0])
    truly = np.exp(levels) / (1 + np.exp(levels))
    generator, share, people = np.random.default_rng(1), 0.2, 1000
    figure, (left, right) = panels(2)
    for prior, colour in ((0.05, BLUE), (0.2, ORANGE)):
        yes = prior * truly + (1 - prior) * (1 - truly)
        left.plot(levels, prior * truly / yes, "o-", color=colour, label=f"{prior:.0%} before")
    left.set_xlabel("epsilon of an answer")
    left.set_ylabel('belief after "yes"')
    left.set_ylim(0, 1)
    left.legend(frameon=False)
    for place, chance in enumerate(truly):
        answers = np.where(generator.random((400, people)) < share, chance, 1 - chance)
        said = (generator.random(answers.shape) < answers).mean(axis=1)
        estimates = (said - (1 - chance)) / (2 * chance - 1)
        low, middle, high = np.quantile(estimates, [0.05, 0.5, 0.95])
        right.plot([place, place], [low, high], color=BLUE, linewidth=3)
        right.plot(place, middle, "o", color=ORANGE)
    right.axhline(share, color=GREY, linewidth=0.8)
    right.set_xticks(range(len(levels)), [f"{one:g}" for one in levels])
    right.set_xlabel("epsilon of an answer")
    right.set_ylabel(f"estimated share of {people:,} people")
    return figure


def local_and_central() -> Figure:
    """One patient's mark on a noised sum, and what the same epsilon costs in two places."""
    generator = np.random.default_rng(2)
    ages = load_diabetes(scaled=False).data[:, 0]
    width, levels = 100.0, np.array([0.1, 0.3, 1.0, 3.0, 10.0])
    figure, (left, right) = panels(2)
    means = np.linspace(46, 52, 500)
    for values, colour, label in (
        (ages, BLUE, "with the patient"),
        (ages[1:], ORANGE, "without"),
    ):
        scale = width / len(ages)  # epsilon 1: a sum in which one age may be 0 or 100
        centre = values.sum() / len(ages)
        left.plot(means, np.exp(-np.abs(means - centre) / scale), color=colour, label=label)
    left.set_xlabel("mean age that is published, epsilon 1")
    left.set_ylabel("how likely (highest = 1)")
    left.legend(frameon=False)
    for local, colour, label in ((True, ORANGE, "local"), (False, BLUE, "central")):
        errors = []
        for level in levels:
            many = len(ages) if local else 1
            noise = generator.laplace(scale=width / level, size=(400, many)).sum(axis=1)
            errors.append(np.sqrt(np.mean((noise / len(ages)) ** 2)))
        right.loglog(levels, errors, "o-", color=colour, label=label)
    right.set_xlabel("epsilon")
    right.set_ylabel("error of the mean age, years")
    right.legend(frameon=False)
    return figure


def updates() -> Figure:
    """What an update shows of the picture that it was made from."""
    generator, digits = np.random.default_rng(3), load_digits()
    inputs, labels = digits.data / 16.0, digits.target
    one_hot = np.eye(10)

    def gradients(rows: np.ndarray) -> np.ndarray:
        """[rows, 10, 65] gradients of a logistic model at zero; the last is that of the bias."""
        errors = 0.1 - one_hot[labels[rows]]
        joined = np.concatenate([inputs[rows], np.ones((len(rows), 1))], axis=1)
        return errors[:, :, None] * joined[:, None, :]

    def picture(update: np.ndarray) -> np.ndarray:
        """Divide the weights' part by the bias' part, as an attacker does."""
        row = int(np.argmin(update[:, -1]))
        return (update[row, :-1] / update[row, -1]).reshape(8, 8)

    single = gradients(np.array([7]))
    many = gradients(np.arange(7, 7 + 64))
    norms = np.sqrt((many**2).sum(axis=(1, 2), keepdims=True))
    clipped = (many * np.minimum(1.0, 1.0 / norms)).sum(axis=0)
    noised = clipped + generator.normal(scale=1.15, size=clipped.shape)
    shown = (
        ("the patient's picture", inputs[7].reshape(8, 8)),
        ("from an update\nmade of it alone", picture(single[0])),
        ("from a sum of 64", picture(many.sum(axis=0))),
        ("from a sum of 64,\nclipped and noised", picture(noised)),
    )
    figure, axes = panels(len(shown), height=2.3)
    for axis, (title, values) in zip(axes, shown, strict=True):
        axis.imshow(np.clip(values, 0, 1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    return figure


def sharing() -> Figure:
    """Shares of two values, which look alike, and what rounding to a grid costs."""
    generator, modulus = np.random.default_rng(4), 2**16
    figure, (left, right) = panels(2)
    for value, colour in ((0.0, BLUE), (36.6, ORANGE)):
        fixed = round(value * 100)
        first = generator.integers(0, modulus, 40_000)
        second = (fixed - first) % modulus
        counts, edges = np.histogram(second, bins=32, range=(0, modulus))
        left.stairs(counts, edges, color=colour, label=f"a share of {value:g}")
    left.set_ylim(0, None)
    left.set_xlabel("the share, out of 65,536")
    left.set_ylabel("how often")
    left.set_xticks([0, modulus // 2, modulus])
    left.legend(frameon=False, loc="lower right")
    values = generator.uniform(-4, 4, size=(10, 2000))
    bits = np.arange(4, 25, 2)
    for hospitals, colour in ((2, BLUE), (10, ORANGE)):
        errors = []
        for one in bits:
            step = 8 / 2.0**one
            rounded = np.rint(values[:hospitals] / step) * step
            exact = values[:hospitals].sum(axis=0)
            errors.append(np.abs(rounded.sum(axis=0) - exact).max())
        right.semilogy(bits, errors, "o-", color=colour, label=f"sum of {hospitals}")
    right.set_xlabel("bits of a value between -4 and 4")
    right.set_ylabel("largest error")
    right.legend(frameon=False)
    return figure


def encryption() -> Figure:
    """A small lattice scheme: what a ciphertext looks like, and what adding does to its noise."""
    generator, size, modulus = np.random.default_rng(5), 256, 2**20
    key, step = generator.integers(0, modulus, size), modulus // 64

    def sealed(values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        masks = generator.integers(0, modulus, (len(values), size))
        noise = np.rint(generator.normal(scale=200.0, size=len(values))).astype(np.int64)
        return masks, (masks @ key + noise + step * values) % modulus

    values = generator.integers(0, 4, 400)
    masks, bodies = sealed(values, modulus // 4)
    opened = (bodies - masks @ key) % modulus
    figure, (left, right) = panels(2)
    jitter = values + generator.uniform(-0.3, 0.3, len(values))
    left.plot(jitter, bodies / modulus, ".", markersize=3, color=BLUE, label="without the key")
    left.plot(
        jitter,
        (opened / modulus + 0.1) % 1 - 0.1,
        ".",
        markersize=3,
        color=ORANGE,
        label="with the key",
    )
    left.set_xticks(range(4))
    left.set_xlabel("what was sealed")
    left.set_ylabel("share of the modulus")
    left.set_ylim(-0.1, 1.3)
    left.legend(frameon=False, loc="upper left", ncols=2, markerscale=3)
    counts = [1, 4, 16, 64, 256, 1024, 4096]
    wrong = []
    for count in counts:
        masks, bodies = sealed(np.zeros(count * 50, dtype=np.int64), step)
        sums = (bodies - masks @ key).reshape(50, count).sum(axis=1)
        noise = (sums + modulus // 2) % modulus - modulus // 2
        wrong.append(np.abs(noise).max())
    right.loglog(counts, wrong, "o-", color=BLUE, label="noise after adding")
    right.axhline(step / 2, color=ORANGE, label="where sums open wrongly")
    right.set_xlabel("ciphertexts that were added")
    right.set_ylabel("noise")
    right.legend(frameon=False)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "linkage": linkage,
    "randomised-response": randomised_response,
    "local-and-central": local_and_central,
    "updates": updates,
    "sharing": sharing,
    "encryption": encryption,
}


def write(folder: Path, names: Iterable[str] = PICTURES) -> list[Path]:
    """Draw pictures into a folder."""
    written = []
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}):
        for name in names:
            file = folder / f"{name}.svg"
            PICTURES[name]().savefig(
                file, metadata={"Date": None, "Creator": None}, facecolor="white"
            )
            lines = file.read_text(encoding="utf-8").splitlines()
            file.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
            written.append(file)
    return written


if __name__ == "__main__":
    for made in write(HERE):
        sys.stdout.write(f"{made}\n")
