"""What sees faults of paths that canaries did not take, and of what is said beside answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.audit import data_audit
from simulations.audit.canary_data import draw_canaries
from simulations.audit.cases import CASES, run_case
from simulations.audit.data_audit import audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL, plans_of
from simulations.audit.said import named_gate
from simulations.audit.wire import Wire
from tests.audit.beside_faults import BESIDE
from tests.audit.faults import named, planted

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

LARGE, COPIES = "gradients, FPDP, a large model", "weights, FPDP, two local steps"
TABLE = "gradients, CDP, classes evened out in the clip"


def shut(case: str, folder: Path) -> set[str]:
    return {one.name for one in run_case(CASES[case], folder) if not one.open(ERROR)}


@pytest.mark.parametrize(
    ("name", "case", "gate"),
    [
        ("a hospital's size in the summary", "single FPDP", "a run's files are those of any run"),
        (
            "a batch's size logged aloud",
            "single FPDP",
            "hospitals say nothing beside their answers",
        ),
        ("nonces that are counted", "gradients FPDP", "bytes of what is random"),
    ],
)
def test_what_is_said_beside_answers_is_seen(quiet: Path, name: str, case: str, gate: str) -> None:
    with planted(named(BESIDE, name)):
        assert gate in shut(case, quiet / "planted")


def written(folder: Path, text: str, names: tuple[str, ...] = ("east",)) -> Wire:
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return Wire(out=folder, names=names)


@pytest.mark.parametrize(
    "text", ["{}", "{}.0", '"patient-{}"', "row 7: {}", "000{}", "-{}", "{}{}", "of.{}.json"]
)
def test_a_name_is_seen_however_it_is_written(tmp_path: Path, text: str) -> None:
    for name in draw_canaries(100, most_records=3).ids.tolist():
        assert not named_gate(written(tmp_path, text.format(name, name))).open(ERROR)


def test_figures_and_digests_name_nobody_by_chance(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    figures = random.random(300_000) * 10.0 ** random.integers(-8, 12, 300_000)
    wire = written(tmp_path, "\n".join(map(repr, figures.tolist())) + random.bytes(2**21).hex())
    assert named_gate(wire).open(ERROR)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("altered copies as patients", COPIES),
        ("norms without cross terms", LARGE),
        ("norms without factors", LARGE),
        ("gradients of neighbours in a norm", LARGE),
        ("identifiers as they are spelled", TABLE),
        ("empty cells filled in", TABLE),
        ("records of nobody kept", COPIES),
    ],
)
def test_a_fault_of_another_path_shows(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str
) -> None:
    plans = [one for one in plans_of(SMALL) if one.title == title]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: plans)
    with planted(named(BESIDE, name)):
        assert audit_data(quiet / "planted", replace(SMALL, cases=())).shut


@pytest.mark.exhaustive
def test_these_paths_show_nothing_of_the_code_as_it_is(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [one for one in plans_of(SMALL) if one.title in (LARGE, COPIES, TABLE)]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: plans)
    assert audit_data(quiet / "honest", replace(SMALL, cases=("single FPDP",))).shut == []
