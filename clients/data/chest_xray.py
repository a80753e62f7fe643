"""Chest X-rays of children, normal or pneumonia (Kermany et al. 2018), grouped by real patients.

Read from `kermany_cxr_64.npz` (64 x 64 grey, with patient ids) in the data folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.data.files import find, flat_labels, open_npz
from clients.data.records import Dataset, DatasetInfo, LazyInputs, PixelStore, Records, dense

NPZ = "kermany_cxr_64.npz"
_SOURCE = "https://data.mendeley.com/datasets/rscbjbr9sj/2 (reduced to 64 x 64)"
_CLASSES = ("normal", "pneumonia")


def info(shape: tuple[int, ...] = (1, 64, 64)) -> DatasetInfo:
    """Return the public facts for pictures of the given shape."""
    return DatasetInfo(
        name="chest-xray",
        title="Chest X-rays, normal or pneumonia, grouped by patient",
        task="binary",
        shape=shape,
        classes=_CLASSES,
        kind="image",
        input_range=(0.0, 1.0),
        has_patient_ids=True,
        licence="CC BY 4.0",
        source=_SOURCE,
        files=((NPZ, ""),),
    )


def load(variant: str, data_dir: str | Path | None) -> Dataset:
    """Return the training and the official test pictures."""
    path = find(data_dir, [NPZ], source=_SOURCE)
    parts = ("train", "test")
    keys = [f"{part}_{what}" for part in parts for what in ("images", "labels", "patient")]
    arrays = open_npz(path, keys)
    store = PixelStore(
        np.concatenate([arrays["train_images"], arrays["test_images"]]), channels_last=False
    )
    labels = np.concatenate(
        [flat_labels(path, f"{p}_labels", arrays[f"{p}_labels"], len(_CLASSES)) for p in parts]
    )
    patients, _ = dense(np.concatenate([arrays[f"{p}_patient"] for p in parts]))
    everything = Records(inputs=LazyInputs(store), labels=labels, patients=patients)
    cut = len(arrays["train_labels"])
    return Dataset(
        info=info(store.shape[1:]),
        train=everything.take(slice(0, cut)),
        test=everything.take(slice(cut, None)),
    )
