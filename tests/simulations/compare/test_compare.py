"""Comparisons, for real: what is run, what is not run again, what is left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from clients.contract.settings import SettingsError
from clients.data import Cohorts
from clients.models import build_model
from simulations.compare.alone import alone_cells, by_size
from simulations.compare.axes import (
    FIRST_SEED,
    FIRST_TUNING_SEED,
    Axes,
    cell_folder,
    plan_comparison,
)
from simulations.compare.comparison import Comparison, axes_of, comparison_bar, held
from simulations.compare.figures import draw_all
from simulations.compare.folder import CELLS, COMPARISON, find_comparison
from simulations.compare.page import write_results_page
from simulations.compare.report import render_comparison_report
from simulations.compare.workers import run_trainings
from simulations.scenario import Scenario, find_scenario, list_scenarios
from strategies.run.reading import NoRun, read_settings
from tests.simulations.made_runs import run_round, start_run

#: Small trainings, which nobody attacks: audits have tests of their own.
SHORT = ("training.rounds=3", "partition.hospitals=3", "audit.enabled=false")
DEFAULT = find_scenario("default")
ALL = ("C", "CDP", "F", "FPDP", "FSCDP")


def labels(**axes):
    return [setup.label for setup in plan_comparison(DEFAULT, Axes(**axes)).setups]


def test_axes_that_do_not_matter_to_a_setup_do_not_multiply_it():
    found = labels(
        regimes=ALL, epsilons=(1.0, 3.0), partitions=("iid", "dirichlet:0.1"), hospitals=(5, 10)
    )
    assert len(found) == len(set(found)) == 1 + 2 + 4 + 8 + 8
    assert found[0] == "C"
    assert "FSCDP, gradients, dirichlet:0.1, K = 10, epsilon 3" in found


def test_what_is_not_sound_is_skipped_with_its_reason():
    axes = Axes(regimes=("F", "FSCDP"), exchanges=("gradients", "single"))
    plan = plan_comparison(DEFAULT, axes)
    assert [(one.regime, one.exchange) for one in plan.setups] == [
        ("F", "gradients"),
        ("F", "single"),
        ("FSCDP", "gradients"),
    ]
    [(why, setups)] = plan.skipped
    assert setups == ("FSCDP, single",)
    assert "not sound" in why[0]


def test_a_question_may_do_without_a_way_of_training():
    axes = axes_of(find_scenario("hospital-count"), {"hospitals": (2,)})
    ways = [(one.regime, one.exchange) for one in plan_comparison(DEFAULT, axes).setups]
    assert ways == [
        ("F", "gradients"), ("F", "cyclic:6"), ("FSCDP", "gradients"), ("FPDP", "cyclic:6")
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="leaves nothing to run"):
        plan_comparison(DEFAULT, Axes(regimes=("F",), without=("F, gradients",)))


def test_a_grid_of_nothing_sound_is_refused():
    with pytest.raises(SettingsError, match="not sound"):
        plan_comparison(DEFAULT, Axes(regimes=("FSCDP",), exchanges=("single",)))


def test_details_after_a_colon_become_settings():
    plan = plan_comparison(
        DEFAULT, Axes(regimes=("F",), exchanges=("weights:5",), partitions=("dirichlet:1",))
    )
    [cell] = [plan.cells(setup)[0] for setup in plan.setups]
    assert cell.settings.exchange.local_steps == 5
    # As many steps at a hospital as every other way of training takes: 60.
    assert cell.settings.training.rounds == 12
    assert cell.settings.partition.alpha == 1.0


def test_a_changed_setting_is_another_cell_and_a_folder_is_none():
    first, again, other = (
        plan_comparison(DEFAULT, Axes(assignments=texts)) for texts in (SHORT, SHORT, SHORT[:1])
    )
    [one], [two], [three] = ([*plan.cells(plan.setups[0])][:1] for plan in (first, again, other))
    assert one.name == two.name != three.name
    assert cell_folder(Path("a"), one).name == cell_folder(Path("b"), one).name


def test_tuning_never_looks_at_the_seeds_of_the_results():
    axes = Axes(tune={"training.learning-rate": (0.3, 1.0)}, tuning_seeds=2)
    plan = plan_comparison(DEFAULT, axes)
    seeds = {cell.seed for cell in plan.tuning_cells()}
    assert seeds == {FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1}
    assert not seeds & {cell.seed for cell in plan.cells(plan.setups[0])}


def test_every_scenario_that_has_axes_is_a_plan():
    compared = [one for one in list_scenarios() if one.compare]
    assert {"regimes", "exchanges", "hospital-count"} <= {one.name for one in compared}
    for one in compared:
        assert plan_comparison(one, axes_of(one, {})).setups


def test_a_word_that_is_no_axis_is_refused():
    scenario = Scenario(name="mine", title="mine", compare={"epsilon": [1.0]})
    with pytest.raises(SettingsError, match=r"epsilon is no axis; known: .*epsilons"):
        axes_of(scenario, {})


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two ways, two seeds, trained and tuned once for all tests below."""
    out = tmp_path_factory.mktemp("compared")
    axes = Axes(
        regimes=("C", "FSCDP"),
        seeds=2,
        tune={"training.learning-rate": (0.001, 1.0)},
        tuning_seeds=1,
        assignments=(*SHORT, "privacy.target-epsilon=3.0"),
    )
    said = io.StringIO()
    comparison = Comparison(
        out=out,
        command=["flower-simulation", "compare", "default"],
        console=Console(file=said, width=80),
    )
    content = comparison.run(DEFAULT, axes)
    (out / "said.txt").write_text(said.getvalue())
    return out, axes, content


def test_a_comparison_holds_a_row_a_setup_with_all_its_seeds(compared):
    out, _, content = compared
    assert json.loads((out / COMPARISON).read_text()) == content
    assert [(row["regime"], row["seeds"]) for row in content["rows"]] == [
        ("C", [FIRST_SEED, FIRST_SEED + 1]),
        ("FSCDP", [FIRST_SEED, FIRST_SEED + 1]),
    ]
    own = content["rows"][1]
    assert own["spent_epsilon"] <= 3.0
    summaries = [json.loads((out / "cells" / name / "summary.json").read_text())
                 for name in own["cells"]]  # fmt: skip
    sent = [one["uplink_bytes_total"] / 3 for one in summaries]
    assert own["sent_bytes"]["values"] == pytest.approx(sent, abs=1e-5)
    assert min(sent) > 1000
    assert len(own["hospital_accuracy"][0]) == 3
    assert not content["failed"] and not content["skipped"]
    [pair] = content["paired"]
    assert pair["against"]["regime"] == "C"
    values = zip(own["accuracy"]["values"], content["rows"][0]["accuracy"]["values"], strict=True)
    assert pair["difference"]["values"] == pytest.approx([a - b for a, b in values], abs=2e-6)


def test_every_hospital_is_held_against_what_it_reaches_alone(compared, tmp_path):
    out, _, content = compared
    [row] = content["alone"]
    assert (row["partition"], row["hospitals"]) == ("dirichlet:0.5", 3)
    assert row["ways"] == ["alone", "FSCDP, gradients, epsilon 3"]
    together = dict(zip(content["rows"][1]["seeds"], content["rows"][1]["cells"], strict=True))
    for folder in out.glob("cells/F-ensemble-*"):
        settings = read_settings(folder)
        seed, cohort = settings.run.seed, Cohorts().of(settings)
        models = load_file(folder / "model.safetensors")
        summary = json.loads((out / "cells" / together[seed] / "summary.json").read_text())
        points = {one["hospital"]: one for one in row["points"] if one["seed"] == seed}
        assert list(points) == list(cohort.names)
        for name, point in points.items():
            module = build_model(settings, cohort.info, 0)
            own = {k: torch.as_tensor(v) for k, v in models.items() if k.startswith(f"{name}/")}
            module.load_state_dict({k.partition("/")[2]: v for k, v in own.items()})
            tests = cohort.tests[name]
            guesses = module(torch.as_tensor(tests.inputs)).argmax(dim=1).numpy()
            assert point["accuracy"][0] == pytest.approx(float((guesses == tests.labels).mean()))
            assert point["accuracy"][1] == summary["hospital_accuracy"][name]
            assert point["records"] == len(cohort.hospital(name).labels)
    parts = by_size(row)
    assert sum(part["count"] for part in parts) == len(row["points"]) == 2 * 3
    assert [part["most"] for part in parts] == sorted(part["most"] for part in parts)
    assert "Alone or together" in render_comparison_report(content)
    assert "alone" in draw_all(content)
    page = write_results_page([content], tmp_path).read_text("utf-8")
    assert "### Alone or together" in page
    assert f"| {parts[0]['least']:,} to {parts[0]['most']:,} | {parts[0]['count']} |" in page


def test_records_that_are_not_public_are_shown_of_no_hospital_alone():
    axes = Axes(regimes=("F",), seeds=1, assignments=(*SHORT, "data.public=false"))
    plan = plan_comparison(DEFAULT, axes)
    assert alone_cells(plan, {}) == {}
    one = Axes(regimes=("C", "F"), seeds=1, assignments=("partition.hospitals=1",))
    assert alone_cells(plan_comparison(DEFAULT, one), {}) == {}


def test_whoever_is_alone_takes_as_many_steps_and_adds_nothing_up():
    told = ("exchange.name=weights", "exchange.local-steps=5", "training.rounds=4")
    more = ("training.averaging=0.9", "privacy.regime=FPDP")
    plan = plan_comparison(DEFAULT, Axes(seeds=1, assignments=(*told, *more)))
    [[cell]] = alone_cells(plan, {}).values()
    exchange, training = cell.settings.exchange, cell.settings.training
    assert (exchange.name, cell.settings.privacy.regime) == ("ensemble", "F")
    assert (training.rounds, exchange.local_steps, training.averaging) == (20, 1, 0.0)


def test_without_a_terminal_a_plain_line_comes_with_each_training(compared):
    out, _, _ = compared
    said = (out / "said.txt").read_text()
    assert "\x1b" not in said
    assert [line.split(":")[0] for line in said.splitlines()] == [f"{k}/10" for k in range(1, 11)]
    assert said.splitlines()[7].startswith("8/10: FSCDP, gradients")
    assert said.splitlines()[-1].startswith("10/10: F, ensemble")


def test_a_grids_bar_says_where_its_trainings_are(tmp_path, monkeypatch):
    monkeypatch.setattr("simulations.compare.comparison.PULSE_SECONDS", 0.05)
    file, seen = io.StringIO(), threading.Event()
    with comparison_bar(Console(file=file, force_terminal=True, width=100), 2) as bar:
        bar.follow({tmp_path / "one": "FSCDP, gradients", tmp_path / "two": "C"})
        run_round(start_run(tmp_path / "one"), 3)
        for _ in range(100):
            if "FSCDP, gradients: round 3/10" in file.getvalue():
                break
            seen.wait(0.05)
        bar.step(tmp_path / "one")
    assert "FSCDP, gradients: round 3/10" in file.getvalue()
    assert "0/2" in file.getvalue()


def test_a_comparison_keeps_who_sees_what_and_what_ledgers_hold(compared):
    _, _, content = compared
    [pooled, own] = content["rows"]
    assert pooled["ledger_entries"] == 0
    assert own["ledger_entries"] == 2 * 3  # seeds, rounds
    by_name = {one["observer"]: one for one in own["observers"]}
    assert by_name["server"]["epsilon"]["prv"] == pytest.approx(own["spent_epsilon"], rel=2e-3)
    assert by_name["server"]["guaranteed"] is False
    assert len(by_name) >= 4
    assert content["versions"]["flwr"]


def test_tuning_takes_the_better_of_two_steps(compared):
    _, _, content = compared
    assert all(row["tuned"] == {"training.learning-rate": 1.0} for row in content["rows"])


def test_each_cell_is_a_run_folder_like_any_other(compared):
    out, _, content = compared
    for row in content["rows"]:
        for name in row["cells"]:
            files = {path.name for path in (out / "cells" / name).iterdir()}
            assert {"config.toml", "metrics.jsonl", "summary.json", "privacy.json"} <= files
            assert {"model.safetensors", "provenance.json", "run.log"} <= files


def test_finished_cells_are_not_run_again(compared):
    out, axes, content = compared
    times = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/summary.json")}
    assert len(times) == 4 + 4 + 2
    start = time.monotonic()
    again = Comparison(out=out).run(DEFAULT, axes)
    assert time.monotonic() - start < 3
    assert again["rows"] == content["rows"]
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("cells/*/summary.json")}


@pytest.mark.exhaustive
def test_a_dead_process_loses_its_training_alone_and_one_cut_short_is_made_anew(compared):
    out, _, content = compared
    folder = out / "cells" / content["rows"][1]["cells"][0]
    before = load_file(folder / "model.safetensors")
    (folder / "summary.json").unlink()
    config = read_settings(folder).to_config()
    outcomes = dict(run_trainings([{"run.attempts": "no number"}, config], processes=1))
    assert (outcomes[0].status, outcomes[0].message) == ("failed", "its process died")
    assert outcomes[1].status == "finished"
    after = load_file(folder / "model.safetensors")
    assert all((after[name] == before[name]).all() for name in before)


def test_two_commands_do_not_share_a_folder(tmp_path):
    with held(tmp_path), pytest.raises(SettingsError, match="another comparison is running"):
        Comparison(out=tmp_path).run(DEFAULT, Axes())


def test_a_comparison_that_has_not_finished_is_told_from_what_is_none(tmp_path):
    (tmp_path / CELLS / "one").mkdir(parents=True)  # of pictures, say
    assert find_comparison(str(tmp_path)) is None
    (tmp_path / CELLS / "one" / "config.toml").touch()
    with pytest.raises(NoRun, match="has not finished: give the same 'compare' again"):
        find_comparison(str(tmp_path))


@pytest.mark.usefixtures("at_a_terminal")
def test_an_interrupt_ends_every_process_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "simulations.cli", "compare", "default", "--seeds", "50"]
    command += ["--jobs", "2", "--out", str(tmp_path / "out"), "--set", SHORT[1]]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("out/cells/*")) and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "The same command goes on from there" in said
    assert "Traceback" not in said
    end = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(process.pid)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
