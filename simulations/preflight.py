"""What is looked at before anything starts: what is wrong with a run is said in a moment.

Engines take seconds to start, and processes of hospitals tell a server no more than a code. So
whatever this machine can know beforehand is known here: files, columns, the split, the noise that a
target needs, and the grid that the noise allows. Nothing here needs Ray; a named GPU is
looked for by torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounting.errors import AccountingError
from clients.data.errors import DataError
from clients.tasks.catalogue import TaskError, imported, name_of, task_of
from crypto.errors import SealingError
from simulations.error_messages import NotStarted

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohorts

#: Fewest values that a model can have: what no model's grid allows, none of this run's does.
_FEWEST_VALUES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What looking at a run beforehand has brought.

    Attributes:
        cohorts: its data, which need not be read again.
        said: what was logged meanwhile, for the log of the run.
    """

    cohorts: Cohorts
    said: Sequence[logging.LogRecord]


def check_run(settings: Settings, *, ray_address: str = "") -> Checked:
    """Insist on all that a run needs of this machine and of its data.

    Args:
        settings: the run's.
        ray_address: of a cluster that is to be joined; "": none.

    Raises:
        NotStarted: something is missing; the message says what, and what to do.
    """
    from clients.data import Cohorts
    from simulations.engines.device_room import device_here
    from simulations.engines.importing import importing
    from simulations.engines.ray_cluster import check_folder, find_cluster

    check_folder()
    if ray_address:
        find_cluster(ray_address)
    elif settings.run.device.startswith("cuda"):
        device_here(settings.run.device)
    cohorts = Cohorts()
    with log_kept() as said, importing():  # of the libraries that deal patients
        fault = fault_of(settings, cohorts)
    if fault:
        raise NotStarted(fault)
    return Checked(cohorts=cohorts, said=said)


class _Kept(logging.Handler):
    """Keeps records until there is a log to write them to."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@contextmanager
def log_kept() -> Iterator[list[logging.LogRecord]]:
    """Keep what is logged inside the block from the terminal."""
    root, kept = logging.getLogger(), _Kept()
    before = root.handlers[:], root.level
    root.handlers = [kept]
    root.setLevel(logging.INFO)
    try:
        yield kept.records
    finally:
        root.handlers, root.level = before


def fault_of(settings: Settings, cohorts: Cohorts) -> str:
    """Return what makes a training impossible, as a sentence; "" where nothing known does.

    Args:
        settings: the training's.
        cohorts: where its data are read.
    """
    try:
        cohort = cohorts.of(settings)
        patients = settings.data.patients or cohort.patients
        largest = settings.data.largest_hospital or max(cohort.patients_by_hospital.values())
        if imported(name_of(cohort.info.question)):
            task_of(cohort.info.question)
    except (DataError, TaskError) as error:
        return str(error)
    return _noise_fault(settings, patients, largest) if settings.regime.private else ""


def classes_fault(settings: Settings, cohorts: Cohorts, what: str) -> str:
    """Return why something that judges by classes cannot be done; "" where it can.

    Args:
        settings: of a training.
        cohorts: where its data are read.
        what: is to be done, with a verb.
    """
    question = cohorts.of(settings).info.question
    if question.of_classes:
        return ""
    return (
        f"{what} one class of several, by accuracy; {settings.data.name} is learnt by the task "
        f"{name_of(question)}. 'flower-simulation run' and 'predict' are for all tasks"
    )


def _noise_fault(settings: Settings, patients: int, largest_hospital: int) -> str:
    """Return why no noise meets the target, or why values with so little cannot be sealed."""
    from clients.contract.terms import agree_terms

    privacy = settings.privacy
    try:
        noise_multiplier = _least_noise(settings)
    except AccountingError as error:
        return f"privacy.target-epsilon = {privacy.target_epsilon:g} cannot be met: {error}"
    try:
        agree_terms(
            settings,
            training="unnamed",
            dimensions=_FEWEST_VALUES,
            patients=patients,
            largest_hospital=largest_hospital,
            noise_multiplier=noise_multiplier,
        )
    except (AccountingError, SealingError) as error:
        return str(error)
    return ""


def _least_noise(settings: Settings) -> float:
    """Return noise that meets the target, by the quick accountant.

    It is where the search by the other one starts, which takes seconds and is left to the run.

    Raises:
        AccountingError: no noise meets the target, or the other one cannot tell.
    """
    from accounting.events import GaussianEvent
    from accounting.grid import DELTA_SLACK
    from accounting.prv import check_mesh
    from clients.contract.schedule import permitted_events, schedule_of
    from strategies.run.budget import calibrated_multiplier

    if settings.privacy.accountant == "rdp" or not settings.privacy.target_epsilon:
        return calibrated_multiplier(settings)
    try:
        found = calibrated_multiplier(settings.with_config({"privacy.accountant": "rdp"}))
    except AccountingError:  # a target that is too small for it alone
        return calibrated_multiplier(settings)
    event = GaussianEvent(
        sampling_rate=schedule_of(settings).sampling_rate,
        noise_multiplier=found,
        count=permitted_events(settings),
    )
    check_mesh(event, settings.privacy.delta * (1.0 - DELTA_SLACK))
    return found
