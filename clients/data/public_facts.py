"""What of a data set's description every hospital and the server must agree on."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from clients.contract.binding import PublicFacts
from clients.data.declaration import Declaration

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo


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
        declared=tuple(info.declared.items()),
    )


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
