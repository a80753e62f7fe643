"""Faults planted once the detectors were frozen a seventh time: what sees each, held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulations.audit import data_audit
from simulations.audit.cases import CASES, run_case
from simulations.audit.data_audit import audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL, plans_of
from tests.audit.faults import attacked, named, planted
from tests.audit.seventh_faults import SEVENTH, VARIANTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
    pytest.mark.exhaustive,
]

SUMS, LAYERS = "gradients, FSCDP, bfv", "layers, FPDP"
ADDS = "what a patient in a batch adds, as a share of what it must"


@pytest.mark.parametrize(
    ("name", "title", "gate"),
    [
        ("no noise on an empty batch's zeros", SUMS, "noise of each release"),
        ("weights of classes around one", "gradients, CDP, classes evened out in the clip", ADDS),
        (
            "empty slots without noise",
            LAYERS,
            "noise of empty slots, activation (as a share of what is stated)",
        ),
        ("a coin for each record", SUMS, "sampling rate"),
        ("norms without a bias", SUMS, ADDS),
        (
            "loss gradients that are not clipped",
            LAYERS,
            "no record moves its loss gradient by more than the clip",
        ),
    ],
)
def test_a_fault_of_the_seventh_series_shows(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str, gate: str
) -> None:
    plans = [one for one in plans_of(SMALL) if one.title == title]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: plans)
    with planted(named(SEVENTH, name)):
        found = audit_data(quiet / "planted", replace(SMALL, cases=()))
    shut = {f"{one.gate.name} ({one.gate.subject})" for one in found.shut}
    assert any(one.startswith(gate) for one in shut), shut


def test_an_audit_of_a_run_sees_zeros_without_noise() -> None:
    with planted(named(SEVENTH, "no noise on an empty batch's zeros")):
        assert attacked()


def test_a_size_among_the_seconds_of_public_data_shows(quiet: Path) -> None:
    case = CASES["gradients FPDP, public"]
    assert all(one.open(ERROR) for one in run_case(case, quiet / "honest"))
    with planted(named(VARIANTS, "a batch's size among seconds")):
        shut = {one.name for one in run_case(case, quiet / "planted") if not one.open(ERROR)}
    assert shut == {"answers hold nothing else"}
