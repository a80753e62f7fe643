"""How the models of an ensemble decide together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clients.tasks.evaluation import probabilities


def decide_together(logits: Sequence[NDArray[np.floating]], vote: str) -> NDArray[np.float64]:
    """Return the logits ``[n, classes]`` of an ensemble from those of its models.

    Args:
        logits: one ``[n, classes]`` a model.
        vote: "probabilities" averages them; "majority" counts each model's first choice, with one
            vote shared by all classes so that no class is impossible.
    """
    chances = np.stack([probabilities(one) for one in logits])
    classes = chances.shape[2]
    if vote == "majority":
        votes = np.eye(classes)[chances.argmax(axis=2)].sum(axis=0)
        shares = (votes + 1.0 / classes) / (len(logits) + 1.0)
    else:
        shares = chances.mean(axis=0)
    return np.asarray(np.log(np.clip(shares, 1e-15, 1.0)))
