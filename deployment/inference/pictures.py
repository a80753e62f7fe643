"""From a record on the patient's machine to what is shared: read, features, gain and offset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clients.data.errors import DataError
from clients.data.public_facts import facts_from_elsewhere
from clients.data.records import DatasetInfo
from clients.prediction.artefact import read_artefact
from clients.prediction.asked import Asked, RowNotes
from clients.prediction.asking import ask
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import prepared
from crypto.inference.links import LinkError
from crypto.inference.words import Words, encode, shareable
from deployment.errors import DeploymentError, DeploymentFailed
from deployment.inference.agents import About


def asked_of(
    path: Path, about: About, *, declaration: Path | None = None, log: RowNotes | None = None
) -> Asked:
    """Return the records that a path holds.

    Whether a file can be read as a picture depends on how it is written, and on no pixel, whatever
    the provider says: those that cannot may be left out. Which rows of a table can be read depends
    on the columns that it names: with the others asked about, it would learn how many these are.

    Args:
        path: as `clients.prediction.asking.ask` reads it.
        about: what the provider says of its model.
        declaration: file that says how the records are written; None for the one beside them.
        log: where cells that could not be read are counted.

    Raises:
        DeploymentError: not one picture can be read, or a record that is none cannot.
        DataError: nothing at the path can be.
        LinkError: what the provider says of its data is not sound.
    """
    info = info_of(about)
    asked = ask(path, info, RowNotes() if log is None else log, declaration)
    pictures = info.kind == "image" and "file" in asked.keys
    if asked.unread and not (pictures and len(asked.rows)):
        name, why = next(unread(asked))
        where = name if name == path.name else f"{path}: {name}"
        raise DeploymentError(f"{where}: {why}; nothing was sent")
    return asked


def unread(asked: Asked) -> Iterator[tuple[str, str]]:
    """Yield which records cannot be read, each with the reason."""
    names = _names(asked)
    yield from ((names[row], asked.notes[row]) for row in asked.unread)


def _names(asked: Asked) -> list[str]:
    return [", ".join(map(str, row)) for row in zip(*asked.keys.values(), strict=True)]


def shares_of(
    asked: Asked, about: About, shape: tuple[int, ...], features: Path | None
) -> Iterator[tuple[str, Words]]:
    """Yield each record that can be read: which it is, and its values as words [*shape].

    Args:
        asked: as `asked_of` returns them.
        about: what the provider says of its model.
        shape: of the program's input.
        features: the file that features are computed by, as `Agent.features_file` returns it.

    Raises:
        DeploymentFailed: after the last one, nothing of a column could be read: to end sooner would
            tell the provider of it.
        LinkError: what the provider says of its model is not sound.
        ArtefactError: its features are of no net that is known here.
    """
    net = None if features is None else Predictor(read_artefact(features))
    names = _names(asked)
    for number, row_number in enumerate(asked.rows.tolist()):
        name = names[row_number]
        inputs = np.asarray(asked.inputs[number : number + 1], dtype=np.float32)
        try:
            row = inputs[0] if net is None else net.prepared(inputs)[0]
            values = prepared(row, shape, about.gain, about.offset)
        except ValueError:
            raise LinkError("the provider's model takes other pictures than it says") from None
        yield name, encode(shareable(values))
    if asked.blind:
        raise DeploymentFailed(
            f"{len(asked.blind)} of {len(asked.columns)} columns could not be read in any "
            f"row, and were missing values in every answer: {'; '.join(asked.blind)}. Say in the "
            "declaration how they are written (--declaration)"
        )


def info_of(about: About) -> DatasetInfo:
    """Return the public facts of the data that a model was trained on.

    Raises:
        LinkError: what the provider says of them is not sound.
    """
    try:
        return facts_from_elsewhere(about.data)
    except DataError:
        raise LinkError("the provider says of its data what cannot be read") from None
