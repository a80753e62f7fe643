"""Where a run's progress goes: always to ``metrics.jsonl``, and to whoever else listens.

A tracker never stops a training: one that fails is dropped with a single warning.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from strategies.run_folder import RunFolder

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Receives what happens in a run, as flat records with a kind."""

    def record(self, kind: str, **fields: Any) -> None:
        """Take one record; kinds and fields are those of ``metrics.jsonl``."""
        ...

    def close(self) -> None:
        """Finish; nothing follows."""
        ...


class Tracking:
    """Fans records out to the run folder and to further trackers."""

    def __init__(self, folder: RunFolder, trackers: Sequence[Tracker] = ()) -> None:
        self._folder = folder
        self._trackers = list(trackers)

    def record(self, kind: str, **fields: Any) -> None:
        """Write the record to the run folder, then offer it to each tracker."""
        self._folder.record(kind, **fields)
        for tracker in list(self._trackers):
            try:
                tracker.record(kind, **fields)
            except Exception:
                logger.warning(
                    "%s failed and is dropped; metrics.jsonl goes on",
                    type(tracker).__name__,
                    exc_info=True,
                )
                self._trackers.remove(tracker)

    def close(self) -> None:
        """Close every tracker that is left."""
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception:
                logger.warning("%s did not close", type(tracker).__name__, exc_info=True)
