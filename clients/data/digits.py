"""Handwritten digits, 8 x 8 (1,797 pictures), bundled with scikit-learn: a small multiclass set."""

from __future__ import annotations

import numpy as np

from clients.data.dataset import Dataset
from clients.data.files import Location
from clients.data.records import DatasetInfo, LazyInputs, PixelStore, Records

INFO = DatasetInfo(
    name="digits",
    title="Handwritten digits, 8 x 8, bundled with scikit-learn",
    task="multiclass",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    kind="image",
    input_range=(0.0, 1.0),
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/80 (bundled with scikit-learn)",
)


def load(where: Location) -> Dataset:
    """Return the pictures, each its own patient."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    grey = (pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return Dataset(
        info=INFO,
        train=Records(
            inputs=LazyInputs(PixelStore(grey, channels_last=False)),
            labels=labels.astype(np.int64),
            patients=np.arange(len(labels), dtype=np.int64),
        ),
    )
