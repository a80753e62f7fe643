"""Arrays to predict, in an npz file: `images`, and `labels` where they are told.

The names of a training's own file serve as well: `test_images`, `test_labels`. What is declared
beside the file, as for a training, says which axis is which and what the numbers can be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.array_values import values_store
from clients.data.declaration import Declaration, read_declaration
from clients.data.declared_parts import Pictures
from clients.data.dialect import identifier, says_nothing
from clients.data.errors import DataError
from clients.data.files import Location, label_numbers, npz_keys, open_npz
from clients.data.public_facts import declaration_of
from clients.data.records import DatasetInfo, LazyInputs
from clients.data.targets import masks_of_arrays, targets_of_arrays
from clients.prediction.asked import Asked, RowNotes, patient_numbers
from clients.prediction.asked_tables import NOTHING, check_same
from clients.tasks.question import OF_CLASSES, SEGMENTATION

#: What an array of records is called, and what that of their labels or masks then is.
_NAMES = {"images": "labels", "x": "y"}


def ask_arrays(
    path: Path, info: DatasetInfo, log: RowNotes, declaration: Path | None = None
) -> Asked:
    """Return the records of an npz file.

    Args:
        path: of the file.
        info: public facts of what the model was trained on.
        log: where what could not be read is counted.
        declaration: file that says what they are like; None for the one beside, if there is one.

    Raises:
        DataError: the file cannot be read, holds no such arrays, or arrays of another shape.
    """
    parts = _parts(path, _target_name(info))
    arrays = open_npz(path, [name for part in parts for name in part if name])
    first = arrays[parts[0][0]]
    declared = _declared(declaration or path.with_suffix(".toml"), info, first, declaration is None)
    where = Location(declared=True, log=log)
    values = _joined(path, [arrays[part[0]] for part in parts])
    store = values_store(path, values, declared, where)
    log.of_record()
    if store.shape[1:] != info.shape:
        raise DataError(
            f"{path}: {parts[0][0]} has shape {first.shape}, so that each record has "
            f"{store.shape[1:]}; the model was trained on records of {info.shape}. [pictures] axes "
            "in a file beside it says which axis is which",
            code="shape",
        )
    unread, count = _unread(values), len(values)
    places = [str(row) for part in parts for row in range(len(arrays[part[0]]))]
    keys = {"row": places}
    if len(parts) > 1:
        keys = {"array": [part[0] for part in parts for _ in arrays[part[0]]], **keys}
    names = [""] * count
    if all(part[2] for part in parts):
        named = np.concatenate([arrays[part[2]].reshape(-1).astype(str) for part in parts])
        keys["patient"] = [str(one) for one in named]
        # As a training knows them; who is not named is none of the others.
        names = ["" if says_nothing(one) else identifier(one) for one in keys["patient"]]
    return Asked(
        keys=keys,
        inputs=LazyInputs(store).view(np.flatnonzero(~unread)),
        rows=np.flatnonzero(~unread),
        notes=[NOTHING if one else odd for one, odd in zip(unread, _odd(values), strict=True)],
        labels=_labels(path, parts, arrays, declared, info, log),
        patients=patient_numbers(names),
        names=names,
    )


def _target_name(info: DatasetInfo) -> str:
    """Return what an array of masks is called; "" where labels are learnt."""
    return declaration_of(info).pictures.masks or "masks" if info.task == SEGMENTATION else ""


def _parts(path: Path, target: str = "") -> list[tuple[str, str, str]]:
    """Return the names of each part's records, targets and patients; "" for what is not there."""
    held, patients = npz_keys(path), "patient"
    found = []
    for images, usual in _NAMES.items():
        labels = target or usual
        for name in held:
            if name == images or name.endswith(f"_{images}") or name.startswith(f"{images}_"):
                others = (name.replace(images, other, 1) for other in (labels, patients))
                found.append((name, *(one if one in held else "" for one in others)))
    if not found:
        raise DataError(
            f"{path}: no array 'images'; it holds {', '.join(held)}: save records as "
            "np.savez(file, images=...), and labels=... where they are known",
            code="missing-column",
        )
    return found  # type: ignore[return-value]


def _declared(file: Path, info: DatasetInfo, values: NDArray[Any], optional: bool) -> Declaration:
    if file.is_file() or not optional:
        declared = read_declaration(file)
        if info.declared:
            check_same(declared.public(), info.declared, str(file))
        return declared
    declared = declaration_of(info)
    # Of floats a shape does not show whether they are pictures; the model's records do.
    if values.dtype.kind == "f" and info.input_range == (0.0, 1.0):
        flat = {
            (1, *values.shape[1:]): {3: "hw", 4: "dhw"},
            values.shape[1:]: {4: "chw", 5: "cdhw"},
        }
        axes: Any = flat.get(tuple(info.shape), {}).get(values.ndim, "")
        return declared.model_copy(update={"pictures": Pictures(axes=axes)})
    return declared


def _joined(path: Path, parts: list[NDArray[Any]]) -> NDArray[Any]:
    try:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    except ValueError:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise DataError(
            f"{path}: its arrays have different shapes: {shapes}", code="shape"
        ) from None


def _unread(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which records hold no number at all."""
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    return np.asarray(np.isnan(values.reshape(len(values), -1)).all(axis=1))


def _odd(values: NDArray[Any]) -> list[str]:
    """Return what is odd about each record."""
    if values.dtype.kind != "f":
        return [""] * len(values)
    holes = np.isnan(values.reshape(len(values), -1)).any(axis=1)
    return ["holds values that are no number: missing values" if one else "" for one in holes]


def _labels(
    path: Path,
    parts: list[tuple[str, str, str]],
    arrays: dict[str, NDArray[Any]],
    declared: Declaration,
    info: DatasetInfo,
    log: RowNotes,
) -> NDArray[Any] | None:
    if not all(part[1] for part in parts):
        return None
    if info.task == SEGMENTATION:
        return masks_of_arrays(path, [arrays[one[1]] for one in parts], declared, info.shape[1:])
    if info.task not in OF_CLASSES:
        return targets_of_arrays(path, [arrays[part[1]] for part in parts], declared)
    classes = info.classes
    found = []
    for images, labels, _ in parts:
        column = arrays[labels]
        column = column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column
        if column.shape != (len(arrays[images]),):
            raise DataError(
                f"{path}: {labels} has shape {arrays[labels].shape}, expected one label for each "
                f"of {len(arrays[images])} records",
                code="shape",
            )
        numbers = label_numbers(column, classes)
        if len(odd := np.flatnonzero(numbers < 0)):
            log.note(
                "no class of the model",
                f"{path}: {labels} row {odd[0]}: {column[odd[0]].item()!r}, expected "
                f"{', '.join(classes)}",
                count=len(odd),
            )
        found.append(numbers)
    return np.concatenate(found)
