"""From a record on the patient's machine to what is shared: read, features, gain and offset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clients.data.errors import DataError
from clients.data.public_facts import facts_from_elsewhere
from clients.data.records import DatasetInfo
from clients.prediction.artefact import read_artefact
from clients.prediction.asked import RowNotes
from clients.prediction.asking import ask
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import prepared
from crypto.inference.links import LinkError
from crypto.inference.words import Words, encode, shareable
from deployment.errors import DeploymentError, DeploymentFailed
from deployment.inference.agents import About


def shares_of(
    path: Path,
    about: About,
    shape: tuple[int, ...],
    features: Path | None,
    *,
    declaration: Path | None = None,
    log: RowNotes | None = None,
) -> Iterator[tuple[str, Words]]:
    """Yield each record that a path holds: which it is, and its values as words [*shape].

    Args:
        path: as `clients.prediction.asking.ask` reads it.
        about: what the provider says of its model.
        shape: of the program's input.
        features: the file that features are computed by, as `Agent.features_file` returns it.
        declaration: file that says how the records are written; None for the one beside them.
        log: where cells that could not be read are counted.

    Raises:
        DeploymentError: a record cannot be read; or, after the last one, nothing of a column could:
            to end sooner would tell the provider of it.
        DataError: nothing at the path can be.
        LinkError: what the provider says of its data is not sound.
        ArtefactError: its features are of no net that is known here.
    """
    info = info_of(about)
    asked = ask(path, info, RowNotes() if log is None else log, declaration)
    if asked.unread:
        first = asked.unread[0]
        which = ", ".join(str(values[first]) for values in asked.keys.values())
        where = which if which == path.name else f"{path}: {which}"
        raise DeploymentError(f"{where}: {asked.notes[first]}; nothing was sent")
    net = None if features is None else Predictor(read_artefact(features))
    names = [", ".join(map(str, row)) for row in zip(*asked.keys.values(), strict=True)]
    for number, name in enumerate(names):
        inputs = np.asarray(asked.inputs[number : number + 1], dtype=np.float32)
        try:
            row = inputs[0] if net is None else net.prepared(inputs)[0]
            values = prepared(row, shape, about.gain, about.offset)
        except ValueError:
            raise LinkError("the provider's model takes other pictures than it says") from None
        yield name, encode(shareable(values))
    if asked.blind:
        raise DeploymentFailed(
            f"{path}: {len(asked.blind)} of {len(asked.columns)} columns could not be read in any "
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
