"""Turns that are uniform open every gate, at chances that hold; those that are not shut one."""

from __future__ import annotations

import numpy as np
import pytest

from accounting.audit_turns import SHOWN, UNIFORM, Turns, length_chance, turn_gates

ERROR, ROWS, WIDTH = 1e-9, 12, 2_048


def uniform(points: int = 1 << 40) -> np.ndarray:
    drawn = np.random.default_rng(5).random((ROWS, WIDTH))
    return np.floor(drawn * points) / points


def shut(rows: np.ndarray, points: int = 1 << 40, *, whole: bool = True) -> set[str]:
    part = Turns(
        what="rows",
        names=[f"row {number}" for number in range(ROWS)],
        rows=rows % 1.0,
        points=points,
        sums=[number // 4 for number in range(ROWS)],
        whole=whole,
    )
    return {gate.name for gate in turn_gates([part]) if not gate.open(ERROR)}


@pytest.mark.parametrize("points", [2, 4, 32, 1 << 40])
def test_uniform_turns_open_both_gates(points: int) -> None:
    assert shut(uniform(points), points) == set()


@pytest.mark.parametrize(("count", "points"), [(40, 2), (40, 3), (40, 8), (200, 1 << 40)])
def test_chances_are_never_below_the_truth(count: int, points: int) -> None:
    random = np.random.default_rng(7)
    drawn = random.integers(points, size=(20_000, count)) / points
    lengths = np.sort(np.abs(np.exp(2j * np.pi * drawn).sum(axis=1)))
    for rank in (200, 1_000, 10_000):
        share = rank / len(lengths)
        assert length_chance(lengths[-rank:][:1], count, points)[0] > 0.8 * share
    bound = length_chance(lengths[-20:][:1], count, points)[0]
    assert bound < 60 * 20 / len(lengths)  # and not far above it


def small(rows: np.ndarray) -> np.ndarray:
    """Small errors around multiples of the scale, in one row."""
    rows[3] = 0.1 * np.random.default_rng(8).standard_normal(WIDTH)
    return rows


def twice(rows: np.ndarray) -> np.ndarray:
    """The same mask in two rows, with fresh errors."""
    rows[9] = rows[2] + 0.1 * np.random.default_rng(8).standard_normal(WIDTH)
    return rows


def cancelling(rows: np.ndarray) -> np.ndarray:
    """Masks that are nought in a sum."""
    rows[7] = 0.02 - rows[4:7].sum(axis=0)
    return rows


def of_the_rest(rows: np.ndarray) -> np.ndarray:
    """Masks that are nought once one is left out."""
    rows[6] = 0.02 - rows[4:6].sum(axis=0)
    return rows


@pytest.mark.parametrize("change", [small, twice, cancelling, of_the_rest])
def test_what_shows_a_value_shuts_the_gate(change: object) -> None:
    assert SHOWN in shut(change(uniform()))  # type: ignore[operator]


def test_a_sum_of_all_may_be_known_where_it_is_said_to() -> None:
    assert shut(cancelling(uniform()), whole=False) == set()


def test_numbers_of_which_some_never_come_are_not_uniform() -> None:
    rows = uniform()
    rows[5] = np.floor(rows[5] * 4) / 4 + rows[5][::-1] / 16  # their mean is nought still
    assert shut(rows) == {UNIFORM}
