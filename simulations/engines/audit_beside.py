"""A run's audit, done beside its training: what a run will claim is known before it begins.

An audit needs no record and no model, only the claims. So a fork attacks them while others prepare
and train, and waits for the end: what the ended run claims is held against what was attacked, and
attacked anew if it is anything else.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from accounting.errors import AuditFailed
from simulations.engines.forks import work_in_a_fork
from simulations.run_audit import STAGE, attack, audit_run, planned_run
from strategies.run.audited import add_audit, run_to_audit

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.contract.stages import Listener
    from clients.data.cohort import Outline


#: How far the audit gives way to hospitals, which a round waits for.
_NICE = 10


class AuditBeside:
    """Audits a run in a fork; in this process where there is none, or where it is lost.

    Args:
        settings: the run's.
        cohort: what is public of its data; None: no fork has it.
    """

    def __init__(self, settings: Settings, cohort: Outline | None) -> None:
        self._link: Connection | None = None
        if settings.audit.enabled and cohort is not None:
            self._link = work_in_a_fork(f"{__name__}:{audit.__name__}", (settings, cohort))

    def __call__(self, path: Path, listener: Listener) -> None:
        """Add what was found to an ended run's files; arguments and errors as of `audit_run`."""
        said: object = ()
        if self._link is not None:
            try:
                self._link.send(path.resolve())
                while isinstance(said := self._link.recv(), tuple):
                    listener(STAGE, *said)
            except (EOFError, OSError):
                said = ()
        if isinstance(said, AuditFailed):
            raise said
        if said is not None:
            audit_run(path, listener)

    def close(self) -> None:
        """Let go of the fork, which ends."""
        if self._link is not None:
            self._link.close()


def audit(link: Connection) -> None:
    """Be the fork: attack what is planned, then add what was found to the run that has ended."""
    os.nice(_NICE)
    settings, cohort = link.recv()

    def tell(stage: str, done: int, total: int) -> None:
        link.send((done, total))

    def tell_who_waits(stage: str, done: int, total: int) -> None:
        # The training has ended, or the process that leads it: then this one ends.
        if link.poll():
            tell(stage, done, total)

    planned = planned_run(settings, cohort)
    found = attack(settings, planned, tell_who_waits)
    path = link.recv()
    if (ended := run_to_audit(path)) != (settings, planned):
        found = attack(*ended, tell)
    failed = None
    try:
        add_audit(path, found)
    except AuditFailed as error:
        failed = error
    link.send(failed)
