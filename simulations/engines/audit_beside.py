"""A run's audit, done beside its training: what a run will claim is known before it begins.

An audit needs no record and no model, only the claims. So a fork attacks them while others prepare
and train, and says what it found. It writes nothing: what the ended run claims is held here against
what was attacked, and attacked anew, here, if it is anything else.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulations.engines.forks import work_in_a_fork
from simulations.run_audit import STAGE, attack, audit_run, planned_run
from strategies.run.audited import Audited, add_audit, run_to_audit

if TYPE_CHECKING:
    from accounting.runs import RunDescription
    from clients.contract.settings import Settings
    from clients.contract.stages import Listener
    from clients.data.cohort import Outline

#: How far the audit gives way to hospitals, which a round waits for.
_NICE = 10
#: How long a fork that is waited for may say nothing; it has a round of an audit to tell of.
PATIENCE_SECONDS = 60.0


class Begun(NamedTuple):
    """There is a fork."""


class Progress(NamedTuple):
    """Rounds of an audit that are done, and of how many."""

    done: int
    total: int


class Attacked(NamedTuple):
    """What a fork attacked, and what it found."""

    settings: Settings
    run: RunDescription
    found: Audited


class AuditBeside:
    """Audits a run in a fork; in this process where there is none, or where it is lost.

    Args:
        settings: the run's.
        cohort: what is public of its data; None: no fork has it.
    """

    def __init__(self, settings: Settings, cohort: Outline | None) -> None:
        self._link: Connection | None = None
        self._told = False
        if settings.audit.enabled and cohort is not None:
            self._link = work_in_a_fork(f"{__name__}:{audit.__name__}", (settings, cohort))

    def __call__(self, path: Path, listener: Listener) -> None:
        """Add what was found to an ended run's files; arguments and errors as of `audit_run`."""
        said = self._next() if self._has_begun() else None
        while isinstance(said, Progress):
            listener(STAGE, said.done, said.total)
            said = self._next()
        self.close()
        if isinstance(said, Attacked) and (said.settings, said.run) == run_to_audit(path):
            add_audit(path, said.found)
        else:
            audit_run(path, listener)

    def _has_begun(self) -> bool:
        """Whether there is a fork; one that is not there when a run has ended is not waited for."""
        if self._link is None or not self._link.poll():
            return False
        return isinstance(self._next(), Begun)

    def _next(self) -> object:
        """Return what the fork says next; None where it is lost, or has nothing to say for long."""
        if self._link is None:
            return None
        try:
            if not self._told:
                self._link.send("what have you found?")
                self._told = True
            return self._link.recv() if self._link.poll(PATIENCE_SECONDS) else None
        except Exception:  # a fork that dies or is stuck may leave anything
            return None

    def close(self) -> None:
        """Let go of the fork, which ends."""
        if self._link is not None:
            self._link.close()
            self._link = None


def audit(link: Connection) -> None:
    """Be the fork: attack what is planned, and say what was found."""
    link.send(Begun())
    os.nice(_NICE)
    settings, cohort = link.recv()

    def listener(stage: str, done: int, total: int) -> None:
        if link.poll():  # somebody waits
            link.send(Progress(done, total))

    planned = planned_run(settings, cohort)
    link.send(Attacked(settings, planned, attack(settings, planned, listener)))
    link.recv()
