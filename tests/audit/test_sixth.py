"""Faults planted once the detectors were frozen a sixth time, and who reads what is sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accounting.audit_turns import SHOWN
from simulations.audit import data_audit
from simulations.audit.cases import CASES, run_case
from simulations.audit.data_audit import audit_data
from simulations.audit.gates import ERROR
from simulations.audit.hidden import ERRORS, MADE_UP
from simulations.audit.plans import SMALL, plans_of
from tests.audit.faults import named, planted
from tests.audit.sixth_faults import SIXTH, VARIANTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

BFV, PUBLIC = "gradients FSCDP", "gradients FSCDP, public keys"
ONE_TIME, SHARED = "gradients FSCDP, one-time", "gradients FSCDP, keys in shares"
MASKING = "an encryption without its masking term"


def shut(case: str, folder: Path) -> set[str]:
    return {one.name for one in run_case(CASES[case], folder) if not one.open(ERROR)}


@pytest.mark.parametrize(
    ("name", "case", "gates"),
    [
        (MASKING, BFV, {SHOWN, MADE_UP}),
        *(
            pytest.param(*row, marks=pytest.mark.exhaustive)
            for row in (
                (MASKING, PUBLIC, {SHOWN, MADE_UP}),
                ("no masking term in one round", PUBLIC, {SHOWN, MADE_UP}),
                ("one masking term for all messages", PUBLIC, {SHOWN}),
                ("one-time keys times nought", ONE_TIME, {SHOWN, MADE_UP}),
                ("one-time keys times nought", SHARED, {SHOWN, MADE_UP}),
                ("one-time keys unmasked", ONE_TIME, {SHOWN}),
                ("one-time keys without errors", ONE_TIME, {ERRORS}),
            )
        ),
    ],
)
def test_what_anybody_could_open_is_seen(
    quiet: Path, name: str, case: str, gates: set[str]
) -> None:
    with planted(named((*SIXTH, *VARIANTS), name)):
        assert shut(case, quiet / "planted") >= gates


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", [BFV, PUBLIC, ONE_TIME, SHARED, "weights F", "cyclic FPDP"])
def test_nobody_reads_what_is_sealed_as_it_should_be(quiet: Path, case: str) -> None:
    assert shut(case, quiet / "honest") == set()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a patient in pieces, each clipped", "gradients, FPDP, seeded"),
        ("sums of any number of hospitals", "gradients, FSCDP, bfv"),
        ("exact zeros where nobody is drawn", "gradients, FPDP, seeded"),
        ("a clip at the median of a pass", "gradients, FSCDP, a colluder"),
    ],
)
def test_a_fault_of_the_sixth_series_shows(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str
) -> None:
    plans = [one for one in plans_of(SMALL) if one.title == title]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: plans)
    with planted(named(SIXTH, name)):
        assert audit_data(quiet / "planted", replace(SMALL, cases=())).shut


@pytest.mark.exhaustive
def test_batches_that_are_never_empty_show_over_all_trainings(quiet: Path) -> None:
    with planted(named(SIXTH, "a batch drawn until somebody is in it")):
        found = audit_data(quiet / "planted", replace(SMALL, cases=()))
    assert "empty batches" in {one.gate.name for one in found.shut}
