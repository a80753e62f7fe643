"""What a browser computes scattering features by: public constants, the same for everybody.

They come from the agent's own program, not from the provider, and depend on the size of the
pictures alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clients.data.records import DatasetInfo
from clients.models.features import Features, features_for
from clients.models.scattering import ANGLES

#: Features that `feature_script.py` computes.
IN_BROWSERS = ("scattering",)
#: Pixels a side that they need.
LEAST_SIDE = 16


def browser_features(info: DatasetInfo) -> Features:
    """Return the features of pictures, as training computes them."""
    return features_for(info.shape)


def layout(made: Features) -> dict[str, Any]:
    """Return the sizes that a browser has to know, JSON-ready."""
    transform = made.transform
    return {
        "angles": ANGLES,
        "scales": transform.scales,
        "size": transform.size[0],
        "before": transform.room[0],
        "out": transform.shape[1],
        "maps": transform.shape[0],
        "pool": made.pool,
        "width": made.width,
    }


def constants(made: Features) -> bytes:
    """Return all constants, float32 little-endian, in the order in which the script takes them.

    Filters of the first order, finest first, [angles, size, size] each; of the second, at half the
    size of what the second coarsest scale leaves; a blur for each scale; mean; whitening matrix.
    Pictures are square, so that rows are blurred as columns are.
    """
    transform = made.transform
    parts = [*transform.first, transform.second, *transform.rows, made.mean, made.whitener]
    return b"".join(np.ascontiguousarray(part.numpy(), dtype="<f4").tobytes() for part in parts)
