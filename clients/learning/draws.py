"""What chance decides at a hospital in one attempt: who is in a batch, and the noise.

An exchange asks for batches and hands back clipped sums; it never sees a generator, so it can
neither sample twice from one stream nor forget the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clients.contract.phases import Phases
    from clients.learning.batch import Batch
    from clients.learning.dp_sgd import GradientSum


@dataclass(frozen=True, kw_only=True)
class Draws:
    """A hospital's draws in one attempt; each takes the number of the step, from 0.

    Attributes:
        batch: draws each patient with the sampling rate, anew for every step.
        noised: a clipped sum -> the same with this hospital's noise, float64 ``[d]``, on the grid.
            One event of the noise plan a call, paid for before the attempt began.
        patients: N_k as declared; public. Zero where a hospital declares none.
        phases: where the seconds of the attempt are counted.
    """

    batch: Callable[[int], Batch]
    noised: Callable[[GradientSum, int], NDArray[np.float64]]
    patients: float
    phases: Phases
