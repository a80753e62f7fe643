"""Gates are open for what is as it should be, and the right one shuts for what is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from simulations.audit.gates import ERROR, noise_gates, sampling_gates

RELEASES, WIDTH, PATIENTS, ROUNDS, RATE = 12, 4_000, 300, 12, 0.25
NAMES = [f"release {number}" for number in range(RELEASES)]

Change = Callable[[np.ndarray], np.ndarray]


def noise(seed: int, step: float = 0.0) -> np.ndarray:
    """Standard normal values, rounded to a grid, the rounding counted in."""
    drawn = np.random.default_rng(seed).standard_normal((RELEASES, WIDTH))
    if not step:
        return drawn
    return np.rint(drawn / step) * step / np.hypot(1.0, step / np.sqrt(12.0))


def shut(values: np.ndarray, step: float = 0.0) -> set[str]:
    return {gate.name for gate in noise_gates(values, NAMES, step) if not gate.open(ERROR)}


@pytest.mark.parametrize("step", [0.0, 0.01, 1 / 3])
def test_normal_noise_opens_every_gate_on_fine_and_coarse_grids(step: float) -> None:
    for seed in range(5):
        assert shut(noise(seed, step), step) == set()


def repeated(values: np.ndarray) -> np.ndarray:
    return np.vstack([values[:-1], values[:1]])


def halves(values: np.ndarray) -> np.ndarray:
    return np.hstack([values[:, : WIDTH // 2]] * 2)


def one_quiet(values: np.ndarray) -> np.ndarray:
    return values * (np.arange(RELEASES) != 3)[:, None]


def untouched(values: np.ndarray) -> np.ndarray:
    return values * (np.arange(WIDTH) != 7)


def shifted(values: np.ndarray) -> np.ndarray:
    return values + 0.2 * np.random.default_rng(99).standard_normal(WIDTH)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda values: 0.97 * values, "noise, as a share of what is stated"),
        (one_quiet, "noise of each release"),
        (untouched, "noise in each coordinate"),
        (shifted, "noise has no mean, in its standard errors"),
        (lambda values: np.clip(values, -3, 3), "values of noise beyond 3 standard deviations"),
        (repeated, "correlation of the noise of two releases"),
        (lambda values: -repeated(values), "correlation of the noise of two releases"),
        (halves, "noise that repeats, in standard errors"),
    ],
    ids=["less", "quiet", "untouched", "shifted", "cut", "repeated", "negated", "halves"],
)
def test_noise_that_is_not_as_stated_shuts_its_gate(change: Change, gate: str) -> None:
    assert gate in shut(change(noise(1)))


def drawn(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: (random.random((ROUNDS, PATIENTS)) < RATE).astype(float) for name in ("east", "west")
    }


def shut_by(taken: dict[str, np.ndarray]) -> set[str]:
    return {gate.name for gate in sampling_gates(taken, RATE) if not gate.open(ERROR)}


def test_poisson_samples_open_every_gate_also_where_some_cannot_be_told() -> None:
    for seed in range(5):
        taken = drawn(seed)
        taken["east"][:, ::7] = np.nan
        assert shut_by(taken) == set()


def test_a_hospital_of_whose_patients_nobody_can_tell_is_left_out() -> None:
    taken = drawn(3)
    taken["tiny"] = np.full((ROUNDS, 2), np.nan)
    assert shut_by(taken) == set()


def fixed_sizes(taken: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(5)
    for rows in taken.values():
        rows[:] = 0.0
        for row in rows:
            row[random.permutation(PATIENTS)[: round(RATE * PATIENTS)]] = 1.0


def epochs(taken: dict[str, np.ndarray]) -> None:
    """Everybody comes once in every four rounds."""
    random = np.random.default_rng(5)
    for rows in taken.values():
        for first in range(0, ROUNDS, 4):
            turns = random.integers(0, 4, PATIENTS)
            rows[first : first + 4] = turns[None, :] == np.arange(4)[:, None]


def same_everywhere(taken: dict[str, np.ndarray]) -> None:
    taken["west"][:] = taken["east"]


def never_empty(taken: dict[str, np.ndarray]) -> None:
    """A hospital of two patients whose batches are drawn again until they hold one."""
    random = np.random.default_rng(5)
    rows = random.random((400, 2)) < RATE
    taken["tiny"] = rows[rows.any(axis=1)][:40].astype(float)


def more(taken: dict[str, np.ndarray]) -> None:
    extra = np.random.default_rng(5).random((ROUNDS, PATIENTS)) < 0.08
    taken["east"] = np.maximum(taken["east"], extra)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (fixed_sizes, "spread of the batches' sizes"),
        (epochs, "spread of how often patients are drawn"),
        (same_everywhere, "patients whom two batches share"),
        (more, "sampling rate"),
        (never_empty, "empty batches"),
    ],
    ids=["fixed sizes", "epochs", "same everywhere", "more", "never empty"],
)
def test_samples_that_are_not_poisson_shut_their_gate(
    change: Callable[[dict[str, np.ndarray]], None], gate: str
) -> None:
    taken = drawn(2)
    change(taken)
    assert gate in shut_by(taken)
