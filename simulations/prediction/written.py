"""What predictions leave on disk: a table, and masks beside it where each pixel was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulations.prediction.predicting import NotPredicted, masks_file

if TYPE_CHECKING:
    from clients.prediction.answered import Answered
    from clients.prediction.predictions import Predictions


def write_table(made: Predictions | Answered, out: Path) -> None:
    """Write predictions as CSV or Parquet, whole or not at all.

    Raises:
        NotPredicted: the file's name says that it is something else.
    """
    from io import BytesIO

    import pyarrow as pa
    from pyarrow import csv, parquet

    from crypto.whole_file import write_shared
    from simulations.prediction.spreadsheet import cell

    columns, file = made.columns(), BytesIO()
    if out.suffix.lower() in (".parquet", ".pq"):
        parquet.write_table(pa.table(columns), file)
    elif out.suffix.lower() == ".csv":
        cells = {cell(name): [cell(one) for one in values] for name, values in columns.items()}
        # In quotes, a semicolon in a name begins no cell of its own where it separates them.
        csv.write_csv(pa.table(cells), file, csv.WriteOptions(quoting_style="all_valid"))
    else:
        raise NotPredicted(f"{out} is no table; expected a name that ends in .csv or .parquet")
    write_shared(out, file.getvalue())


def write_masks(made: Predictions | Answered, out: Path) -> list[Path]:
    """Write masks beside a table, where a model says the class of each pixel; return the file.

    An npz file: `masks`, uint8 [m, *space], and `rows`, the place of each in the table, from 0.
    """
    from io import BytesIO

    import numpy as np

    from clients.prediction.answered import Answered
    from clients.tasks.question import SEGMENTATION
    from crypto.whole_file import write_shared

    if not isinstance(made, Answered) or made.task.question.kind != SEGMENTATION:
        return []
    file, beside = BytesIO(), masks_file(out)
    masks = made.outputs.argmax(axis=1).astype(np.uint8)
    np.savez_compressed(file, masks=masks, rows=made.asked.rows)
    write_shared(beside, file.getvalue())
    return [beside]
