"""Models that left against opened sums: nothing is in a model that is not in a sum.

Plain SGD over the public constant q*N is done again, here, from the sums that were opened. A model
that differs was divided by something else, moved by something else, or holds something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate
from simulations.audit.gates import exact_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings

    Model = Mapping[str, NDArray[np.float64]]

#: How far a float32 model may be from the sums', relative to its largest value.
TOLERANCE = 1e-4


def learning_gate(
    models: Sequence[tuple[int, Model]],
    sums: Mapping[int, NDArray[np.float64]],
    settings: Settings,
    names: Sequence[str],
) -> Gate:
    """Return whether every model that left is what the opened sums make of zeros.

    Args:
        models: (the last round in it, 0 for all; tensors by name), as they left.
        sums: round -> what was opened, float64 ``[d]``.
        settings: of the run: plain SGD.
        names: of the model's parameters, in order.
    """
    scale = settings.training.learning_rate / (
        settings.training.sampling_rate * settings.data.patients
    )
    faults = [] if models else ["no model was released"]
    for last, model in models:
        after = f"the model after round {last or max(sums)}"
        rounds = [one for one in sums if not last or one <= last]
        expected = -scale * np.sum([sums[one] for one in rounds], axis=0)
        if set(model) != set(names):
            faults.append(f"{after} holds {', '.join(sorted(model))}")
            continue
        found = np.concatenate([model[name].ravel() for name in names])
        expected = expected[: len(found)]  # counts of classes may follow, which no model holds
        if not np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max():
            off = float(np.abs(found - expected).max() / np.abs(expected).max())
            faults.append(f"{after} is off by {off:.2g} of its largest value")
    return exact_gate("models that leave follow from opened sums over q*N", faults)
