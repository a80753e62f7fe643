"""Faults that were planted once the detectors were frozen a fifth time: what sees each, held."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounting.audit_turns import SHOWN
from simulations.audit.cases import CASES, run_case
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL
from tests.audit.faults import Fault, planted
from tests.audit.fifth_faults import FIFTH

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

START = "models that leave follow from opened sums over q*N"
ANEW = "what is sealed is hidden anew"


def shut(case: str, folder: Path) -> set[str]:
    return {one.name for one in run_case(CASES[case], folder) if not one.open(ERROR)}


@pytest.mark.parametrize(
    ("name", "case", "gates"),
    [
        ("biases begin at class counts", "gradients FSCDP, one-time", {START}),
        ("an encryption of nought for all rounds", "gradients FSCDP", {ANEW, SHOWN}),
    ],
)
def test_a_case_shows_the_fault_and_nothing_without_it(
    quiet: Path, name: str, case: str, gates: set[str]
) -> None:
    [fault] = [one for one in FIFTH if one.name == name]
    assert not shut(case, quiet / "honest")
    with planted(fault):
        assert shut(case, quiet / "planted") == gates


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", FIFTH, ids=lambda fault: fault.name)
def test_a_fault_of_the_fifth_series_is_caught(quiet: Path, fault: Fault) -> None:
    expected = set(fault.caught_by)

    def enough(audit: DataAudit) -> bool:
        return expected <= {one.detector for one in audit.shut}

    with planted(fault):
        found = audit_data(quiet / "audit", SMALL, enough=enough)
    assert enough(found)
