"""An audit of honest functions finds nothing; each fault that is planted in them shuts a gate."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from accounting import noising
from accounting.audit_findings import TOTAL_ERROR
from accounting.observers import observers
from accounting.randomness import Stream
from clients.audit import canaries as canary_module
from clients.audit.conduct import carry_out
from clients.contract.description import describe_run
from clients.contract.settings import Settings
from clients.contract.terms import agree_terms
from clients.site.chances import Chances
from crypto.bfv import BfvOpener
from tests.audit.given_noise import set_noise

pytestmark = pytest.mark.usefixtures("chances")

DELTA = 1e-4
BASE = {
    "partition.hospitals": 3,
    "training.rounds": 10,
    "training.sampling-rate": 0.2,
    "privacy.target-epsilon": 0.0,
    "privacy.noise-multiplier": 1.2,
    "privacy.delta": DELTA,
    "audit.canaries": 3000,
}


def make(changes):
    settings = Settings.from_config({**BASE, **changes})
    sigma = settings.privacy.noise_multiplier if settings.regime.private else 0.0
    terms = agree_terms(
        settings,
        training="t",
        dimensions=31,
        patients=300,
        largest_hospital=100,
        noise_multiplier=sigma,
    )
    run = describe_run(
        settings,
        noise_multiplier=sigma,
        spent=terms.schedule.events,
        grid=terms.grid if sigma else None,
    )
    return settings, run


def audit(changes=()):
    return carry_out(*make(dict(changes)))[0]


#: Everybody is in every batch: epsilon has a closed form then, and an audit takes no time.
ALWAYS = {"training.sampling-rate": 1.0}
#: Ways of training that an audit knows, and whether they are tried in every run of the tests.
TRAININGS = [
    ({}, True),
    ({"privacy.dropouts": 1}, False),
    ({"sealing.scheme": "one-time", **ALWAYS}, True),
    ({"privacy.regime": "FPDP", "sealing.scheme": "one-time"}, False),
    ({"sealing.scheme": "one-time", "partition.hospitals": 5, "privacy.dropouts": 1}, True),
    ({"partition.hospitals": 4, "privacy.dropouts": 1, "privacy.colluders": 2, **ALWAYS}, True),
    ({"sealing.scheme": "modular", "run.seed": 3}, False),
    ({"training.sampling-rate": 1.0, "training.rounds": 1}, False),
    ({"privacy.regime": "FPDP", "sealing.scheme": "plain"}, False),
    ({"privacy.regime": "CDP", "sealing.scheme": "plain", **ALWAYS}, True),
    ({"privacy.regime": "FPDP", "exchange.name": "weights", "exchange.local-steps": 3}, True),
    ({"privacy.regime": "FPDP", "exchange.name": "cyclic", "exchange.cycles": 2}, False),
    ({"privacy.regime": "FPDP", "exchange.name": "single"}, False),
    ({"privacy.regime": "FPDP", "exchange.name": "ensemble"}, False),
    ({"privacy.regime": "FPDP", "exchange.name": "layers"}, True),
]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            changes,
            id=" ".join(map(str, changes.values())) or "default",
            marks=() if quick else pytest.mark.exhaustive,
        )
        for changes, quick in TRAININGS
    ],
)
def test_every_observer_with_a_guarantee_has_a_bound_near_its_claim(changes):
    found = audit(changes)
    assert found.failures == []
    settings, run = make(changes)
    guaranteed = {row.observer for row in observers(run) if row.epsilon}
    assert {name for one in found.findings for name in one.observers} == guaranteed
    for finding in found.findings:
        family = finding.bounds[0]
        assert family.name == "family" and family.error == 0.05
        # A claim that credits no surplus of noise is further from what can be shown.
        slack = 0.2 if settings.privacy.colluders or settings.privacy.dropouts else 0.4
        assert slack * finding.claim < family.value < 1.3 * finding.claim


@pytest.mark.parametrize("regime, scheme", [("F", "bfv"), ("C", "plain")])
def test_without_a_guarantee_there_is_nothing_to_audit(regime, scheme):
    changes = {"privacy.regime": regime, "sealing.scheme": scheme, "privacy.noise-multiplier": 0.0}
    found = audit(changes)
    assert found.findings == () and found.gates == () and found.passed


def test_all_tests_together_err_with_the_total_error():
    found = audit()
    tests = len(found.gates) + 3 * len(found.findings)
    assert found.error * tests == pytest.approx(TOTAL_ERROR)
    assert all(0.0 <= gate.chance <= 1.0 for gate in found.gates)


def test_canaries_are_drawn_anew_whatever_the_seed_of_the_run():
    changes = {"sealing.scheme": "modular", "run.seed": 3}
    first, second = audit(changes), audit(changes)
    assert first.gates != second.gates


def scaled(factor):
    honest = Stream.normal
    return lambda self, count: honest(self, count) * factor


def seeded(label):
    """Streams that come again: keyed by what `label` makes of hospital, training, round."""

    def stream(self, place, purpose, step=0):
        if purpose == "sampling":
            return Stream.fresh()
        return Stream.from_seed(1, purpose, *map(str, label(self._name, place)))

    return stream


def fixed_batch(self, patients, place, step=0):
    order = Stream.fresh().permutation(len(patients))
    return patients[np.sort(order[: round(0.2 * len(patients))])]


def same_batch(self, patients, place, step=0):
    kept = Stream.from_seed(5, self._name).bernoulli(len(patients), 0.2)
    return patients[kept]


def twice_sampled(self, patients, place, step=0):
    once = Stream.fresh().bernoulli(len(patients), 0.2) & Stream.fresh().bernoulli(
        len(patients), 0.2
    )
    return patients[once]


def cut(bound):
    honest = Stream.normal
    return lambda self, count: np.clip(honest(self, count), -bound, bound)


NAMES = {
    "spread": "noise in what is seen: standard deviation, in units of the clip",
    "moved": "what one patient moves on average, in units of the clip",
    "again": "noise that came before",
    "lag": "noise of one round and the next: correlation",
    "pairs": "noise of two hospitals: correlation",
    "tail": "noise beyond 3 standard deviations",
    "share": "share of patients in a batch",
    "sizes": "spread of batch sizes",
    "times": "times that a patient was sampled: spread",
    "sums": "values of opened sums that are another",
}

FAULTS = {
    "half the noise": (Stream, "normal", scaled(0.5), {"spread", "bounds"}),
    "a tenth less noise": (Stream, "normal", scaled(0.9), {"spread"}),
    "a tenth more noise": (Stream, "normal", scaled(1.1), {"spread"}),
    "noise again in every round": (
        Chances,
        "stream",
        seeded(lambda name, place: (name, place.training)),
        {"again", "lag"},
    ),
    "noise again in every other round": (
        Chances,
        "stream",
        seeded(lambda name, place: (name, place.training, place.round % 2)),
        {"again"},
    ),
    "one noise for all hospitals": (
        Chances,
        "stream",
        seeded(lambda name, place: (place.training, place.round)),
        {"again", "pairs"},
    ),
    "noise again in every training": (
        Chances,
        "stream",
        seeded(lambda name, place: (name, place.round)),
        {"again"},
    ),
    "no sampling": (Chances, "sampled", lambda self, p, place, step=0: p, {"share", "bounds"}),
    "q used twice": (Chances, "sampled", twice_sampled, {"share", "moved"}),
    "batches of a fixed size": (Chances, "sampled", fixed_batch, {"sizes"}),
    "the same batch in every round": (Chances, "sampled", same_batch, {"times"}),
    "a clip of twice C": (
        canary_module,
        "clip_factors",
        lambda squares, clip: 2.0 * clip / squares.sqrt(),
        {"moved", "bounds"},
    ),
    "tails cut at three deviations": (Stream, "normal", cut(3.0), {"tail"}),
}


#: Those of which the others are kin.
QUICK = {
    "half the noise",
    "noise again in every other round",
    "one noise for all hospitals",
    "noise again in every training",
    "q used twice",
    "batches of a fixed size",
    "the same batch in every round",
    "tails cut at three deviations",
}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive) for name in FAULTS],
)
def test_a_fault_in_what_hospitals_call_is_found(fault, monkeypatch):
    holder, name, changed, gates = FAULTS[fault]
    if holder is Stream:
        set_noise(monkeypatch, changed)
    else:
        monkeypatch.setattr(holder, name, changed)
    found = audit({} if name == "sampled" else ALWAYS)
    assert not found.passed and found.failures
    shut = {gate.name for gate in found.gates if not gate.open(found.error)}
    assert {NAMES[one] for one in gates - {"bounds"}} <= shut
    if "bounds" in gates:
        assert any(one.refuted_by for one in found.findings)


def test_a_sum_that_opens_to_something_else_is_found(monkeypatch):
    honest = BfvOpener.open

    def wrong(self, total, contributors, place):
        opened = honest(self, total, contributors, place).copy()
        opened[7] += 1.0
        return opened

    monkeypatch.setattr(BfvOpener, "open", wrong)
    assert NAMES["sums"] in {gate.name for gate in audit(ALWAYS).gates if gate.chance == 0.0}


def test_a_seal_that_is_skipped_is_found(monkeypatch):
    def unsealed(update, prepared, seeds=()):
        return prepared.seal(np.zeros_like(update), [seed for one in seeds for seed in one.each])

    monkeypatch.setattr("clients.audit.sealing.sealed_contribution", unsealed)
    assert NAMES["sums"] in {gate.name for gate in audit(ALWAYS).gates if gate.chance == 0.0}


IN_PARTS = {
    "sealing.scheme": "one-time",
    "partition.hospitals": 5,
    "privacy.dropouts": 1,
    **ALWAYS,
}


def refuted(found):
    return {gate.name for gate in found.gates if gate.chance < found.error}


def test_noise_that_is_not_taken_out_of_a_sum_is_found(monkeypatch):
    """Five of five: a part of everybody's noise goes."""
    assert refuted(audit(IN_PARTS)) == set()
    monkeypatch.setattr("clients.site.unsealing.without_parts", lambda total, *_, **__: total)
    assert NAMES["sums"] in refuted(audit(IN_PARTS))
    monkeypatch.setattr("clients.audit.conduct.without_parts", lambda total, *_, **__: total)
    assert refuted(audit(IN_PARTS)) >= {NAMES["spread"]}


def test_noise_that_is_in_parts_of_other_sizes_is_found(monkeypatch):
    """As much in all, but more of it is taken out again."""
    honest = noising._in_steps

    def shifted(grid, part):
        factor = 0.9 if part == 0 else math.sqrt(1 + 0.19 * 4)
        return honest(grid, part) * factor

    monkeypatch.setattr(noising, "_in_steps", shifted)
    assert NAMES["spread"] in refuted(audit(IN_PARTS))


def test_an_audit_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    audit({"audit.canaries": 200, "training.rounds": 2, **ALWAYS})
    assert os.listdir(tmp_path) == []
