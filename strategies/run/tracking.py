"""Where a run's progress goes: always to ``metrics.jsonl``, and to every tracker.

A tracker never stops a training and never delays it: `Background` runs one in a thread of its own,
and one that fails is dropped with a single warning, in the log and as a line of ``metrics.jsonl``
that a terminal shows; after it ``metrics.jsonl`` goes on alone::

    tracking = Tracking(folder, make_trackers(settings, folder.path))
    tracking.record("release", round=5, accuracy=0.93)
    tracking.close()
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from strategies.run.folder import RunFolder

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Receives what happens in a run, as flat records with a kind.

    Attributes:
        name: what a warning calls it.
    """

    name: str

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
        fields.setdefault("time", round(time.time(), 3))
        self._folder.record(kind, **fields)
        self.offer(kind, **fields)

    def offer(self, kind: str, **fields: Any) -> None:
        """Offer each tracker a record that the run folder has already."""
        for tracker in list(self._trackers):
            try:
                tracker.record(kind, **fields)
            except Exception as error:
                self._drop(tracker, error)

    def close(self) -> None:
        """Close every tracker that is left."""
        for tracker in list(self._trackers):
            try:
                tracker.close()
            except Exception as error:
                self._drop(tracker, error)
        self._trackers.clear()

    def _drop(self, tracker: Tracker, error: Exception) -> None:
        """Say once that a tracker has failed, and use it no more."""
        self._trackers.remove(tracker)
        text = (
            f"{tracker.name} failed ({type(error).__name__}: {_first_sentence(error)}) and is "
            "dropped; metrics.jsonl goes on"
        )
        logger.warning("%s", text, exc_info=error)
        self._folder.record("warning", message=text)


class Stages:
    """Writes how far preparations have come, at most so often.

    Args:
        tracking: where to.
        pause_seconds: between two records of one stage.
    """

    def __init__(self, tracking: Tracking, pause_seconds: float = 0.5) -> None:
        self._tracking = tracking
        self._pause = pause_seconds
        self._last = ("", 0.0)

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Take one report."""
        name, moment = self._last
        if stage == name and done < total and time.monotonic() < moment + self._pause:
            return
        self._last = (stage, time.monotonic())
        self._tracking.record("stage", stage=stage, done=done, total=total)


def refusal(settings: Settings) -> str:
    """Say why a hospital's own series may not be shown; empty where it may.

    A hospital's loss, its accuracy, the time that it took: each depends on its patients and none is
    covered by the noise on the sum, so only data that were declared public are shown one by one.
    """
    if settings.data.public:
        return ""
    reason = "noise does not cover them" if settings.regime.private else "no noise hides anything"
    return (
        "refused: the data are not public (data.public = false), a hospital's own loss, accuracy "
        f"and times depend on its patients, and {reason}"
    )


def _first_sentence(error: Exception, letters: int = 160) -> str:
    """Return the first line of what an error says, cut to a length."""
    line = next(iter(str(error).strip().splitlines()), "no reason given")
    return line if len(line) <= letters else f"{line[:letters].rstrip()} ..."
