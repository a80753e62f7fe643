"""How many canaries an audit has follows from rounds and hospitals: it costs about the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounting import audit_sights
from accounting.audit_sights import sights_of
from accounting.observers import observers
from clients.audit.plan import (
    LEAST,
    LONGEST,
    MOST,
    SHORTEST,
    VALUES,
    AuditPlan,
    plan_audit,
)
from clients.contract.description import describe_run
from clients.contract.settings import Settings
from clients.contract.terms import agree_terms


@pytest.fixture(autouse=True)
def _quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the claims here."""
    monkeypatch.setattr(audit_sights, "observers", lambda run: observers(run, ("rdp",)))


def planned(dimensions: int = 31, **changes: object) -> AuditPlan:
    """The audit of a run whose model has so many parameters."""
    named = {key.replace("__", ".").replace("_", "-"): value for key, value in changes.items()}
    settings = Settings.from_config(
        {
            "partition.hospitals": 10,
            "training.rounds": 60,
            "training.sampling-rate": 0.1,
            "privacy.target-epsilon": 0.0,
            "privacy.noise-multiplier": 3.0,
            **named,
        }
    )
    terms = agree_terms(
        settings,
        training="t",
        dimensions=dimensions,
        patients=400,
        largest_hospital=80,
        noise_multiplier=3.0,
    )
    run = describe_run(settings, noise_multiplier=3.0, spent=terms.schedule.events, grid=terms.grid)
    return plan_audit(settings, run, sights_of(run, steps=1))


@pytest.mark.parametrize(
    ("changes", "canaries"),
    [
        ({}, 26_664),
        ({"training__rounds": 3001}, 532),
        ({"training__rounds": 3001, "partition__hospitals": 2}, 2_664),
        ({"training__rounds": 10}, MOST),
        ({"training__rounds": 10_000, "partition__hospitals": 100}, LEAST),
        ({"sealing__scheme": "one-time", "privacy__dropouts": 2}, 10_664),
        ({"audit__canaries": 123}, 123),
    ],
    ids=["default", "long", "long and cheap", "short", "long and wide", "in parts", "as told"],
)
def test_rounds_and_hospitals_decide_on_the_number(
    changes: dict[str, object], canaries: int
) -> None:
    plan = planned(**changes)
    assert plan.canaries[1] == canaries
    drawn = plan.rounds * plan.steps * plan.hospitals * sum(plan.canaries.values())
    assert canaries in (LEAST, 123) or drawn <= VALUES
    # Sealing costs as well: about sixty vectors, whatever the rounds.
    sealed = plan.hospitals * sum(plan.seals(number) for number in range(1, plan.rounds + 1))
    assert sealed <= 60 + 2 * plan.hospitals


def test_a_large_model_has_the_audit_of_a_small_one_but_for_one_vector() -> None:
    large, small = planned(dimensions=725_061), planned(dimensions=31)
    assert replace(large, longest=0) == replace(small, longest=0)
    assert (large.longest, small.longest) == (725_061, SHORTEST)
    assert planned(dimensions=LONGEST + 1).longest == LONGEST


def test_where_nobody_sees_a_sum_a_second_hospital_shows_whether_noise_is_shared() -> None:
    plan = planned(privacy__regime="FPDP", sealing__scheme="plain")
    assert plan.hospitals == 2
