"""Wisconsin breast cancer: 569 real patients, bundled with scikit-learn, so it needs no file.

The thirty features are positive and long-tailed. They are scaled by the ranges that the data set's
own public description prints (scikit-learn's copy of the UCI text), on a square-root axis chosen
once: nothing is fitted to the rows.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.files import Location
from clients.data.records import DatasetInfo, Records

# Lowest and highest value of each feature, as printed in the description: mean, standard error,
# worst of radius, texture, perimeter, area, smoothness, compactness, concavity, concave points,
# symmetry, fractal dimension.
_LOW = (
    *(6.981, 9.71, 43.79, 143.5, 0.053, 0.019, 0.0, 0.0, 0.106, 0.05),
    *(0.112, 0.36, 0.757, 6.802, 0.002, 0.002, 0.0, 0.0, 0.008, 0.001),
    *(7.93, 12.02, 50.41, 185.2, 0.071, 0.027, 0.0, 0.0, 0.156, 0.055),
)
_HIGH = (
    *(28.11, 39.28, 188.5, 2501.0, 0.163, 0.345, 0.427, 0.201, 0.304, 0.097),
    *(2.873, 4.885, 21.98, 542.2, 0.031, 0.135, 0.396, 0.053, 0.079, 0.03),
    *(36.04, 49.54, 251.2, 4254.0, 0.223, 1.058, 1.252, 0.291, 0.664, 0.208),
)

INFO = DatasetInfo(
    name="breast-cancer",
    title="Wisconsin breast cancer (diagnostic), bundled with scikit-learn",
    task="binary",
    shape=(30,),
    classes=("malignant", "benign"),
    one_record_each=True,
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/17 (bundled with scikit-learn)",
)


def scale(features: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map each feature to [-1, 1] by its published range: square root, then a straight line."""
    low, high = np.sqrt(np.asarray(_LOW)), np.sqrt(np.asarray(_HIGH))
    shares = (np.sqrt(np.maximum(features, 0.0)) - low) / (high - low)
    return np.asarray(np.clip(2 * shares - 1, -1.0, 1.0), dtype=np.float32)


#: What a table of such patients has: columns of measurements, and of what it was.
COLUMNS = tuple(
    f"{prefix}{name}{suffix}"
    for prefix, suffix in (("mean ", ""), ("", " error"), ("worst ", ""))
    for name in (
        *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity"),
        *("concave points", "symmetry", "fractal dimension"),
    )
)
TARGET = "diagnosis"


def _bundled() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read scikit-learn's copy without importing scikit-learn, which takes longer than the rest.

    Raises:
        DataError: `missing-file` where scikit-learn is not installed, or has no such file.
    """
    spec = find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    file = Path(*(folders or [""])[:1], "datasets", "data", "breast_cancer.csv")
    try:
        rows = np.loadtxt(file, delimiter=",", skiprows=1, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: scikit-learn brings this data set, install it anew",
            code="missing-file",
        ) from error
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def load(where: Location) -> Dataset:
    """Return the 569 patients, one row each."""
    features, labels = _bundled()
    return Dataset(
        info=INFO,
        train=Records(
            inputs=scale(features),
            labels=labels,
            patients=np.arange(len(labels), dtype=np.int64),
        ),
    )
