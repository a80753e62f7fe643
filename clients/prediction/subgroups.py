"""How good a model is on parts of the public holdout that a table tells apart: sex, age, a kind.

A model that is right on the whole can be wrong for some. Pictures say of nobody to which part they
belong, so there is nothing to show of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.records import DatasetInfo
from clients.prediction.explaining import input_names

#: Records that a part must have: of fewer a share says little.
LEAST_RECORDS = 20
#: A column that is cut at the middle of its public range, though it has more than two values.
AGE = "age"


def by_subgroup(
    info: DatasetInfo,
    inputs: NDArray[np.floating],
    labels: NDArray[np.int64],
    guesses: NDArray[np.int64],
) -> dict[str, dict[str, Any]]:
    """Return part -> its records, and the share of them that is right; JSON-ready.

    Parts are the kinds of a column and what is missing in it, the two sides of a column that has
    two values, and of age the halves of its public range. They overlap.

    Args:
        info: public facts of the data; of another kind than a table it has no parts.
        inputs: [n, width], public records as they were read.
        labels: [n], class numbers.
        guesses: [n], of the model.
    """
    if info.kind != "table" or inputs.shape[1:] != info.shape:
        return {}
    middle, right, found = sum(info.input_range) / 2, guesses == labels, {}
    for name, column in zip(input_names(info), inputs.T, strict=True):
        for part, chosen in _parts(name, column, middle).items():
            if chosen.sum() >= LEAST_RECORDS:
                records, share = int(chosen.sum()), float(right[chosen].mean())
                found[part] = {"records": records, "accuracy": share}
    return found


def _parts(name: str, column: NDArray[np.floating], middle: float) -> dict[str, NDArray[np.bool_]]:
    """Return the parts that an input makes, and which records are in each."""
    above = column > middle
    if " = " in name or name.endswith(" is missing"):
        return {name: above}
    if len(np.unique(column)) == 2 or name.lower() == AGE:
        return {f"{name}: lower half": ~above, f"{name}: upper half": above}
    return {}
