"""Faults that were planted once the detectors were frozen a fourth time: what sees each, held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accounting.audit_values import TRIED, draw_values, values_gate
from accounting.randomness import Stream
from simulations.audit import data_audit
from simulations.audit.canary_data import draw_canaries
from simulations.audit.contributions import Read, mean_gates
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.gates import ERROR
from simulations.audit.opened import Release
from simulations.audit.plans import SMALL, plans_of
from tests.audit.blind_faults import BLIND
from tests.audit.faults import AUDIT, Fault, attacked, named, planted

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

FEW = ("audit.canaries=500", "training.rounds=2")


@pytest.mark.parametrize("regime", ["FSCDP", "FPDP"])
def test_a_sum_that_is_rounded_before_its_noise_shows(regime: str) -> None:
    with planted(named(BLIND, "rounded before the noise")):
        [found] = attacked(*FEW, f"privacy.regime={regime}")
    assert "values before their noise" in found


@pytest.mark.parametrize("noise", [3.0, 10.0, 30.0])
def test_values_that_are_noised_and_rounded_once_open_their_gate(noise: float) -> None:
    for error in (0.05, ERROR):
        shut = 0
        for _ in range(40):
            values = draw_values(1 << 14, step=1.0, reach=50.0)
            left = np.rint(values + noise * Stream.fresh().normal(len(values)))
            gate = values_gate(
                values, (left - values) / np.hypot(noise, 12**-0.5), name="", subject=""
            )
            shut += not gate.open(error)
        assert shut <= (0 if error == ERROR else 10)


def test_values_brought_to_a_grid_of_their_own_shut_their_gate() -> None:
    values = draw_values(1 << 17, step=1.0, reach=50.0)
    assert len(np.unique(values)) <= TRIED + 1
    for width in (1.0, 2.0, 0.8):
        coarse = np.rint(values / width) * width
        left = np.rint(coarse + 4.0 * Stream.fresh().normal(len(values)))
        gate = values_gate(values, (left - values) / 4.0, name="", subject="")
        assert not gate.open(ERROR), width


@pytest.mark.parametrize("rounds", [1, 12])
def test_means_of_parts_are_held_by_a_bound_that_few_patients_do_not_break(rounds: int) -> None:
    rate, canaries = 0.01, draw_canaries(100, most_records=8)
    own = np.broadcast_to(canaries.coins, (rounds, len(canaries)))
    nothing = Release(hospital="east", round=1, attempt=1, steps=1, vector=np.zeros(0))
    random, shut, error = np.random.default_rng(), 0, 0.01
    for _ in range(100):
        drawn = own & (random.random(own.shape) < rate)
        found = Read(
            releases=[nothing] * rounds,
            parts=drawn + 0.1 * random.standard_normal(own.shape),
            canaries=canaries,
            own=own,
            noise_stddev=np.full(rounds, 0.1),
        )
        gates = mean_gates(found, canaries, rate)
        shut += sum(not gate.open(error) for gate in gates)
    assert shut <= 0.01 * 100 * len(gates)
    wide = replace(found, parts=found.parts + 0.3 * found.own)
    assert any(not gate.open(ERROR) for gate in mean_gates(wide, canaries, rate))


def test_class_weights_above_one_show(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evened = [one for one in plans_of(SMALL) if "classes evened out" in one.title]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: evened)
    form = replace(SMALL, cases=())
    with planted(named(BLIND, "class weights after the clip")):
        shut = audit_data(quiet / "planted", form).shut
    assert {one.training for one in shut} >= {one.title for one in evened}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", BLIND, ids=lambda fault: fault.name)
def test_a_fault_that_was_planted_blindly_is_caught(quiet: Path, fault: Fault) -> None:
    expected = set(fault.caught_by) - {AUDIT}

    def enough(audit: DataAudit) -> bool:
        return expected <= {one.detector for one in audit.shut}

    with planted(fault):
        if expected:
            found = {one.detector for one in audit_data(quiet / "audit", SMALL, enough=enough).shut}
            assert found >= expected
        if AUDIT in fault.caught_by:
            assert attacked(*FEW)
    assert fault.caught_by
