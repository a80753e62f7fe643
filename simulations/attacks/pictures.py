"""Pictures as they stand in ``attacks.json``: bytes, as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def can_be_drawn(shape: Sequence[int]) -> bool:
    """Whether records are grey or coloured pictures, ``[channels, height, width]``."""
    return len(shape) == 3 and shape[0] in (1, 3)


def as_text(values: NDArray[np.floating], bounds: tuple[float, float]) -> str:
    """Return a picture's values as bytes from 0 to 255, in base64.

    Args:
        values: of a picture, in any shape.
        bounds: lowest and highest value; what is beyond is cut.
    """
    low, high = bounds
    levels = np.rint(np.clip((np.asarray(values) - low) / (high - low), 0.0, 1.0) * 255)
    return base64.b64encode(levels.astype(np.uint8).tobytes()).decode()
