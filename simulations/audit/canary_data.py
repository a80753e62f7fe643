"""Canary patients: what a fair coin puts into a data file of hospitals, and what stays out of it.

Each canary is a patient of one hospital, with one record or many. Whether it is in the file is its
coin; whoever guesses coins from what leaves the hospitals has learnt about patients. Files are such
as hospitals write them: a table of visits with a declaration beside it, or arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulations.audit.canary_model import (
    AGE_RANGE,
    AGES,
    BASE,
    BELOW,
    BLANK,
    FAINT,
    HIGHEST,
    LOUD,
    NO_NUMBER,
    PLACES,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Hospitals, and the share of the canaries at each. The fourth has so few that batches are empty;
#: the others are in some files only.
HOSPITALS = ("east", "north", "south", "tiny", "west", "woods")
SHARES = (0.4, 0.35, 0.25)
TINY = 6
#: Patients of the public test part of an arrays file.
PUBLIC = 8
CLASSES = ("a", "b")
#: Of the second class: what evens classes out, or looks at them, must show.
RARE = 0.1
#: Smallest number that names a patient, of the fifteen digits that programs keep of a number: all
#: begin with the same ten, so that none begins anywhere by chance.
FIRST_ID = 471_100_000_000_000
NAMES_BEGIN = str(FIRST_ID)[:10]
#: What stands in the place of a patient's name where nobody is named.
NOBODY = ("", "  ", "?", "-", ".", "na", "n/a", "#n/a", "nan", "null", "none")
#: Norm of a patient's classes in a sum that counts them, in clips.
COUNTED = 0.25


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """All canaries, in the file or not.

    Attributes:
        ids: name in the file of each, a text that does not tell its number, ``[m]``.
        coins: whether it is in the file, bool ``[m]``.
        hospitals: number of its hospital in `HOSPITALS`, int ``[m]``.
        labels: 0 or 1, int ``[m]``.
        records: how many it has, int ``[m]``.
        loudness: number in `LOUDNESS`, int ``[m]``.
        weights: of a clipped gradient, by class, at the most 1.
        counted: whether a sum counts classes beside gradients, which have the rest of the clip.
    """

    ids: NDArray[np.str_]
    coins: NDArray[np.bool_]
    hospitals: NDArray[np.int64]
    labels: NDArray[np.int64]
    records: NDArray[np.int64]
    loudness: NDArray[np.int64]
    weights: tuple[float, float] = (1.0, 1.0)
    counted: bool = False

    def __len__(self) -> int:
        return len(self.coins)

    @property
    def quiet(self) -> NDArray[np.bool_]:
        """Canaries whose clipped gradient has the same norm whenever they are in a batch."""
        return np.asarray((self.loudness < LOUD) | (self.loudness >= FAINT))

    @property
    def most(self) -> NDArray[np.float64]:
        """Return the most that each one's gradient may move a sum, in clips, float64 ``[m]``."""
        return np.asarray(self._rest * np.array(self.weights)[self.labels])

    @property
    def norms(self) -> NDArray[np.float64]:
        """Return the norm of each one's part in a sum, in clips, float64 ``[m]``."""
        shares = np.minimum([*np.ones(FAINT), *BELOW], self._rest)
        return np.asarray(shares[self.loudness] * np.array(self.weights)[self.labels])

    @property
    def _rest(self) -> float:
        """What counts of classes leave of the clip."""
        return math.sqrt(1.0 - COUNTED**2) if self.counted else 1.0

    def classes(self) -> NDArray[np.float64]:
        """Return what each one must add to a sum's counts of classes, in clips, ``[m, n]``."""
        return np.asarray(COUNTED * np.eye(len(CLASSES))[self.labels])

    def with_faint(self) -> Canaries:
        """Return the same with gradients below the clip for most of those above it.

        A clip that follows the middle of a batch, or any other part of it, is then below C.
        """
        turns = np.arange(len(self)) % 5
        levels = np.where(turns < len(BELOW), FAINT + turns, 0)
        return replace(self, loudness=np.where(self.loudness == 0, levels, self.loudness))

    def with_counts(self) -> Canaries:
        """Return the same where classes are counted, but for gradients that can vanish.

        Nobody could tell whether the class of such a one is counted.
        """
        return replace(self, counted=True, loudness=np.zeros_like(self.loudness))

    def with_numbers(self) -> Canaries:
        """Return the same without gradients that are no numbers: a cut model shows a row of all."""
        return replace(self, loudness=np.where(self.loudness == NO_NUMBER, 0, self.loudness))

    def with_more(self, count: int) -> Canaries:
        """Return the same with so many hospitals, the later ones of a fifth of the first one's.

        With five, noise is in more parts than one where hospitals can take it out of a sum; six
        make three groups.
        """
        hospitals, turns = self.hospitals.copy(), np.arange(len(self)) % 5
        for turn, number in enumerate(range(len(SHARES) + 1, count)):
            hospitals[(self.hospitals == 0) & (turns == turn)] = number
        return replace(self, hospitals=hospitals)

    @property
    def places(self) -> tuple[str, ...]:
        """The hospitals of the file."""
        return HOSPITALS[: int(self.hospitals.max()) + 1]

    @property
    def largest(self) -> int:
        """A public bound on the patients of any hospital."""
        return int(np.bincount(self.hospitals).max())

    def coordinates(self) -> NDArray[np.int64]:
        """Return the four coordinates of each in the model's vector, ``[m, 4]``."""
        number = np.arange(len(self))[:, None]
        return number + PLACES * np.arange(4)[None, :]

    def direction(self) -> NDArray[np.float64]:
        """Return the unit vectors in these coordinates, ``[m, 4]``."""
        sign = np.where(self.labels == 0, 1.0, -1.0)[:, None]
        return np.asarray(sign * np.array([-0.5, 0.5, -0.5, 0.5]))


def draw_canaries(count: int, *, most_records: int) -> Canaries:
    """Draw canaries with fresh randomness; two of the tiny hospital are in the file for sure.

    Args:
        count: of canaries, m.
        most_records: of one of them, who is in the file for sure.

    Raises:
        ValueError: there are more than the model has places for.
    """
    if not 100 <= count <= PLACES:
        raise ValueError(f"{count} canaries, expected 100 to {PLACES}")
    random = np.random.default_rng()
    hospitals = random.choice(len(SHARES), size=count, p=SHARES)
    hospitals[:TINY] = len(SHARES)
    coins = random.random(count) < 0.5
    coins[:TINY] = np.arange(TINY) < 2
    records = random.choice([1, 1, 1, 2, 3, 8], size=count)
    records[np.flatnonzero(coins & (hospitals == 0))[0]] = most_records
    loudness = np.where(random.random(count) < 0.05, random.integers(LOUD, FAINT, count), 0)
    return Canaries(
        ids=np.array([f"{FIRST_ID + one}" for one in random.permutation(10 * count)[:count]]),
        coins=coins,
        hospitals=hospitals.astype(np.int64),
        labels=(random.random(count) < RARE).astype(np.int64),
        records=records.astype(np.int64),
        loudness=loudness.astype(np.int64),
    )


def _rows(canaries: Canaries) -> tuple[NDArray[np.int64], list[str]]:
    """Return the canary behind each row of a file, in no order, and the patient that it names.

    One name is spelled in several ways, as programs do; rows of one who is in no file name nobody.
    """
    random, present = np.random.default_rng(), np.flatnonzero(canaries.coins)
    rows = np.repeat(present, canaries.records[present])
    names = [
        _SPELLINGS[turn % len(_SPELLINGS)].format(canaries.ids[one])
        for turn, one in enumerate(rows)
    ]
    absent = int(np.flatnonzero(~canaries.coins & (canaries.hospitals == 0))[0])
    rows, names = np.append(rows, [absent] * len(NOBODY)), [*names, *NOBODY]
    order = random.permutation(len(rows))
    return rows[order], [names[one] for one in order]


#: How a patient's number is written; all of one patient's rows are theirs.
_SPELLINGS = ("{}", "{}.0", " {} ", "{}.")


def write_table(canaries: Canaries, folder: Path) -> Path:
    """Write ``visits.csv`` and its declaration, as a hospital's database exports them."""
    path, random = folder / "visits.csv", np.random.default_rng()
    lines = ["patient;site;tens;ones;loudness;age;outcome"]
    rows, names = _rows(canaries)
    for one, name in zip(rows.tolist(), names, strict=True):
        age = _age(one, int(canaries.records[one]), random)
        digits = f"{one // BASE};{one % BASE};{canaries.loudness[one]};{age}"
        site, outcome = HOSPITALS[canaries.hospitals[one]], CLASSES[canaries.labels[one]]
        lines.append(f"{name};{site};{digits};{outcome}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ranges = {
        **{name: (0, one) for name, one in zip(("tens", "ones", "loudness"), HIGHEST, strict=True)},
        "age": AGE_RANGE,
    }
    declared = [
        'target = "outcome"',
        f"classes = {list(CLASSES)}",
        'patient = "patient"',
        'hospital = "site"',
        "[ranges]",
        *(f"{name} = {list(range_)}" for name, range_ in ranges.items()),
    ]
    text = "\n".join(declared).replace("'", '"') + "\n"
    path.with_suffix(".toml").write_text(text, encoding="utf-8")
    return path


def _age(canary: int, records: int, random: np.random.Generator) -> str:
    """Return the cell of the fourth column: of some nothing, or what cannot be.

    Never of one with many records: where most of a column cannot be, its declaration is refused.
    """
    if canary % BASE % BLANK:
        return str(AGES[int(random.random() < 0.8)])
    few = records <= 8 and canary % BASE % (2 * BLANK)
    return str(2 * AGE_RANGE[1]) if few else ""


def write_arrays(canaries: Canaries, folder: Path) -> Path:
    """Write ``visits.npz`` with a public test part."""
    return _write_arrays(canaries, folder, (len(HIGHEST),))


def write_pictures(canaries: Canaries, folder: Path) -> Path:
    """Write the same as pictures of one point: however they are shifted they are as they were."""
    return _write_arrays(canaries, folder, (len(HIGHEST), 1, 1))


def _write_arrays(canaries: Canaries, folder: Path, shape: tuple[int, ...]) -> Path:
    path, (rows, names) = folder / "visits.npz", _rows(canaries)
    columns = np.stack([rows // BASE, rows % BASE, canaries.loudness[rows]], axis=1)
    public = np.arange(PUBLIC)
    images = (2.0 * columns / np.array(HIGHEST) - 1.0).astype(np.float32)
    np.savez(
        path,
        train_images=images.reshape(-1, *shape),
        train_labels=canaries.labels[rows],
        train_patient=np.array(names),
        train_hospital=np.array(HOSPITALS)[canaries.hospitals[rows]],
        test_images=np.zeros((PUBLIC, *shape), dtype=np.float32),
        test_labels=public % 2,
        test_patient=np.array([f"public {one}" for one in public]),
        test_hospital=np.array(canaries.places)[public % len(canaries.places)],
    )
    return path
