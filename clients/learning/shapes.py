"""A model as the terms of a training carry it: names, shapes and dtypes, and where it starts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from clients.contract.binding import Parameter
from clients.contract.model_settings import PRETRAINED, Model
from clients.models.known_nets import built_in_digest
from clients.models.weights import weights_bytes


def parameters_of(module: nn.Module) -> tuple[Parameter, ...]:
    """Return the parameters that are trained, in the model's own order."""
    return tuple(
        Parameter(
            name=name,
            shape=tuple(parameter.shape),
            dtype=str(parameter.dtype).removeprefix("torch."),
        )
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    )


def weights_digest(model: Model) -> str:
    """Return SHA-256 of the file of weights that a model starts from or is built on, hex.

    "" where there is none. Of a pretrained net that a package carries it is the one that the net
    is read by, and no other.

    Raises:
        OSError: the file cannot be read.
    """
    if model.weights:
        return hashlib.sha256(weights_bytes(Path(model.weights).expanduser())).hexdigest()
    return built_in_digest(model.name.removeprefix(PRETRAINED))
