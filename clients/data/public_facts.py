"""What of a data set's description every hospital and the server must agree on."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from clients.contract.binding import PublicFacts
from clients.data.declaration import Declaration
from clients.data.errors import DataError
from clients.data.records import DatasetInfo
from clients.tasks.catalogue import check_suits
from clients.tasks.question import REGRESSION, SURVIVAL

#: Kinds of data, and numbers in one record, that a description from elsewhere may name.
KINDS, MOST_NUMBERS = ("table", "image", "volume", "series"), 1 << 28


def public_facts(info: DatasetInfo) -> PublicFacts:
    """Return what is public about a data set, as the terms of a training carry it."""
    if info.own is not None:
        return PublicFacts.own(info.unit)
    return PublicFacts(
        task=info.task,
        shape=tuple(info.shape),
        unit=info.unit,
        classes=tuple(str(name) for name in info.classes),
        ranges=(tuple(map(float, info.input_range)),),  # type: ignore[arg-type]
        declared=tuple({**_of_targets(info), **info.declared}.items()),
    )


def _of_targets(info: DatasetInfo) -> dict[str, str]:
    """Return what targets are like, as it would be declared, where no file declares it."""
    said = {}
    if info.task == REGRESSION:
        said["target-range"] = json.dumps(list(info.target_range))
    if info.task == SURVIVAL:
        said["horizons"] = json.dumps(list(info.horizons))
    return said


def declaration_of(info: DatasetInfo) -> Declaration:
    """Return the declaration of the table that a model was trained on, from its public part.

    How a file of it is written is not in it: each hospital has its own.
    """
    given: dict[str, Any] = {"target": info.target}
    for key, text in info.declared.items():
        table, inner, name = key.partition(": ")
        if key == "columns":
            continue
        value = text if table == "censored" else tomllib.loads(f"value = {text}")["value"]
        if inner:
            given.setdefault(table, {})[name] = value
        else:
            given[key] = value
    return Declaration.model_validate(given)


def facts_from_elsewhere(said: Any) -> DatasetInfo:
    """Return public facts as a model's file or a provider tells them, checked whole.

    Raises:
        DataError: they cannot be.
    """
    try:
        info = TypeAdapter(DatasetInfo).validate_python(said)
        if info.declared:
            declaration_of(info)
        check_suits(info.question)  # nothing is imported by a name from elsewhere
    except (ValidationError, ValueError) as error:
        raise DataError(" ".join(str(error).split())) from None
    if not info.shape or min(info.shape) < 1 or math.prod(info.shape) > MOST_NUMBERS:
        raise DataError(f"records of shape {info.shape}", code="shape")
    if info.kind not in KINDS:
        raise DataError(f"kind is {info.kind!r}, expected {', '.join(KINDS)}")
    if len(set(info.classes)) < len(info.classes):
        raise DataError(f"a class is named twice: {', '.join(info.classes)}", code="labels")
    low, high = info.input_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"values from {low} to {high}")
    return info
