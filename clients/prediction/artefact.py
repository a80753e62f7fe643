"""A trained model as one file that says all about itself: a safetensors file, and nothing to run.

Beside the weights stand the data set's public facts (classes, columns, ranges, shapes), the name of
the architecture, how several models decide together, the temperature and the scores of the public
holdout, and where it all comes from. Whoever has the file needs no data, no settings and no run
folder to predict, and reading it executes nothing that it brings along::

    artefact = read_artefact(Path("predictor.safetensors"))
    artefact.info.classes         # ("malignant", "benign")

**Several models.** A run's last released models can decide together, and so can the models of an
ensemble. Averaging over iterates of noisy gradient descent is Bayesian sampling by stochastic
gradient Langevin dynamics (Welling and Teh 2011); that private training is such sampling is Wang,
Fienberg and Smola (2015), "Privacy for free". It costs no epsilon: each member was *released*, its
sum is in the ledger, and what is computed of released models is post-processing (Dwork and Roth
2014, proposition 2.1). A model that was never released is never a member: those who write this file
hold no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clients.data.errors import DataError
from clients.data.public_facts import facts_from_elsewhere
from clients.data.records import DatasetInfo
from clients.prediction.doubt import Doubt

#: Key of the description among a safetensors file's metadata, and its form.
KEY, FORM = "asclepias", 1
#: Tensor of the scores; all others are "<member>/<tensor>".
SCORES = "doubt/scores"
_SEPARATOR = "/"
#: What tensors are made of here.
_HELD = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)
#: Temperatures that are fitted lie well within this and its inverse.
LEAST_TEMPERATURE = 1e-6
#: Where the tensors of a pretrained net lie; no member is called so.
_BACKBONE = "backbone:"

#: Parameters and buffers of one model.
State = Mapping[str, torch.Tensor]


class ArtefactError(ValueError):
    """A file that is no model of this app, or not a whole one; the message says what is wrong."""


class _Description(BaseModel):
    """What a file says of itself."""

    model_config = ConfigDict(extra="forbid")

    form: Literal[1]
    architecture: str
    vote: Literal["probabilities", "majority"]
    temperature: float
    data: dict[str, Any]
    about: dict[str, Any]
    hidden: int = 0
    stages: int = 0
    tuned_stages: int = 0
    side: int = Field(default=0, ge=0, le=1024)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A trained model and all that is needed to use it.

    Attributes:
        info: public facts of the data it was trained on.
        architecture: row of the table of models, "package.module:function", or "pretrained:" and
            the name of a net.
        members: name -> parameters and buffers; one, or several that decide together.
        vote: how several decide: see `clients.learning.votes`.
        doubt: temperature and scores, of the public holdout.
        about: JSON-ready facts about the training, and the model card once it is exported.
        hidden: units of a hidden layer on a pretrained net's features.
        stages: first stages of a pretrained net that are used; 0 for all.
        tuned_stages: last ones of these that are the members' own.
        side: pixels per side that the net is shown; 0 for its usual ones.
        backbone: all tensors of the pretrained net; empty where there is none.
    """

    info: DatasetInfo
    architecture: str
    members: Mapping[str, State]
    vote: str = "probabilities"
    doubt: Doubt
    about: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 0
    stages: int = 0
    tuned_stages: int = 0
    side: int = 0
    backbone: State = field(default_factory=dict)

    @property
    def _on_net(self) -> dict[str, int]:
        """What is said of a model on a pretrained net, and of no other."""
        given = {
            "hidden": self.hidden,
            "stages": self.stages,
            "tuned_stages": self.tuned_stages,
            "side": self.side,
        }
        return given if self.backbone else {}

    def to_bytes(self) -> bytes:
        """Return the file."""
        from safetensors.torch import save

        description = {
            "form": FORM,
            "architecture": self.architecture,
            "vote": self.vote,
            "temperature": self.doubt.temperature,
            "data": self.info.said(),
            "about": dict(self.about),
            **self._on_net,
        }
        states = {**self.members, **({_BACKBONE: self.backbone} if self.backbone else {})}
        tensors = {
            f"{member}{_SEPARATOR}{name}": tensor.detach().cpu().clone().contiguous()
            for member, state in states.items()
            for name, tensor in state.items()
        }
        tensors[SCORES] = torch.from_numpy(np.asarray(self.doubt.scores, dtype=np.float64))
        return save(tensors, metadata={"format": "pt", KEY: json.dumps(description)})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of weights, facts and doubt: what predictions depend on."""
        digest = hashlib.sha256(json.dumps(self.info.said(), sort_keys=True).encode())
        digest.update(f"{self.architecture} {self.vote} {self.doubt.temperature!r}".encode())
        digest.update(self.doubt.scores.tobytes())
        if self.backbone:
            digest.update(f"{self._on_net}".encode())
        states = {**self.members, _BACKBONE: self.backbone}
        for member, state in sorted(states.items()):
            for name, tensor in sorted(state.items()):
                digest.update(f"{member}{_SEPARATOR}{name}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def unplaced(name: str) -> str:
    """Return the name of data without the folder that they lie in, which is nobody else's business.

    >>> unplaced("csv:/home/ward-3/visits.csv"), unplaced("heart-disease:complete")
    ('csv:visits.csv', 'heart-disease:complete')
    """
    kind, separator, place = name.partition(":")
    return f"{kind}{separator}{PurePath(place).name}"


def read_artefact(path: Path) -> Artefact:
    """Return the model in a file.

    Raises:
        ArtefactError: it is none, or not whole.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ArtefactError(
            f"{path} is no file; expected a model: predictor.safetensors in a run's folder "
            "(runs/<time>-<scenario>/), or what 'flower-simulation export' wrote"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path} cannot be read as safetensors ({error})") from None
    if KEY not in metadata:
        raise ArtefactError(
            f"{path} holds weights alone: it does not say for which data they are. Expected a file "
            "that 'flower-simulation export' wrote, or a run's predictor.safetensors"
        )
    try:
        said = _Description.model_validate_json(metadata[KEY])
        info = facts_from_elsewhere(said.data)
    except (ValidationError, DataError, ValueError) as error:
        raise ArtefactError(f"{path}: what it says of itself is not sound: {error}") from None
    scores = tensors.pop(SCORES, torch.zeros(0, dtype=torch.float64))
    _check_numbers(path, tensors, scores, said.temperature)
    members = _by_member(tensors)
    backbone = members.pop(_BACKBONE, {})
    if not members or "" in members:
        raise ArtefactError(f"{path}: its tensors are of no model; it holds {', '.join(tensors)}")
    return Artefact(
        info=info,
        architecture=said.architecture,
        members=dict(sorted(members.items())),
        vote=said.vote,
        doubt=Doubt(temperature=said.temperature, scores=np.sort(scores.numpy())),
        about=said.about,
        hidden=said.hidden,
        stages=said.stages,
        tuned_stages=said.tuned_stages,
        side=said.side,
        backbone=backbone,
    )


def _by_member(tensors: State) -> dict[str, dict[str, torch.Tensor]]:
    members: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        member, _, own = name.rpartition(_SEPARATOR)
        members.setdefault(member, {})[own] = tensor
    return members


def _check_numbers(path: Path, tensors: State, scores: torch.Tensor, temperature: float) -> None:
    """Insist that everything in a file can be computed with.

    Raises:
        ArtefactError: something cannot; it is named.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _HELD or not bool(torch.isfinite(tensor).all()):
            raise ArtefactError(
                f"{path}: its weights {name} are {tensor.dtype}, or not all finite; expected "
                f"finite numbers of {', '.join(map(str, _HELD))}"
            )
    if scores.dtype != torch.float64 or scores.ndim != 1 or not bool(torch.isfinite(scores).all()):
        raise ArtefactError(f"{path}: its scores are no row of finite float64 numbers")
    if not LEAST_TEMPERATURE <= temperature <= 1 / LEAST_TEMPERATURE:
        raise ArtefactError(f"{path}: its temperature of {temperature} makes no probabilities")
