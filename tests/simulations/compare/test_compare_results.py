"""What is made of a comparison's numbers: intervals, tables, figures, pages."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from simulations.cli import main
from simulations.compare.answers import answers
from simulations.compare.comparison import axes_of, unasked
from simulations.compare.figures import draw_all, draw_comparison
from simulations.compare.folder import read_comparison
from simulations.compare.page import render_results_page, write_results_page
from simulations.compare.rows import paired_rows, t_interval
from simulations.compare.tables import markdown_table, paired_table, result_table
from simulations.scenario import find_scenario
from strategies.run.reading import NoRun
from tests.simulations.compare.made_comparisons import OWN, comparison, made_content, row

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_are_scipys(count, level):
    values = np.random.default_rng(count).normal(0.9, 0.03, count)
    found = t_interval(list(values), level)
    low, high = stats.t.interval(level, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.mean, found.count) == (pytest.approx(values.mean()), count)


def test_a_paired_interval_excludes_zero_exactly_when_the_t_test_rejects():
    generator = np.random.default_rng(5)
    outcomes = set()
    for shift in (0.0, 0.005, 0.01, 0.02, 0.04):
        values = list(generator.normal(shift, 0.02, 10))
        found = t_interval(values)
        excluded = found.low > 0 or found.high < 0
        assert excluded == (stats.ttest_1samp(values, 0.0).pvalue < 0.05)
        outcomes.add(excluded)
    assert outcomes == {True, False}


def test_one_value_has_a_mean_and_no_interval():
    found = t_interval([0.5])
    assert (found.mean, found.low, found.half, found.count) == (0.5, None, None, 1)
    assert t_interval([]) is None


@pytest.fixture
def content():
    return made_content()


def test_pairs_agree_in_everything_but_regime_and_exchange(content):
    pairs = content["paired"]
    assert len(pairs) == 4 * 3  # each FSCDP row against C, CDP and FPDP at its own place
    assert {one["against"]["regime"] for one in pairs} == {"C", "CDP", "FPDP"}


def test_pairs_are_made_seed_by_seed_over_the_seeds_that_both_have():
    mine, other = row("FSCDP", [0.9, 0.8, 0.7]), row("F", [0.5, 0.6], seeds=(2, 0))
    [pair] = paired_rows([mine, other], OWN)
    assert pair["difference"]["values"] == pytest.approx([0.9 - 0.6, 0.7 - 0.5])


def test_numbers_that_are_no_numbers_stay_out_of_the_file(content):
    assert all(one["auc"] is None for one in content["rows"])
    json.dumps(content, allow_nan=False)


def test_tables_show_only_axes_that_vary(content):
    columns, rows = result_table(content)
    assert columns[:3] == ["regime", "split", "epsilon#"]
    assert rows[0][:3] == ["C", "-", "-"]
    assert rows[-1][3] == "0.933 ±0.014"
    columns, rows = paired_table(content)
    assert columns[-4:] == ["less", "difference#", "95% interval#", "clear"]
    against = {line[2]: line[-1] for line in rows}
    assert against["FPDP"] == "yes"


def test_pages_show_the_noise_of_each_row_where_there_is_any():
    rows = [row("F", [0.9, 0.8, 0.7]), row("FPDP", [0.9, 0.8, 0.7])]
    columns, _ = result_table(comparison(rows), wide=True)
    assert "sigma#" not in columns
    rows[1] = replace(rows[1], noise_multiplier=2.1345)
    columns, lines = result_table(comparison(rows), wide=True)
    place = columns.index("sigma#")
    assert [line[place] for line in lines] == ["-", "2.13"]
    assert "sigma#" not in result_table(comparison(rows))[0]


def test_figures_tell_all_ways_of_training_apart():
    """A mark that two ways share would say that they are one."""
    exchanges = ("gradients", "weights:5", "layers", "cyclic:6", "single", "ensemble")
    rows = [row(regime, [0.9, 0.8, 0.7], exchange=one, split=split)
            for regime in ("F", "FPDP") for one in exchanges
            for split in ("iid", "pathological:1")]  # fmt: skip
    rows = [replace(one, sent_bytes=[1e5 * (k + 1)] * 3) for k, one in enumerate(rows)]
    figures = draw_all(comparison(rows))
    for name in ("bytes", "skew"):
        axes = figures[name][1].axes[0]
        marks = {(bars[0].get_color(), bars[0].get_marker()) for bars in axes.containers}
        labels = {bars.get_label() for bars in axes.containers}
        assert len(marks) == len(labels) == 12
        assert axes.get_ylim()[1] <= 1.02


def test_a_pair_is_called_by_what_differs():
    rows = [
        row("FSCDP", [0.9, 0.8, 0.7]),
        row("FPDP", [0.9, 0.8, 0.7], exchange="single"),
        row("FPDP", [0.9, 0.8, 0.7]),
        row("FSCDP", [0.9, 0.8, 0.7], exchange="weights"),
        row("C", [0.9, 0.8, 0.7]),
    ]
    columns, lines = paired_table(comparison(rows))
    assert columns[:2] == ["of", "less"]
    assert [(line[0], line[1]) for line in lines] == [
        ("FSCDP, gradients", "FPDP, single"),  # there is no FSCDP, single: it is not sound
        ("FSCDP, gradients", "FPDP"),
        ("FSCDP, gradients", "weights"),
        ("FSCDP, gradients", "C"),
        ("FPDP, gradients", "single"),
    ]


def test_a_way_without_noise_is_no_stand_in_for_one_that_is_not_sound():
    rows = [row("FSCDP", [0.9, 0.8, 0.7]), row("F", [0.9, 0.8, 0.7], exchange="single")]
    assert paired_rows(rows, OWN) == []


def test_answers_say_better_worse_or_neither_as_the_intervals_do(content):
    base, mixed = np.array([0.80, 0.82, 0.81]), np.array([0.05, -0.05, 0.0])
    rows = [
        replace(
            one,
            setup=replace(one.setup, hospitals=count),
            sent_bytes=[1e3 if one.setup.exchange == "gradients" else 2e3] * 3,
        )
        for count, other in ((2, base - 0.1), (5, base + mixed), (50, base + 0.2))
        for one in (row("F", base), row("F", other, exchange="cyclic"))
    ]
    made = comparison(rows, paired=paired_rows(rows, {"regime": "F", "exchange": "gradients"}))
    assert answers(made) == [
        "F, gradients against F, cyclic: clearly better at K = 2 (+0.100); clearly worse at K = 50 "
        "(-0.200); no clear difference at K = 5 (interval: -0.124 to +0.124). "
        "Sends 0.5 times the bytes."
    ]
    twins = [row("F", base), row("F", base, exchange="layers"), row("F", base, exchange="single")]
    made = comparison(twins, paired=paired_rows(twins, {"regime": "F", "exchange": "gradients"}))
    assert answers(made)[0].startswith("F, gradients against F, layers: the same on every seed. S")
    said = " ".join(answers(content))
    assert "FSCDP, gradients against CDP: no clear difference at iid epsilon 0.5" in said


def test_the_page_says_what_of_a_scenario_was_not_asked_for(content, tmp_path):
    scenario = find_scenario("hospital-count")
    asked = axes_of(scenario, {"regimes": ("F",), "hospitals": (2, 5)})
    left = unasked(scenario, asked)
    assert left == {"regimes": ["FSCDP", "FPDP"], "hospitals": ["10", "20", "50"]}
    assert unasked(scenario, axes_of(scenario, {})) == {}
    text = write_results_page([{**content, "unasked": left}], tmp_path).read_text()
    assert "not asked for by this command:\n\n- regimes: FSCDP, FPDP\n" in text


def test_markdown_has_a_line_a_row_and_aligns_numbers():
    text = markdown_table(["who", "much#"], [["a", "1"], ["b", "2"]])
    assert text.splitlines() == ["| who | much |", "| --- | ---: |", "| a | 1 |", "| b | 2 |"]


def test_figures_are_drawn_for_the_axes_that_vary_and_no_others(content, tmp_path):
    assert set(draw_all(content)) == {"epsilon", "skew", "bytes", "hospitals"}
    files = draw_comparison(content, tmp_path)
    assert {path.suffix for path in files} == {".svg", ".png"}
    narrow = comparison([row("F", [0.9, 0.9, 0.9])])
    assert set(draw_all(narrow)) == {"hospitals"}


def test_figures_stand_one_seed_and_no_public_data(tmp_path):
    rows = [row("FSCDP", [0.9], seeds=(0,), epsilon=e) for e in (0.5, 1.0)]
    for one in rows:
        one.hospital_accuracy[:] = [[]]
    assert set(draw_all(comparison(rows))) == {"epsilon"}


def test_the_page_is_made_from_files_alone_and_keeps_what_was_there(content, tmp_path):
    write_results_page([content], tmp_path)
    page = write_results_page([{**content, "name": "other"}], tmp_path)
    text = page.read_text()
    assert text == render_results_page(tmp_path)
    assert text.count("flower-simulation compare made") == 2
    assert "| FSCDP | iid | 1 | 0.933 ±0.014 |" in text
    assert "2026-11-21" in text and "learning-rate in 0.3, 1" in text
    assert (tmp_path / "results" / "made-epsilon.svg").is_file()


def test_the_published_page_says_what_its_files_say():
    assert (DOCS / "results.md").read_text() == render_results_page(DOCS)


def test_sharing_the_noise_keeps_the_published_promises():
    """Within 0.02 of a trusted curator; above hospitals that add all the noise each."""
    content = json.loads((DOCS / "results" / "regimes.json").read_text())
    assert content["seeds"] >= 10
    found = {
        (pair["epsilon"], pair["against"]["regime"]): pair["difference"]
        for pair in content["paired"]
        if pair["regime"] == "FSCDP"
    }
    targets = sorted({epsilon for epsilon, _ in found})
    assert {0.25, 1.0} <= set(targets)
    assert all(found[epsilon, "CDP"]["mean"] > -0.02 for epsilon in targets)
    assert found[1.0, "FPDP"]["low"] > 0
    assert found[0.25, "FPDP"]["mean"] >= 0.04


def test_bytes_by_exchange_are_drawn_where_exchanges_differ():
    rows = [row("F", [0.9, 0.9, 0.9]), row("F", [0.9, 0.8, 0.9], exchange="weights")]
    figure = draw_all(comparison(rows))["traffic"][1]
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gradients", "weights"]
    assert "megabytes" in axes.get_xlabel()
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.25, 0.25, 0.3, 0.3])


def test_every_figure_of_a_comparison_has_units_and_a_caption(content):
    for name, (drawing, figure) in draw_all(content).items():
        assert drawing.caption.endswith("."), name
        for axes in figure.axes:
            assert re.search(r"share|log scale|split", axes.get_xlabel() + axes.get_ylabel()), name


def test_a_folder_that_holds_no_comparison_is_named(tmp_path):
    with pytest.raises(NoRun, match="'compare' writes it"):
        read_comparison(tmp_path)
    assert main(["results-page", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["default", "--epsilons", "1,much"], "numbers with commas"),
        (["default", "--hospitals", "2.5"], "whole numbers with commas"),
        (["default", "--tune", "training.rounds"], "key=value,value"),
        (["default", "--regimes", "FSCPD"], "did you mean 'FSCDP'"),
        (["default", "--epsilons", "-1"], "positive"),
        (["defautl"], "did you mean 'default'"),
        (["default", "--regimes", "F", "--exchanges", "layers:nope"], "those are centre, flatten"),
        (["default", "--set", "nothing"], "write key=value"),
    ],
)
def test_what_was_asked_wrongly_is_said_and_starts_nothing(arguments, said, capsys, tmp_path):
    assert main(["compare", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
