"""The report of a comparison: whether it was private, against whom, how good, at what cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulations.cli import main
from simulations.compare.report import (
    answer_cost,
    answer_good,
    answer_private,
    answer_whom,
    cost_table,
    observer_matrix,
    render_comparison_report,
)
from tests.simulations.compare.made_comparisons import made_content

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def content():
    return made_content()


def test_a_report_is_one_page_without_network(content):
    text = render_comparison_report(content)
    assert "0.933 ±0.014" in text and text.count("<svg") == 4
    assert "it is &lt;not&gt; sound." in text
    assert "<script" not in text and 'src="http' not in text


def test_a_comparisons_report_answers_whether_it_was_private_against_whom_how_good_at_what_cost(
    content,
):
    private, whom, good, cost = (
        answer(content) for answer in (answer_private, answer_whom, answer_good, answer_cost)
    )
    assert private.headline.startswith("No: every training was seeded")
    assert "10 ways of training would have had epsilon 0.5 to 1 (PRV)" in private.lines[0]
    assert private.lines[1] == "1 way of training added no noise at all."
    assert whom.headline == "Nobody."
    assert "knows the seed" in whom.lines[0]
    assert good.headline == "Best with noise: CDP, epsilon 0.5: accuracy 0.940 ±0.025."
    assert good.lines[0] == "Best without noise: C: accuracy 0.970 ±0.025."
    assert cost.headline == "33 trainings, 33.0 s one after another."
    assert "sends 550 kB to 650 kB" in cost.lines[0]


def test_a_comparisons_report_says_who_sees_what_and_what_ledgers_hold(content):
    columns, rows = observer_matrix(content)
    assert columns[:3] == ["way of training", "server#", "public after release#"]
    assert len(rows) == 10  # pooled data without noise promise nothing to anybody
    assert rows[-1] == [
        "FSCDP, dirichlet:0.1, epsilon 1",
        "(1)",
        "(1)",
        "(1.1)",
        "(1)",
        "(2)",
        "(5)",
    ]
    columns, rows = cost_table(content)
    assert rows[0][1:] == ["0", "-", "1"]
    assert rows[-1][1:] == ["9", "300 kB", "1"]
    text = render_comparison_report(content)
    for part in ("flwr 1.41.0", "flower-simulation compare made", "any one other hospital"):
        assert part in text


def test_a_comparison_of_before_who_sees_what_was_kept_still_has_its_page():
    old = json.loads((DOCS / "results" / "regimes.json").read_text())
    for one in old["rows"]:
        one.pop("observers", None)
        one.pop("ledger_entries", None)
    for key in ("versions", "unasked"):
        old.pop(key, None)
    text = render_comparison_report(old)
    assert "Who could learn what" not in text
    assert "would have had epsilon" in text


def test_figures_and_report_of_a_comparison_are_made_again_from_its_files(
    content, tmp_path, capsys
):
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    assert main(["figures", str(tmp_path)]) == main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "figures/epsilon.svg" in out and "figures/epsilon.png" in out
    assert (tmp_path / "report.html").read_text() == render_comparison_report(content)
