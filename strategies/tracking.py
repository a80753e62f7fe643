"""Where a run's progress goes: always to ``metrics.jsonl``, and to whoever else listens.

A tracker never stops a training and never delays it: `Background` runs one in a thread of its own,
and one that fails is dropped with a single warning, after which ``metrics.jsonl`` goes on alone::

    tracking = Tracking(folder, make_trackers(settings, folder.path))
    tracking.record("release", round=5, accuracy=0.93)
    tracking.close()
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from clients.settings import Settings
    from strategies.run_folder import RunFolder

logger = logging.getLogger(__name__)

#: How long the end of a run waits for a tracker, in seconds.
CLOSE_SECONDS = 60.0


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
        fields.setdefault("time", round(time.time(), 3))
        self._folder.record(kind, **fields)
        for tracker in list(self._trackers):
            try:
                tracker.record(kind, **fields)
            except Exception as error:
                _warn(type(tracker).__name__, error)
                self._trackers.remove(tracker)

    def close(self) -> None:
        """Close every tracker that is left."""
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                _warn(type(tracker).__name__, error)
        self._trackers.clear()


class Background:
    """Runs a tracker in a thread of its own, so that nobody waits for its imports or its disk.

    Args:
        name: what a warning calls it.
        make: makes the tracker, in the thread.
        close_seconds: how long `close` waits for it.
    """

    def __init__(
        self, name: str, make: Callable[[], Tracker], *, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        self._name = name
        self._make = make
        self._close_seconds = close_seconds
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def record(self, kind: str, **fields: Any) -> None:
        """Leave a record for the thread; one that has failed takes no more."""
        if not self._dropped.is_set():
            self._queue.put((kind, fields))

    def close(self) -> None:
        """Wait until everything is written, but not for ever."""
        self._queue.put(None)
        self._thread.join(self._close_seconds)
        if self._thread.is_alive():
            self._dropped.set()
            logger.warning(
                "%s is not done after %g s and is left alone; metrics.jsonl holds everything",
                self._name,
                self._close_seconds,
            )

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (item := self._queue.get()) is not None:
                tracker.record(item[0], **item[1])
            tracker.close()
        except (Exception, SystemExit) as error:
            self._dropped.set()
            _warn(self._name, error)


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


def make_trackers(settings: Settings, folder: Path) -> list[Tracker]:
    """Return the trackers that the settings ask for, beside ``metrics.jsonl``.

    Args:
        settings: reads ``tracking.wandb``.
        folder: the run folder.
    """
    if settings.tracking.wandb == "disabled":
        return []

    def make_wandb() -> Tracker:
        from strategies.wandb_tracker import WandbTracker

        return WandbTracker(settings, folder)

    return [Background("Weights & Biases", make_wandb)]


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


def _warn(name: str, error: BaseException) -> None:
    logger.warning(
        "%s failed (%s) and is dropped; metrics.jsonl goes on",
        name,
        type(error).__name__,
        exc_info=error,
    )
