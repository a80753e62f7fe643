"""Data of one's own, read whole before a run's engines start: what is wrong is said in seconds.

A picture that cannot be read takes no part, whenever that is found. Found beforehand, it is known
before anything is spent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohorts, Records

logger = logging.getLogger(__name__)

#: Records that are read together.
_BLOCK = 64


def read_own_data(settings: Settings, console: Console, cohorts: Cohorts) -> None:
    """Read every record of a run over data of one's own; what is odd goes to the run's log.

    Args:
        settings: the run's.
        console: where progress is shown.
        cohorts: where the data are read.

    Raises:
        DataError: the data cannot be read as a whole, or not be split as asked.
    """
    from clients.data.catalogue import is_own

    if not is_own(settings.data.name):
        return
    cohort = cohorts.of(settings)
    parts = [*cohort.records.values(), cohort.holdout]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("reading data", total=sum(map(len, parts)))
        unread = 0
        for part in parts:
            for start in range(0, len(part), _BLOCK):
                block = part.take(slice(start, start + _BLOCK))
                unread += _unread(block)
                progress.advance(task, len(block))
    if unread:
        whole = sum(map(len, parts))
        text = f"{unread} of {whole} records cannot be read and take no part; run.log names them"
        logger.warning(text)
        console.print(text, highlight=False)


def _unread(records: Records) -> int:
    from clients.data.records import readable

    return len(records) - len(readable(records))
