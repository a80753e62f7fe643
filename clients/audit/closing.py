"""A real hospital's own audit of a training that closes, where its `site.toml` asks for one.

It is carried out in the hospital's own process, on the terms that it has derived itself, and says
nothing to anybody else: what was found is in the hospital's own folder and log.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clients.audit.conduct import carry_out
from clients.contract.description import describe_run
from clients.contract.kinds import Kind
from clients.contract.schedule import cycles_of
from clients.contract.setting_tree import Audit as AuditSettings
from clients.contract.terms import hospitals_expected

if TYPE_CHECKING:
    from accounting.audit_findings import Audit
    from clients.contract.settings import Settings
    from clients.site.door import Request
    from clients.site.hospital import Hospital


def audit_at_close(kind: Kind, request: Request, hospital: Hospital) -> None:
    """Audit a training once, when this hospital has answered the last message of it.

    It never raises: the answer that is on its way must not depend on it.
    """
    settings, name = hospital.run_settings, f"audit-{hospital.training}.json"
    if not _closes(kind, getattr(request, "round", 0), settings):
        return
    try:
        if hospital.site.read_secret(name) is not None:
            return
        run = describe_run(
            settings,
            noise_multiplier=hospital.membership().noise_multiplier,
            spent=hospital.book.spent(hospital.training),
            grid=hospital.session().terms.grid,
        )
        # How large it is, no run says: of few canaries little is shown.
        own = settings.model_copy(update={"audit": AuditSettings()})
        audit, plan = carry_out(own, run)
        found = {"training": hospital.training, "canaries": plan.canaries[1], **audit.to_json()}
        hospital.site.write_secret(name, json.dumps(found, indent=2).encode() + b"\n")
        hospital.site.log(f"audit of training {hospital.training}: {_text(audit)}; see {name}")
    except Exception as error:
        hospital.site.log_exception(error)


def _closes(kind: Kind, round: int, settings: Settings) -> bool:
    """Whether a message is the last that a training has for a hospital."""
    if kind is Kind.VISIT:
        return (round - 1) // hospitals_expected(settings) + 1 == cycles_of(settings)
    return kind is Kind.CONFIRM


def _text(audit: Audit) -> str:
    if not audit.findings:
        return "no observer has a guarantee, so there is nothing to attack"
    if not audit.passed:
        return f"FAILED, take part in no other training before it is understood: {audit.failures}"
    shown = [
        f"{', '.join(one.observers)}: claimed {one.claim:.3g}, shown {one.bounds[0].value:.3g}"
        for one in audit.findings
    ]
    return f"passed; epsilon {'; '.join(shown)}"
