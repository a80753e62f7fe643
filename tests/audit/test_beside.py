"""What sees faults of paths that canaries did not take, and of what is said beside answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulations.audit import data_audit
from simulations.audit.cases import CASES, run_case
from simulations.audit.data_audit import audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL, plans_of
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
