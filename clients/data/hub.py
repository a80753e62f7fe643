"""Image sets of the Hugging Face hub, through flwr-datasets: `hf:<dataset>` or a local folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Dataset
from clients.data.errors import DataError
from clients.data.files import Location
from clients.data.picture_files import MOST_PIXELS
from clients.data.reading_log import ReadingLog
from clients.data.records import DatasetInfo, Floats, Ints, LazyInputs, Records, dense

_PATIENT = ("patient", "patient_id", "subject", "subject_id")
_HOSPITAL = ("hospital", "site", "center", "centre")


class HubPictures:
    """Pictures of one or two splits, decoded on first use and kept as bytes."""

    def __init__(self, columns: list[Any], size: int, channels: int, log: ReadingLog) -> None:
        self._columns = columns
        self._log = log
        self._starts = np.cumsum([0, *(len(column) for column in columns)])
        self.shape = (int(self._starts[-1]), channels, size, size)
        self._pixels = np.empty(self.shape, dtype=np.uint8)
        self._decoded = np.zeros(self.shape[0], dtype=bool)
        self._unreadable = np.zeros(self.shape[0], dtype=bool)

    def read(self, rows: Ints) -> Floats:
        """Return the pictures as float32 in [0, 1]; one that cannot be read is all NaN."""
        for row in rows[~self._decoded[rows]].tolist():
            self._decoded[row] = True
            try:
                self._pixels[row] = self._decode(row)
            except Exception as error:
                # What a decoder raises for a damaged picture is anybody's guess.
                self._unreadable[row] = True
                self._log.note("not a readable picture: the record is out", f"row {row}: {error}")
        out = self._pixels[rows].astype(np.float32) / np.float32(255)
        out[self._unreadable[rows]] = np.nan
        return np.asarray(out)

    def _decode(self, row: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        image = self._columns[part][row - int(self._starts[part])]
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, at most {MOST_PIXELS}")
        size = (self.shape[3], self.shape[2])
        pixels = np.asarray(image.convert("L" if self.shape[1] == 1 else "RGB").resize(size))
        return pixels[None] if self.shape[1] == 1 else np.moveaxis(pixels, -1, 0)


def load(where: Location) -> Dataset:
    """Return `hf:<dataset>`: an image column, a class-label column and, by name, patient ids.

    Raises:
        DataError: the data set cannot be had, or has no such columns.
    """
    if not where.variant:
        raise DataError("say which: hf:<dataset>", code="unknown-dataset")
    from flwr_datasets import FederatedDataset
    from flwr_datasets.partitioner import IidPartitioner

    try:
        hub = FederatedDataset(
            dataset=where.variant,
            partitioners={"train": IidPartitioner(num_partitions=1)},
            shuffle=False,
        )
        splits = {"train": hub.load_split("train")}
        if "test" in hub._dataset:  # flwr-datasets has no public list of splits
            splits["test"] = hub.load_split("test")
    except Exception as error:
        # The hub's client raises many kinds; for a person they all mean the same.
        raise DataError(
            f"hf:{where.variant} cannot be loaded: {error}", code="missing-file"
        ) from error
    return from_splits(splits, where)


def from_splits(splits: dict[str, Any], where: Location) -> Dataset:
    """Return the Dataset of a train split and perhaps a test split of `datasets`."""
    features = splits["train"].features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise DataError(
            f"hf:{where.variant}: no image and class-label columns; it has {kinds}. "
            "Write a table as CSV and use csv:<file>",
            code="missing-column",
        )
    parts = list(splits.values())
    classes = tuple(str(name) for name in features[label].names)
    # Of a hospital's own pictures the first one may be anybody's: they are coloured by declaration.
    grey = not where.declared and parts[0][0][image].mode in ("1", "L", "I", "I;16", "F")
    columns = [part[image] for part in parts]
    store = HubPictures(columns, where.image_size, 1 if grey else 3, where.log)
    labels = np.concatenate([np.asarray(part[label], dtype=np.int64) for part in parts])
    patient = next((name for name in _PATIENT if name in kinds), None)
    hospital = next((name for name in _HOSPITAL if name in kinds), None)
    everything = Records(
        inputs=LazyInputs(store),
        labels=labels,
        patients=_numbers(parts, patient)[0] if patient else np.arange(len(labels)),
        hospitals=_numbers(parts, hospital)[0] if hospital else None,
    )
    cut = len(parts[0])
    return Dataset(
        info=DatasetInfo(
            name=f"hf:{where.variant}",
            title=f"{where.variant} of the Hugging Face hub",
            task="binary" if len(classes) == 2 else "multiclass",
            shape=store.shape[1:],
            classes=classes,
            kind="image",
            input_range=(0.0, 1.0),
            has_patient_ids=patient is not None,
            has_hospital_ids=hospital is not None,
            source=f"https://huggingface.co/datasets/{where.variant}",
        ),
        train=everything.take(slice(0, cut)),
        test=everything.take(slice(cut, None)) if len(parts) > 1 else None,
        hospital_names=_numbers(parts, hospital)[1] if hospital else (),
        log=where.log,
    )


def _numbers(parts: list[Any], column: str) -> tuple[Ints, tuple[str, ...]]:
    return dense(np.concatenate([np.asarray(part[column]).astype(str) for part in parts]))
