"""Faults that were planted once the detectors were frozen again: what sees each, held."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulations.audit.data_audit import DataAudit, audit_data
from simulations.audit.plans import SMALL
from tests.audit.faults import AUDIT, Fault, attacked, planted
from tests.audit.fresh_faults import FRESH

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
    pytest.mark.exhaustive,
]


@pytest.mark.parametrize("fault", FRESH, ids=lambda fault: fault.name)
def test_a_fresh_fault_is_caught(quiet: Path, fault: Fault) -> None:
    named = set(fault.caught_by) - {AUDIT}

    def enough(audit: DataAudit) -> bool:
        return named <= {one.detector for one in audit.shut}

    with planted(fault):
        found = {one.detector for one in audit_data(quiet / "audit", SMALL, enough=enough).shut}
    if AUDIT in fault.caught_by:
        with planted(fault):
            assert attacked()
    assert found >= named and fault.caught_by
