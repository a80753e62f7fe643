"""The audit that comes with every simulated run: its claims held against an attack on them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from strategies.run.audited import Audited, add_audit, run_to_audit

if TYPE_CHECKING:
    from accounting.runs import RunDescription
    from clients.contract.settings import Settings
    from clients.contract.stages import Listener
    from clients.data.cohort import Outline

STAGE = "attacking what was promised"


def audit_run(path: Path, listener: Listener) -> None:
    """Attack an ended run's claims with made-up patients and add what was found to its files.

    Args:
        path: the run folder.
        listener: told how many rounds are done.

    Raises:
        AuditFailed: something was found that cannot be chance; the run's files say what.
        NoRun: the folder holds no run that has ended.
    """
    settings, run = run_to_audit(path)
    add_audit(path, attack(settings, run, listener))


def attack(settings: Settings, run: RunDescription, listener: Listener) -> Audited:
    """Attack the claims of a run, or of one that is planned."""
    from clients.audit.conduct import carry_out

    started = time.process_time()
    audit, plan = carry_out(
        settings, run, progress=lambda done, total: listener(STAGE, done, total)
    )
    return Audited(
        audit=audit,
        canaries=plan.canaries.get(1, 0) if audit.findings else 0,
        rounds=plan.rounds,
        sealed_rounds=sum(plan.seals(number) for number in range(1, plan.rounds + 1)),
        seconds=time.process_time() - started,
    )


def planned_run(settings: Settings, cohort: Outline | None = None) -> RunDescription:
    """Return what a run of these settings would claim.

    Args:
        settings: the run's.
        cohort: what is public of its data; None: it is read from them.
    """
    from clients.contract.description import describe_run
    from clients.contract.schedule import schedule_of
    from clients.data import Cohorts
    from clients.site.session import make_session
    from strategies.run.budget import calibrated_multiplier

    sigma = calibrated_multiplier(settings) if settings.regime.private else 0.0
    cohort = cohort or Cohorts().of(settings).outline
    session = make_session(settings, cohort, "planned", sigma)
    return describe_run(
        settings,
        noise_multiplier=sigma,
        spent=schedule_of(settings).events,
        grid=session.terms.grid,
    )
