"""Temperature: one number that makes a model as sure as it is right.

Probabilities are the softmax of logits / T, with the T that public labelled records make most
likely (Guo et al. 2017, "On calibration of modern neural networks"). It changes no prediction and
no order among classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.tasks.evaluation import probabilities

#: Where T is looked for: wider than any model that learnt something needs.
LOWEST, HIGHEST = 0.02, 50.0


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the temperature under which the labels are most likely.

    Args:
        logits: [n, classes].
        labels: [n], class numbers.

    Returns:
        T > 0, within `LOWEST` and `HIGHEST`; 1 for no records.
    """
    from scipy.optimize import minimize_scalar

    truth = np.asarray(labels, dtype=np.int64)
    if truth.size == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        chances = probabilities(np.asarray(logits) / np.exp(log_temperature))
        likelihood = chances[np.arange(len(truth)), truth]
        return float(-np.log(np.clip(likelihood, 1e-15, 1.0)).mean())

    bounds = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    # Where the search ends no better than it began, the model is left as it is.
    return float(np.exp(found.x)) if loss(found.x) < loss(0.0) else 1.0
