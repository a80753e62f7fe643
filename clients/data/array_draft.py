"""A first declaration of arrays in an npz file, drafted from the file for a person to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.arrays import Layout, class_names, identifiers_of, open_parts
from clients.data.column_draft import outwards
from clients.data.draft import Draft, in_several, run_command, toml_list, value_lines
from clients.data.errors import DataError


def draft_arrays(path: Path) -> Draft:
    """Look at the arrays of a file, and draft what could be declared of them.

    Raises:
        DataError: it cannot be read, or holds no training images.
    """
    layout, arrays = open_parts(path)
    facts = [f"{name}: {values.dtype} {list(values.shape)}" for name, values in arrays.items()]
    oddities: list[str] = []
    try:
        classes = class_names(path, [arrays[part[1]] for part in layout.values()])
    except DataError as error:
        oddities.append(str(error))
        classes = ()
    images = np.concatenate([arrays[part[0]] for part in layout.values()])
    lines = [
        f"# Drafted from {path.name}: what stands here becomes public, and is the same everywhere.",
        f"classes = {toml_list(classes)}   # in label order; names may replace numbers",
        *value_lines(_range(images, oddities), oddities),
        *_axes(images, oddities),
    ]
    patients, homes = (_named(path, layout, arrays, place, oddities) for place in (2, 3))
    if all(part[2] is None for part in layout.values()):
        oddities.append(
            "no arrays train_patient, test_patient: each image counts as a patient of its own"
        )
    if len(patients) == len(homes):
        oddities += in_several("train_patient", zip(patients, homes, strict=True))
    hospitals = len(set(homes))
    return Draft(
        roles={},
        rows=len(images),
        oddities=tuple(oddities),
        text="\n".join(lines) + "\n",
        file=path.with_suffix(".toml"),
        command=run_command(path, hospitals, _model(images.shape)),
        facts=tuple(facts),
    )


def _named(
    path: Path,
    layout: Layout,
    arrays: dict[str, NDArray[Any]],
    place: int,
    oddities: list[str],
) -> list[str]:
    """Return the patients or hospitals of all records; none where not every part names them."""
    try:
        numbers, names = identifiers_of(path, layout, arrays, place)
    except DataError as error:
        oddities.append(str(error))
        return []
    return [] if numbers is None else [names[one] for one in numbers]


def _model(shape: tuple[int, ...]) -> str:
    """Return a model for pictures or volumes; "" for the scenario's own."""
    if len(shape) == 4 and not {1, 3, 4} & {shape[1], shape[-1]}:
        return "cnn3d"
    return "scattering" if len(shape) in (3, 4) else ""


def _range(images: NDArray[Any], oddities: list[str]) -> tuple[float, float] | None:
    """Return what the numbers can be, rounded outwards; None where they need no range."""
    if images.dtype == np.uint8 or images.dtype.kind not in "iuf":
        return None
    finite = images[np.isfinite(images)] if images.dtype.kind == "f" else images
    if finite.size < images.size:
        oddities.append(f"{images.size - finite.size} values are no number: each is the middle")
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    if images.dtype.kind == "f" and low >= -1 and high <= 1:
        return None
    return outwards(low, high)


def _axes(images: NDArray[Any], oddities: list[str]) -> list[str]:
    """Return the lines that say which axis is which, where that is not plain."""
    if images.dtype.kind == "f" and images.ndim == 3:
        oddities.append(
            "floats of two axes are series unless [pictures] axes says that they are not"
        )
        return ["[pictures]", 'axes = "hw"   # leave it out for series of [time, values]']
    return []
