"""The table of data sets: a name, a line for people, and the function that loads it.

A name may carry a variant after a colon ("medmnist:retinamnist").
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clients.data import breast_cancer, chest_xray
from clients.data.errors import DataError
from clients.data.records import Dataset


@dataclass(frozen=True, kw_only=True)
class Source:
    """A row of the table of data sets.

    Attributes:
        title: a line for people.
        needs: file or folder looked for in the data folder; "" when bundled.
        load: (variant, data folder) -> Dataset.
        variants: what may follow the colon; "" when nothing may.
    """

    title: str
    load: Callable[[str, str | Path | None], Dataset]
    needs: str = ""
    variants: str = ""


DATASETS: dict[str, Source] = {
    "breast-cancer": Source(title=breast_cancer.INFO.title, load=breast_cancer.load),
    "chest-xray": Source(title=chest_xray.info().title, load=chest_xray.load, needs=chest_xray.NPZ),
}


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return a data set by its name in `DATASETS`.

    Raises:
        DataError: `unknown-dataset` with the known names, or whatever is wrong with the files.
    """
    base, _, variant = name.partition(":")
    if base not in DATASETS:
        near = difflib.get_close_matches(base, DATASETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(
            f"unknown data set {name!r}{hint} Known: {', '.join(sorted(DATASETS))}",
            code="unknown-dataset",
        )
    return DATASETS[base].load(variant, data_dir)
