"""What canary patients and the wire show of the code as it is, and of faults planted in it."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from simulations.audit import data_audit
from simulations.audit.cases import CASES
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.plans import QUICK, SMALL, SUM_PLANS, plans_of
from tests.audit.faults import AUDIT, DATA, RECONCILIATION, Fault, planted
from tests.audit.planted import FAULTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

#: One for each detector.
A_FEW = ("a clip for each tensor", "a retry not charged")


def shut(audit: DataAudit) -> list[str]:
    return [f"{one.training}: {one.gate}" for one in audit.shut]


@pytest.mark.exhaustive
def test_the_code_as_it_is_passes_every_gate(quiet: Path) -> None:
    audit = audit_data(quiet / "audit", SMALL)
    assert shut(audit) == []
    assert {one.detector for one in audit.found} == {DATA, RECONCILIATION}
    proved = {one.observer: max(bound.value for bound in one.bounds) for one in audit.claims}
    assert len(proved) == 3
    assert proved["server + one key holder"] > 0.0


def caught(fault: Fault, folder: Path) -> Counter[str]:
    """How many gates of each detector a fault shuts, until it is caught."""

    named = set(fault.caught_by) - {AUDIT}

    def enough(audit: DataAudit) -> bool:
        return named <= {one.detector for one in audit.shut}

    with planted(fault):
        audit = audit_data(folder / "audit", SMALL, enough=enough)
    return Counter(one.detector for one in audit.shut)


@pytest.mark.parametrize("name", A_FEW)
def test_a_planted_fault_is_caught(quiet: Path, name: str) -> None:
    [fault] = [one for one in FAULTS if one.name == name]
    assert set(caught(fault, quiet)) >= set(fault.caught_by) - {AUDIT}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_planted_fault_is_caught(quiet: Path, fault: Fault) -> None:
    assert set(caught(fault, quiet)) >= set(fault.caught_by) - {AUDIT}


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_canaries_show_in_sums_that_nobody_opens_but_whole(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Under one-time keys, and under those in shares, with a hospital missing."""
    one_plan, form = SUM_PLANS[number : number + 1], replace(SMALL, cases=())
    monkeypatch.setattr(data_audit, "plans_of", lambda _: one_plan)
    assert shut(audit_data(quiet / "honest", form)) == []
    [fault] = [one for one in FAULTS if one.name == "a clip for each record"]
    with planted(fault):
        found = audit_data(quiet / "planted", form)
    assert "no patient moves a sum by more than the clip" in {one.gate.name for one in found.shut}


@pytest.mark.parametrize("name", [None, "classes counted beside the whole clip"])
def test_counts_of_classes_are_a_part_of_what_a_patient_adds(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    counted = [one for one in plans_of(SMALL) if one.counted]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: counted)
    [fault] = [one for one in FAULTS if one.name == name] or [None]
    with planted(fault) if fault else nullcontext():
        audit = audit_data(quiet / "audit", replace(SMALL, cases=()))
    names = {one.gate.name for one in audit.shut}
    assert ("what a patient in a batch adds, as a share of what it must" in names) == bool(fault)
    assert bool(fault) or not names


@pytest.mark.exhaustive
def test_every_exchange_is_reconciled_with_every_ledger(quiet: Path) -> None:
    audit = audit_data(quiet / "audit", replace(QUICK, cases=tuple(CASES)))
    assert shut(audit) == []
