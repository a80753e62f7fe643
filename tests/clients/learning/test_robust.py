"""Robust means: the rules of Flower's strategies, whoever adds in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.server.strategy.aggregate import aggregate_median, aggregate_trimmed_avg
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from flwr.serverapp.strategy.multikrum import select_multikrum

from clients.contract.groups import NEEDED, groups_needed
from clients.learning.robust import RULES, robust_mean

LIARS = 2


def rows_of(seed: int, count: int, width: int = 200) -> np.ndarray:
    """Rows around one mean, the last of them lies."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=width) + generator.normal(size=(count, width))
    rows[-LIARS:] *= -100.0
    return rows


def as_flower_does(rows: np.ndarray, rule: str) -> np.ndarray:
    """What Flower's own functions make of the rows."""
    if rule == "median":
        return aggregate_median([([row], 1) for row in rows])[0]
    if rule == "trimmed-mean":
        return aggregate_trimmed_avg([([row], 1) for row in rows], LIARS / len(rows) + 1e-9)[0]
    contents = [RecordDict({"arrays": ArrayRecord({"w": Array(row)})}) for row in rows]
    count = 1 if rule == "krum" else len(rows) - 2 * LIARS
    chosen = [one["arrays"]["w"].numpy() for one in select_multikrum(contents, LIARS, count)]
    if rule == "krum":
        return chosen[0]
    middle = np.median(chosen, axis=0)
    return aggregate_n_closest_weights([middle], [[one] for one in chosen], count - 2 * LIARS)[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_each_rule_is_that_of_flowers_strategy(rule: str, seed: int) -> None:
    rows = rows_of(seed, groups_needed(rule, LIARS) + seed)
    assert np.allclose(robust_mean(rows, rule, LIARS), as_flower_does(rows, rule), rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_liars_cannot_move_a_mean_out_of_the_range_of_the_others(rule: str) -> None:
    rows = rows_of(5, groups_needed(rule, LIARS))
    honest = rows[:-LIARS]
    for lie in (1e3, -1e12, 1e300):
        rows[-LIARS:] = lie
        found = robust_mean(rows, rule, LIARS)
        assert (found >= honest.min(axis=0)).all() and (found <= honest.max(axis=0)).all()
    assert abs(rows.mean(axis=0)).min() > 1e299


def test_every_rule_says_how_many_rows_it_needs() -> None:
    assert RULES.keys() == NEEDED.keys()
    assert [groups_needed(rule, 1) for rule in RULES] == [3, 3, 5, 7]


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_rows_and_the_way_of_adding_change_no_choice(rule: str) -> None:
    rows = np.round(rows_of(7, 11), 2)
    twice = np.concatenate([rows, rows[:1]])  # two rows are equally near
    first = robust_mean(twice, rule, LIARS)
    assert (first == robust_mean(np.asfortranarray(twice), rule, LIARS)).all()
    assert (first == robust_mean(twice.copy(), rule, LIARS)).all()
