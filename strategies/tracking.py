"""Where a run's progress goes: always to ``metrics.jsonl``, and to whoever else listens.

A tracker never stops a training and never delays it: `Background` runs one in a thread of its own,
and one that fails is dropped with a single warning, in the log and as a line of ``metrics.jsonl``
that a terminal shows; after it ``metrics.jsonl`` goes on alone::

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


class TrackerFailed(Exception):
    """A tracker gave up, or did not end in time."""


class Background:
    """Runs a tracker in a thread of its own, so that nobody waits for its imports or its disk.

    What goes wrong in the thread is raised at the next record, or at the end.

    Args:
        name: what a warning calls it.
        make: makes the tracker, in the thread.
        close_seconds: how long `close` waits for it.
    """

    def __init__(
        self, name: str, make: Callable[[], Tracker], *, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        self.name = name
        self._make = make
        self._close_seconds = close_seconds
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def record(self, kind: str, **fields: Any) -> None:
        """Leave a record for the thread.

        Raises:
            Exception: whatever has ended the thread.
        """
        if self._failure is not None:
            raise self._failure
        self._queue.put((kind, fields))

    def close(self) -> None:
        """Wait until everything is written, but not for ever.

        Raises:
            TrackerFailed: it is not done in time, and left alone.
            Exception: whatever has ended the thread.
        """
        self._queue.put(None)
        self._thread.join(self._close_seconds)
        if self._thread.is_alive():
            raise TrackerFailed(f"it is not done after {self._close_seconds:g} s and is left alone")
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (item := self._queue.get()) is not None:
                tracker.record(item[0], **item[1])
            tracker.close()
        except Exception as error:
            self._failure = error
        except SystemExit as error:  # a library that ends the process ends its own thread only
            self._failure = TrackerFailed(f"it wanted to end the process with {error.code}")


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


def _first_sentence(error: Exception, letters: int = 160) -> str:
    """Return the first line of what an error says, cut to a length."""
    line = next(iter(str(error).strip().splitlines()), "no reason given")
    return line if len(line) <= letters else f"{line[:letters].rstrip()} ..."
