"""The audit that comes with every run sees the planted faults that it is named for."""

from __future__ import annotations

import pytest

from simulations.run_audit import attack, planned_run
from simulations.scenario import find_scenario, resolve
from tests.audit.faults import AUDIT, Fault, planted
from tests.audit.planted import FAULTS

pytestmark = pytest.mark.usefixtures("chances")

#: Fewer canaries than a run's own audit has: as many as show each of these faults.
CANARIES = 20_000
SEEN = [fault for fault in FAULTS if AUDIT in fault.caught_by]


def failures(fault: Fault) -> list[str]:
    with planted(fault):
        settings = resolve(find_scenario("default"), [f"audit.canaries={CANARIES}"], {})
        return attack(settings, planned_run(settings), lambda *_: None).audit.failures


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", SEEN, ids=lambda fault: fault.name)
def test_the_audit_of_a_run_sees_what_it_is_named_for(fault: Fault) -> None:
    assert failures(fault)
