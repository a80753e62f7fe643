"""Faults that the detectors were not made for: each breaks a guarantee, and some are seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from accounting.randomness import Stream
from clients.contract import terms
from clients.data import Cohorts
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.site.books import Books
from clients.site.chances import Chances
from clients.site.ground import Site
from clients.site.own_draws import OwnDraws
from clients.site.shared_state import SharedState
from crypto import one_time
from crypto.ceremony import make_offer
from crypto.identity import Identity
from crypto.pairs import PairKeys
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_keys, make_sealer
from simulations.audit.cases import CASES, case_settings, run_case
from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.gates import ERROR
from simulations.audit.plans import SMALL
from tests.audit.faults import AUDIT, Fault, attacked, named, planted
from tests.audit.unseen import MISSED, UNSEEN

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

PLACE = Place(training="t", round=1, attempt=1)
#: Audits that must each see a fault: canaries are drawn anew, and a lucky draw is no detector.
AUDITS = 3


def noise_is_known_to_others(folder: Path) -> bool:
    settings = case_settings(CASES["gradients FSCDP"], folder)
    mine, theirs = (Chances("north", settings).stream(PLACE, "noise") for _ in range(2))
    return bool(np.array_equal(mine.normal(8), theirs.normal(8)))


def noise_comes_again(folder: Path) -> bool:
    first, second = (set(Stream.fresh().normal(2**19 + 1).tolist()) for _ in range(2))
    return bool(first & second)


def a_rare_class_is_drawn_more_often(folder: Path) -> bool:
    settings = case_settings(CASES["gradients FSCDP"], folder)
    cohort, rounds = Cohorts().of(settings), 200
    counts = {name: np.bincount(cohort.hospital(name).labels) for name in cohort.names}
    name = max(counts, key=lambda one: counts[one].min())
    site = Site(name=name, folder=folder, simulated=True, books=Books())
    own = OwnDraws(site, settings, "t", cohort, SharedState())
    rare, few = int(counts[name].argmin()), int(counts[name].min())
    batches = [
        own._sample(Place(training="t", round=number, attempt=1)) for number in range(1, rounds + 1)
    ]
    drawn = sum(int((batch.labels == rare).sum()) for batch in batches)
    stated = settings.training.sampling_rate
    least = rounds * few * stated * (1.0 + 0.25 * (counts[name].sum() / few - 2.0))
    return bool(drawn > least)


def a_patient_moves_the_sum_by_more_than_the_clip(folder: Path) -> bool:
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    per_sample = PerSample(model)
    lengths = torch.tensor([0.1] * 5 + [0.9] * 6)[:, None] * 2**0.5

    def total(count: int) -> Any:
        batch = Batch(
            inputs=lengths[:count],
            labels=torch.zeros(count, dtype=torch.long),
            patients=torch.arange(count),
        )
        return clipped_gradient_sum(per_sample, batch, l2_clip=1.0).total

    return bool(np.linalg.norm(total(11) - total(10)) > 1.0)


def a_sum_of_the_fewest_lacks_noise(folder: Path) -> bool:
    plan = terms.make_noise_plan("semi-central", noise_multiplier=1.0, hospitals=4, dropouts=1)
    return plan.stddev_per_hospital(1.0) * plan.min_contributions**0.5 < 1.0 - 1e-9


def a_key_seals_two_attempts(folder: Path) -> bool:
    keys_used = []
    real = one_time.Small

    def small(secret: Any) -> Any:
        keys_used.append(secret.tobytes())
        return real(secret)

    grid = Quantiser(step=1.0 / 255, bound=1.0)
    plan = plan_sealing(values=40, hospitals=3, grid=grid, scheme="one-time")
    made = [make_offer("t", name, Identity.generate()) for name in ("a", "b", "c")]
    pairs = PairKeys.derive([offer for offer, _ in made], made[0][1], "a", bytes(32))
    sealer = make_sealer(plan, make_keys(plan).with_pairs(pairs), "a")
    with mock.patch.object(one_time, "Small", small):
        for attempt in (1, 2):
            sealer.seal(np.zeros(40), Place(training="t", round=1, attempt=attempt))
    return len(set(keys_used)) == 1


BREAKS: tuple[Callable[[Path], bool], ...] = (
    noise_is_known_to_others,
    noise_comes_again,
    a_rare_class_is_drawn_more_often,
    a_patient_moves_the_sum_by_more_than_the_clip,
    a_sum_of_the_fewest_lacks_noise,
    a_key_seals_two_attempts,
)


@pytest.mark.parametrize(
    ("fault", "broken"),
    list(zip(UNSEEN, BREAKS, strict=True)),
    ids=[fault.name for fault in UNSEEN],
)
def test_it_breaks_what_the_code_as_it_is_keeps(
    quiet: Path, fault: Fault, broken: Callable[[Path], bool]
) -> None:
    for plan, expected in ((nullcontext(), False), (planted(fault), True)):
        with plan:
            assert broken(quiet / str(expected)) is expected


def seen(fault: Fault, folder: Path) -> set[str]:
    """Which detectors see a fault, until those have that are named for it."""
    named = set(fault.caught_by) - {AUDIT}

    def enough(audit: DataAudit) -> bool:
        return bool(named) and named <= {one.detector for one in audit.shut}

    with planted(fault):
        audit = audit_data(folder / "audit", SMALL, enough=enough)
        failures = attacked()
    return {one.detector for one in audit.shut} | ({AUDIT} if failures else set())


def test_a_key_of_two_attempts_shuts_the_gate_that_reads_keys_and_no_other(quiet: Path) -> None:
    with planted(named(UNSEEN, "one key for all attempts of a round")):
        gates = run_case(CASES["gradients FSCDP, one-time"], quiet / "case")
    shut = [gate.name for gate in gates if not gate.open(ERROR)]
    assert shut == ["correlation of the one-time keys of two places"]


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        ("noise keyed by public words", "correlation of the noise of two copies of a folder"),
        pytest.param(
            "classes evened out by sampling", "sampling rate", marks=pytest.mark.exhaustive
        ),
    ],
)
def test_the_first_training_over_canaries_shuts_its_gate(quiet: Path, name: str, gate: str) -> None:
    with planted(named(UNSEEN, name)):
        audit = audit_data(quiet / "audit", SMALL, enough=lambda _: True)
    assert gate in {one.gate.name for one in audit.shut}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", UNSEEN, ids=lambda fault: fault.name)
def test_an_unseen_fault_is_caught(
    quiet: Path, fault: Fault, request: pytest.FixtureRequest
) -> None:
    if fault.name in MISSED:
        reason = MISSED[fault.name]
        request.applymarker(pytest.mark.xfail(raises=AssertionError, reason=reason, strict=True))
    for number in range(AUDITS):
        found = seen(fault, quiet / str(number))
        assert found
        assert found >= set(fault.caught_by)


def test_a_fault_is_caught_or_said_to_be_missed() -> None:
    assert {one.name for one in UNSEEN if not one.caught_by} == set(MISSED)
