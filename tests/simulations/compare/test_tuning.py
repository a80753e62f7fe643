"""Which settings a comparison takes: not what leads by chance, never by seeds that it reports."""

from __future__ import annotations

import random
import statistics
import tomllib
from pathlib import Path

import pytest

from simulations.compare.axes import Axes, plan_comparison
from simulations.compare.comparison import axes_of
from simulations.compare.tuning import chosen
from simulations.scenario import find_scenario

SCENARIOS = Path(__file__).parents[3] / "simulations" / "scenarios"
TUNED = sorted(
    path.stem
    for path in SCENARIOS.glob("*.toml")
    if "tune" in tomllib.loads(path.read_text(encoding="utf-8")).get("compare", {})
)


def test_the_best_mean_wins_where_the_others_are_more_than_a_standard_error_away() -> None:
    figures = {
        "best": [(0.95, 0.9), (0.93, 0.9), (0.94, 0.9)],
        "calm": [(0.90, 0.1), (0.89, 0.1), (0.90, 0.1)],
    }
    assert chosen(figures) == "best"


def test_of_settings_that_seeds_do_not_tell_apart_the_least_loss_wins() -> None:
    figures = {
        "lucky": [(0.99, 0.6), (0.94, 0.6), (0.95, 0.6)],
        "calm": [(0.95, 0.1), (0.95, 0.1), (0.96, 0.1)],
        "poor": [(0.80, 0.05), (0.81, 0.05), (0.80, 0.05)],
    }
    assert chosen(figures) == "calm"


def test_differences_are_taken_on_the_same_seed() -> None:
    """Holdouts differ far more than settings: 0.02 on every seed is no chance."""
    figures = {
        "better": [(0.99, 0.9), (0.80, 0.9), (0.90, 0.9)],
        "worse": [(0.97, 0.1), (0.78, 0.1), (0.88, 0.1)],
    }
    assert chosen(figures) == "better"


def test_one_seed_takes_the_best_and_of_equals_the_least_loss() -> None:
    assert chosen({"a": [(0.9, 0.9)], "b": [(0.89, 0.1)]}) == "a"
    assert chosen({"a": [(0.9, 0.9)], "b": [(0.9, 0.1)]}) == "b"


def test_what_has_failed_is_taken_only_where_nothing_else_is_there() -> None:
    figures = {
        "failed": [(None, None), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)],
        "whole": [(0.6, 0.7)] * 5,
    }
    assert chosen(figures) == "whole"
    assert chosen({"failed": figures["failed"]}) == "failed"
    assert chosen({"a": [(None, None)], "b": [(None, 0.2)]}) == "b"


def test_a_seed_without_a_figure_for_anybody_does_not_count() -> None:
    figures = {
        "good": [(None, 0.9), (0.95, 0.9), (0.94, 0.9)],
        "poor": [(None, 0.1), (0.55, 0.1), (0.54, 0.1)],
    }
    assert chosen(figures) == "good"


def test_where_all_are_alike_chance_moves_the_best_mean_but_not_the_choice() -> None:
    """Six settings of one true accuracy on 113 records: the one with the least loss is taken."""
    draws = random.Random(7)
    calm, led = 0, 0
    for _ in range(200):
        figures = {
            name: [
                (sum(draws.random() < 0.97 for _ in range(113)) / 113, loss + draws.gauss(0, 0.004))
                for _ in range(5)
            ]
            for name, loss in zip("abcdef", (0.127, 0.107, 0.112, 0.099, 0.114, 0.128), strict=True)
        }
        means = {name: statistics.fmean(v for v, _ in found) for name, found in figures.items()}
        calm += chosen(figures) == "d"
        led += max(means, key=lambda name: means[name]) == "d"
    assert led < 50  # a sixth of 200, and what chance adds
    assert calm > 2 * led


@pytest.mark.parametrize("name", TUNED)
def test_published_comparisons_tune_on_several_seeds_that_they_do_not_report(name: str) -> None:
    scenario = find_scenario(name)
    axes = axes_of(scenario, {})
    assert axes.tuning_seeds >= 5
    plan = plan_comparison(scenario, axes)
    tuned = {cell.seed for cell in plan.tuning_cells()}
    reported = {cell.seed for cell in plan.cells(plan.setups[0], plan.choices[0])}
    assert len(tuned) == axes.tuning_seeds
    assert not tuned & reported


def test_tuning_takes_five_seeds_where_nobody_says_how_many() -> None:
    assert Axes().tuning_seeds == 5
