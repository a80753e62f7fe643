"""The end of a server's app whose SuperLink was killed.

Flower notices that the process which started the app has gone, and asks the app to end; that can
hang on a lock which the interrupted call holds. What the app has done is on disk by then, so after
some time the process ends itself, whatever it hangs on.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

#: Flower's own way to end takes 5 s at most, the writing of results a few more.
PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 1.0


def end_when_orphaned(patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Have this process end soon after the one that started it, if it is ``flwr-serverapp``.

    A process of another kind, such as a simulation on a laptop, outlives its parent if it wants to.
    """
    if Path(sys.argv[0]).name != "flwr-serverapp":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        time.sleep(patience_seconds)
        # Not by logging: what hangs may hold its lock.
        os.write(2, b"the SuperLink has gone and its app did not end by itself; now it is ended\n")
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="orphan-watch").start()
