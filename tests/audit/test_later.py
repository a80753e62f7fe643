"""Faults that were planted once the detectors were frozen a third time: what sees each, held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accounting.audit_repeats import STRETCH, repeat_gate, stretch_gate
from accounting.parts import Seeds, part_noise, plan_parts
from accounting.randomness import Stream
from simulations.audit import data_audit
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.gates import ERROR
from simulations.audit.limits_kept import limit_gates
from simulations.audit.plans import SMALL, SUM_PLANS, plans_of
from tests.audit.faults import AUDIT, Fault, attacked, named, planted
from tests.audit.later_faults import LATER

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]


def test_noise_that_repeats_in_long_vectors_shows_in_a_run_of_few_canaries() -> None:
    few = ("audit.canaries=500", "training.rounds=2")
    assert attacked(*few) == []
    with planted(named(LATER, "noise that repeats in long vectors")):
        [found] = attacked(*few)
    assert "noise that repeats within a vector" in found
    assert "at distance 32,768" in found


@pytest.mark.parametrize("length", [STRETCH, 10 * STRETCH + 1])
def test_noise_that_is_whole_passes_at_any_length(length: int) -> None:
    noise = Stream.fresh().normal(length)
    assert repeat_gate(noise, name="").open(ERROR)
    assert stretch_gate(noise, name="", subject="").open(ERROR)


def test_a_stretch_without_noise_shows_however_long_the_vector_is() -> None:
    noise = Stream.fresh().normal(100 * STRETCH)
    noise[70 * STRETCH : 71 * STRETCH] *= 0.8
    gate = stretch_gate(noise, name="", subject="all of it")
    assert not gate.open(ERROR)
    assert gate.subject == f"all of it, from value {70 * STRETCH:,} on"


def test_noise_that_comes_again_anywhere_shows() -> None:
    noise = Stream.fresh().normal(50 * STRETCH)
    noise[-STRETCH:] = noise[:STRETCH]
    gate = repeat_gate(noise, name="")
    assert not gate.open(ERROR)
    assert gate.subject == f"at distance {49 * STRETCH:,}"


def test_a_clip_that_leaves_a_tensor_out_shows(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortest = [one for one in plans_of(SMALL) if one.title.startswith("gradients, CDP")]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: shortest)
    with planted(named(LATER, "biases beside the clip")):
        audit = audit_data(quiet / "audit", SMALL, enough=lambda _: True)
    assert "no patient moves a sum by more than the clip" in {one.gate.name for one in audit.shut}


def test_a_limit_is_held_over_trainings(quiet: Path) -> None:
    gates = limit_gates(quiet / "honest")
    assert [one.name for one in gates if not one.open(ERROR)] == []
    with planted(named(LATER, "limits of one training alone")):
        gates = limit_gates(quiet / "planted")
    shut = [one.name for one in gates if not one.open(ERROR)]
    assert shut == ["all trainings together stay within a hospital's limit"]


def test_one_seed_for_all_parts_tells_of_those_that_stay() -> None:
    parts = plan_parts(1.0, hospitals=5, dropouts=2, colluders=0)
    assert parts is not None and len(parts.levels) == 2
    for plant, alike in ((None, False), (named(LATER, "one seed for all parts"), True)):
        if plant is None:
            seeds = Seeds.drawn(Stream.fresh(), parts)
        else:
            with planted(plant):
                seeds = Seeds.drawn(Stream.fresh(), parts)
        goes, stays = (part_noise(one, 100, 1.0) for one in seeds.each)
        assert np.array_equal(goes, stays) is alike


@pytest.mark.exhaustive
def test_opened_noise_that_tells_of_what_stays_shuts_its_gate(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_audit, "plans_of", lambda _: SUM_PLANS[1:])
    form = replace(SMALL, cases=())
    assert audit_data(quiet / "honest", form).shut == []
    with planted(named(LATER, "one seed for all parts")):
        audit = audit_data(quiet / "planted", form)
    gate = "correlation of noise that everybody knows with noise that stays"
    assert gate in {one.gate.name for one in audit.shut}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", LATER, ids=lambda fault: fault.name)
def test_a_later_fault_is_caught(quiet: Path, fault: Fault) -> None:
    expected = set(fault.caught_by) - {AUDIT}

    def enough(audit: DataAudit) -> bool:
        return expected <= {one.detector for one in audit.shut}

    with planted(fault):
        if expected:
            found = {one.detector for one in audit_data(quiet / "audit", SMALL, enough=enough).shut}
            assert found >= expected
        if AUDIT in fault.caught_by:
            assert attacked()
    assert fault.caught_by
