"""What an audit with canary patients found, as tables for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from simulations.audit.claims import claims_to_json
from simulations.audit.gates import TOTAL_ERROR
from simulations.pages.tables import plain_table
from simulations.pages.wording import epsilon_text

if TYPE_CHECKING:
    from rich.table import Table

    from simulations.audit.data_audit import DataAudit, Found


class DataAuditFailed(Exception):
    """A gate of an audit with canary patients does not hold: no honest run looks like this."""


def sentence(found: Found) -> str:
    """Say what a gate found."""
    gate = found.gate
    where = f" ({gate.subject})" if gate.subject else ""
    if not gate.expected and gate.chance in (0.0, 1.0):
        return f"{found.training}: {gate.name}: {gate.subject or 'holds'}"
    return (
        f"{found.training}: {gate.name}{where}: found {gate.found:.4g}, expected "
        f"{gate.expected:.4g}, which has a chance of {gate.chance:.1g}"
    )


def require_passed(audit: DataAudit) -> None:
    """Insist that every gate holds.

    Raises:
        DataAuditFailed: one does not; the message says which and what was found.
    """
    if audit.shut:
        said = "; ".join(sentence(one) for one in audit.shut[:5])
        more = len(audit.shut) - 5
        raise DataAuditFailed(
            f"{len(audit.shut)} of {len(audit.found)} gates do not hold, at a total error of "
            f"{TOTAL_ERROR:g}: {said}" + (f"; and {more} more" if more > 0 else "")
        )


def tables_of(audit: DataAudit) -> list[Table]:
    """Return what was measured in each training, and claims beside what observers proved."""
    trainings: dict[tuple[str, str], list[Found]] = {}
    for one in audit.found:
        trainings.setdefault((one.detector, one.training), []).append(one)
    shut = {id(one) for one in audit.shut}
    rows = []
    for (detector, training), gates in trainings.items():
        wrong = sum(id(one) in shut for one in gates)
        rows.append((training, detector, str(len(gates)), str(wrong) if wrong else "all hold"))
    claims = [
        (
            claim.observer,
            epsilon_text(claim.claimed),
            *(epsilon_text(bound.value) for bound in claim.bounds),
        )
        for claim in audit.claims
    ]
    return [
        plain_table(
            f"{audit.canaries:,} canary patients: what left the hospitals",
            ("training", "detector", "gates#", "shut"),
            rows,
        ),
        plain_table(
            "Epsilon claimed, and proved by guessing coins (at least, 95%)",
            ("observer", "claim#", "one run#", "Gaussian#", "in the family#"),
            claims,
        ),
    ]


def to_json(audit: DataAudit) -> Mapping[str, object]:
    """Return everything, JSON-ready."""
    return {
        "passed": not audit.shut,
        "canaries": audit.canaries,
        "total_error": TOTAL_ERROR,
        "claims": claims_to_json(audit.claims),
        "gates": [
            {"detector": one.detector, "training": one.training, **asdict(one.gate)}
            for one in audit.found
        ],
        "failures": [sentence(one) for one in audit.shut],
    }


def show(audit: DataAudit, write: Callable[[Table], object]) -> None:
    """Hand each table to what prints it."""
    for table in tables_of(audit):
        write(table)
