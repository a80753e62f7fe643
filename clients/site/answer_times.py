"""When an answer leaves: at once, or at the next of moments that do not depend on the work.

The time that a hospital takes to answer can tell of its patients: a larger batch takes longer. Held
until the next whole multiple of so many seconds since the epoch, an answer's moment tells only in
which of these steps it was ready.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def hold_answer(
    every: float,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Return at the next whole multiple of `every` since the epoch.

    Args:
        every: seconds; 0 returns at once.
        clock: seconds since the epoch.
        sleep: waits for so many seconds.

    Returns:
        How long it waited, in seconds: at least 0 and less than `every`.
    """
    if every <= 0:
        return 0.0
    now = clock()
    wait = math.ceil(now / every) * every - now
    # Floating point may end a hair before or a step after the moment.
    wait = min(max(wait, 0.0), every)
    if wait:
        sleep(wait)
    return wait
