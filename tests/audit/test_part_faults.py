"""Faults of a part of a training, a vector or a statement: what sees each, held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accounting.accountants import epsilon
from accounting.events import GaussianEvent
from simulations.audit import data_audit
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL, plans_of
from simulations.audit.shown import together_gate
from simulations.audit.statements import TOLERANCE, TRIED, accountant_gate, loss_epsilon
from simulations.audit.stretches import neighbours_gate, order_gate, part_gate
from tests.audit.faults import named, planted
from tests.audit.part_faults import PARTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

NAMES = [f"release {number}" for number in range(8)]


def noise(step: float = 0.3) -> np.ndarray:
    drawn = np.random.default_rng().standard_normal((len(NAMES), 4_096))
    return step * np.rint(drawn / step)


def test_noise_in_another_order_is_known_again() -> None:
    values = noise()
    assert order_gate(values, NAMES, 0.3).open(ERROR)
    values[5] = -np.random.default_rng().permutation(values[2])
    assert not order_gate(values, NAMES, 0.3).open(ERROR)


@pytest.mark.parametrize(("rows", "columns", "factor"), [(slice(2, 3), slice(640, 768), 0.4)])
def test_a_part_of_the_noise_that_is_fainter_shows(
    rows: slice, columns: slice, factor: float
) -> None:
    values, nobody = noise(0.01), np.zeros((len(NAMES), 4_096), dtype=bool)
    assert part_gate(values, NAMES, NAMES, nobody).open(ERROR)
    values[rows, columns] *= factor
    found = part_gate(values, NAMES, NAMES, nobody)
    assert not found.open(ERROR) and found.subject.startswith("release 2, values")


def test_noise_that_is_fainter_where_somebody_is_shows() -> None:
    random = np.random.default_rng()
    values, touched = noise(0.01), random.random((len(NAMES), 4_096)) < 0.02
    values[touched] *= 0.6
    assert not part_gate(values, NAMES, NAMES, touched).open(ERROR)
    assert part_gate(values, NAMES, NAMES, np.zeros_like(touched)).open(ERROR)


def test_rows_a_tenth_longer_than_the_clip_show_all_together() -> None:
    random, least = np.random.default_rng(), 100.0
    for longer, shows in ((1.0, False), (1.1, True)):
        rows = random.standard_normal((500, 4)) + np.array([longer * least**0.5, 0.0, 0.0, 0.0])
        gate = together_gate((rows**2).sum(axis=1), 4, least, "rows")
        assert gate.open(ERROR) != shows


def test_patients_drawn_in_pairs_show() -> None:
    drawn = np.random.default_rng().random((6, 100)) < 0.25
    assert neighbours_gate({"east": drawn.astype(float)}, 0.25).open(ERROR)
    assert not neighbours_gate({"east": drawn.repeat(2, axis=1).astype(float)}, 0.25).open(ERROR)


@pytest.mark.parametrize(
    "number", [1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (0, 2, 3, 4, 5))]
)
def test_losses_composed_another_way_agree_with_the_accountant(number: int) -> None:
    rate, sigma, count = TRIED[number]
    event = GaussianEvent(sampling_rate=rate, noise_multiplier=sigma, count=count)
    said = epsilon([event], 1e-5, "prv")
    assert said == pytest.approx(loss_epsilon(rate, sigma, count, 1e-5), rel=TOLERANCE)


@pytest.mark.exhaustive
def test_an_accountant_that_says_a_little_less_shows() -> None:
    assert accountant_gate().open(ERROR)
    with planted(named(PARTS, "three hundredths less claimed")):
        assert not accountant_gate().open(ERROR)


def shown(
    name: str, title: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: int
) -> tuple[DataAudit, DataAudit]:
    """Audit one training as it is, and with a fault."""
    plans = [one for one in plans_of(SMALL) if title in one.title]
    monkeypatch.setattr(data_audit, "plans_of", lambda _: plans)
    form = replace(SMALL, cases=(), **more)
    honest = audit_data(folder / "honest", form)
    with planted(named(PARTS, name)):
        return honest, audit_data(folder / "planted", form)


@pytest.mark.parametrize(
    ("name", "title", "gate"),
    [
        (
            "a place asked for again is answered anew",
            "weights, FPDP",
            "a place that is asked for again gives nothing new",
        ),
        *(
            pytest.param(*row, marks=pytest.mark.exhaustive)
            for row in (
                (
                    "a seed without the round",
                    "FPDP, seeded",
                    "correlation of the noise of two releases",
                ),
                (
                    "noise in another order",
                    "FPDP, seeded",
                    "noise of one release is another's in another order",
                ),
                ("a fifth less noise where somebody is", "FPDP, seeded", "noise of each part"),
                ("half the noise of 64 values", "FPDP, seeded", "noise of each part"),
                ("patients drawn in pairs", "FPDP, seeded", "patients who are drawn together"),
                (
                    "a shared patient's claim as of one hospital",
                    "weights, FPDP",
                    "claims cover what ledgers cost",
                ),
                ("a group's noise shared with all", "groups", "noise of each part"),
            )
        ),
    ],
)
def test_a_fault_of_a_part_shows(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str, gate: str
) -> None:
    honest, found = shown(name, title, quiet, monkeypatch)
    assert not honest.shut
    assert gate in {one.gate.name for one in found.shut}


@pytest.mark.exhaustive
def test_batches_given_up_for_one_gradient_show(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One canary in eighty has such a gradient: fewer might be in no batch.
    name = "a batch given up for one gradient"
    honest, found = shown(name, "FPDP, seeded", quiet, monkeypatch, canaries=1_200)
    assert not honest.shut
    assert "size of each batch" in {one.gate.name for one in found.shut}
