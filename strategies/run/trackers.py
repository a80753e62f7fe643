"""The trackers that settings can ask for, each in a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients.contract.settings import Settings
from strategies.run.tracking import Tracker

#: Ways to use Weights & Biases, the quietest first; and words that it had for them.
_MODES = ("disabled", "offline", "online")
_OLD_WORDS = {"dryrun": "offline", "run": "online"}
#: How long the end of a run waits for a tracker, in seconds.
CLOSE_SECONDS = 60.0


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


def make_trackers(settings: Settings, folder: Path) -> list[Tracker]:
    """Return the trackers that the settings ask for, beside ``metrics.jsonl``.

    Args:
        settings: reads ``tracking.wandb``.
        folder: the run folder.
    """
    settings = settings.with_config({"tracking.wandb": wandb_mode(settings.tracking.wandb)})
    if settings.tracking.wandb == "disabled":
        return []

    def make_wandb() -> Tracker:
        from strategies.run.wandb_tracker import WandbTracker

        return WandbTracker(settings, folder)

    return [Background("Weights & Biases", make_wandb)]


def wandb_mode(asked: str) -> str:
    """Return how Weights & Biases is used: as asked, or less where the environment wants less.

    ``WANDB_MODE`` never turns the network on: it may be set for other work on the machine, and what
    a run shows of patients' data is decided where its settings are.

    Args:
        asked: as the settings have it.
    """
    here = os.environ.get("WANDB_MODE", "").lower()
    if os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true"):
        here = "disabled"
    wanted = _OLD_WORDS.get(here, here)
    return min(asked, wanted, key=_MODES.index) if wanted in _MODES else asked
