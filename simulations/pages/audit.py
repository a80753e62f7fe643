"""The audit of a run as a page shows it: bounds beside claims, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulations.pages.wording import epsilon_text, seconds_text


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPart:
    """The part of a report about the audit.

    Attributes:
        headline: whether the run passed, and how much was tried.
        names: of the bounds.
        bounds: who, the claim, and each bound.
        caption: what the bounds take for granted.
        gates: what was measured, of what, found, expected, and the chance of it.
        gates_caption: when a gate is shut.
    """

    headline: str
    names: tuple[str, ...] = ()
    bounds: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    caption: str = ""
    gates: tuple[tuple[str, str, str, str, str], ...] = ()
    gates_caption: str = ""


def audit_part(audit: Mapping[str, Any] | None) -> AuditPart | None:
    """Return the part about an audit as `privacy.json` holds it; None where there was none."""
    if not audit:
        return None
    findings, gates = audit["findings"], audit["gates"]
    if not findings:
        return AuditPart(headline="No observer has a guarantee, so there was nothing to attack.")
    first = findings[0]["bounds"]
    return AuditPart(
        headline=_headline(audit),
        names=tuple(bound["name"] for bound in first),
        bounds=tuple(
            (
                ", ".join(one["observers"]),
                epsilon_text(one["claim"]),
                tuple(epsilon_text(bound["value"]) for bound in one["bounds"]),
            )
            for one in findings
        ),
        caption="Lower bounds on epsilon at 95%, each by itself: of the honest, one in twenty is "
        "above its claim. Assumed: "
        + "; ".join(f"{bound['name']}: {bound['assumes']}" for bound in first)
        + ".",
        gates=tuple(
            (
                gate["name"],
                gate["subject"],
                f"{gate['found']:.5g}",
                f"{gate['expected']:.5g}",
                f"{gate['chance']:.2g}",
            )
            for gate in gates
        ),
        gates_caption=f"A run fails where the chance of a finding is below {audit['error']:.2g}; "
        f"all bounds and gates together fail {audit['total_error']:g} of honest runs.",
    )


def _headline(audit: Mapping[str, Any]) -> str:
    if not audit["passed"]:
        return f"FAILED. {' '.join(f'{line}.' for line in audit['failures'])}"
    return (
        f"Passed. {audit['canaries']:,} made-up patients of one hospital, each in or out by the "
        f"toss of a coin, went through {audit['rounds']:,} rounds of sampling, clipping, noise and "
        f"grid, {audit['sealed_rounds']:,} of them through sealing and opening as well "
        f"({seconds_text(audit['seconds'])} of processor time)."
    )
