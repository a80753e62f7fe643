"""Trackers of a run whose server is another process: fed here, with what that one writes down.

Whoever leads a training in a process of its own has closed its trackers before the run is attacked.
So they are kept in this process, read the run's events as they come, and learn of the end when it
has come, with what the audit has found.

    with tracked(settings) as app_settings:
        ...                     # a process trains with these, into the same folder
        audit_run(...)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accounting.errors import AuditFailed
from strategies.run.events import follow, read_events
from strategies.run.folder import RunFolder
from strategies.run.trackers import make_trackers
from strategies.run.tracking import Tracking

if TYPE_CHECKING:
    from clients.contract.settings import Settings


@contextmanager
def tracked(settings: Settings) -> Iterator[Settings]:
    """Feed this process's trackers for as long as the block runs.

    Args:
        settings: of the run, with ``run.out`` set.

    Yields:
        Settings for the process that trains, without trackers.

    Raises:
        AuditFailed: from the block; it is the run's end then.
    """
    folder = RunFolder.open(settings)
    tracking = Tracking(folder, make_trackers(settings, folder.path))
    over = threading.Event()
    feeder = _Feeder(tracking, folder.path, over)
    feeder.start()
    try:
        yield settings.with_config({"tracking.wandb": "disabled"})
    except AuditFailed as failed:
        folder.record("end", status="failed", message=str(failed))
        raise
    finally:
        over.set()
        feeder.join()
        tracking.offer("end", **feeder.end)
        tracking.close()


class _Feeder(threading.Thread):
    """Offers trackers a run's events from now on, but for its end.

    Args:
        tracking: with the trackers.
        path: of the run folder.
        over: set when nothing more is written.
    """

    def __init__(self, tracking: Tracking, path: Path, over: threading.Event) -> None:
        super().__init__(name="tracking of another process", daemon=True)
        self._tracking = tracking
        self._path = path
        self._over = over
        self._known = sum(1 for _ in read_events(path))
        #: The fields of the last end that was written.
        self.end: dict[str, Any] = {"status": "interrupted"}

    def run(self) -> None:
        """Follow the events; those from before, of a run that is resumed, are known."""
        events = (event for event in follow(self._path, until=self._over) if event is not None)
        for number, event in enumerate(events):
            fields = dict(event)
            kind = fields.pop("kind")
            if number < self._known:
                continue
            if kind == "end":
                self.end = fields
            else:
                self._tracking.offer(kind, **fields)
