"""The tables of what is learnt: rows that can be trained, and a page made of measured numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clients.contract.settings import SettingsError
from simulations.compare.axes import FIRST_SEED, MOST_SEEDS, Axes, plan_comparison
from simulations.scenario import find_scenario, resolve

SOURCE = Path(__file__).parents[2] / "benchmarks" / "learning.py"
PUBLISHED = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def learning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learning_page", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["learning_page"] = module
    spec.loader.exec_module(module)
    return module


def _seeds(learning: ModuleType, *, claimed: bool) -> set[int]:
    tables = sys.modules["learning_rows"].CLAIMED
    rows = [row for row in learning.ROWS if (row.table in tables) == claimed]
    return {seed for row in rows for seed in row.chance}


def test_every_row_can_be_trained_and_has_a_folder_of_its_own(learning: ModuleType) -> None:
    trained = {(row.name, row.scenario, row.sets, row.chance) for row in learning.ROWS}
    assert len({name for name, *_ in trained}) == len(trained)  # two tables may show one training
    for row in learning.ROWS:
        # What `auto` comes to takes the data; that the rest is sound does not.
        sets = [text for text in row.sets if not text.endswith("=auto")]
        resolve(find_scenario(row.scenario), sets, {"run.seed": 0})


def test_claims_are_of_sealed_scenarios_as_they_are(learning: ModuleType) -> None:
    for row in learning.ROWS:
        if row.table == "claims":
            settings = resolve(find_scenario(row.scenario), [*row.sets])
            assert not row.sets and row.seeds == 5
            assert (settings.sealing.scheme, settings.privacy.regime) == ("bfv", "FSCDP")


def test_nothing_is_claimed_on_seeds_that_settings_were_chosen_on(learning: ModuleType) -> None:
    chosen = _seeds(learning, claimed=False)
    claimed = _seeds(learning, claimed=True)
    assert not chosen & claimed
    kept = json.loads(learning.MEASURED.read_text())
    kept["heart-disease"]["seeds"][2]["seed"] = 2
    with pytest.raises(ValueError, match=r"heart-disease was measured on seeds .*run it again"):
        learning.page(kept)


def test_a_comparison_never_tunes_on_the_seeds_of_claims_or_of_its_own_results(
    learning: ModuleType,
) -> None:
    tuned = {"training.learning-rate": (0.1, 0.3)}
    axes = Axes(tune=tuned, seeds=MOST_SEEDS, tuning_seeds=MOST_SEEDS)
    plan = plan_comparison(find_scenario("default"), axes)
    looked_at = {cell.seed for cell in plan.tuning_cells()}
    shown = {cell.seed for cell in plan.cells(plan.setups[0])}
    claimed = _seeds(learning, claimed=True)
    assert not looked_at & (shown | claimed) and not shown & claimed
    tried = _seeds(learning, claimed=False)
    assert not shown & tried
    for more in ({"seeds": MOST_SEEDS + 1}, {"tuning_seeds": MOST_SEEDS + 1}):
        with pytest.raises(SettingsError, match=f"takes 1 to {MOST_SEEDS}"):
            Axes(tune=tuned, **more)


def test_no_claim_is_of_data_that_a_published_comparison_tuned_on(learning: ModuleType) -> None:
    claimed = [find_scenario(row.scenario) for row in learning.ROWS if row.table == "claims"]
    names = {resolve(one, ()).data.name for one in claimed}
    kept = [json.loads(file.read_text()) for file in PUBLISHED.glob("*.json")]
    assert len(kept) >= 3
    assert not names & {one["data"] for one in kept if one["tuned"]}


def test_a_published_comparison_on_seeds_that_settings_were_tried_on_says_so() -> None:
    page = (PUBLISHED.parent / "results.md").read_text()
    for file in PUBLISHED.glob("*.json"):
        kept = json.loads(file.read_text())
        section = page.partition(f"## {kept['title']}\n")[2].partition("\n## ")[0]
        seeds = {seed for row in kept["rows"] for seed in row["seeds"]}
        assert seeds and section
        assert ("were tried as well" in section) == (min(seeds) < FIRST_SEED)


def test_the_page_is_what_was_measured(learning: ModuleType) -> None:
    kept = json.loads(learning.MEASURED.read_text())
    assert learning.PAGE.read_text() == learning.page(kept)


def test_measured_claims_hold(learning: ModuleType) -> None:
    kept = json.loads(learning.MEASURED.read_text())
    text = learning.page(kept)
    assert "| no (" not in text


def test_a_claim_that_fails_is_said_to_fail(learning: ModuleType) -> None:
    kept = json.loads(learning.MEASURED.read_text())
    for seed in kept["heart-disease"]["seeds"]:
        seed["value"] = 0.5
    assert "| no (5 seeds)" in learning.page(kept)
