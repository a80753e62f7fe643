"""A model as the terms of a training carry it: names, shapes and dtypes, and where it starts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from clients.contract.binding import Parameter
from clients.contract.model_settings import PRETRAINED, Model
from clients.learning.class_shares import NAME
from clients.models.known_nets import built_in_digest
from clients.models.weights import weights_bytes

if TYPE_CHECKING:
    from clients.contract.settings import Settings

#: What counts the examples is called that an app's own loop learnt from.
EXAMPLES = "asclepias.examples"


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


def shared_parameters(settings: Settings, module: nn.Module, classes: int) -> tuple[Parameter, ...]:
    """Return what sums are of: the parameters that are trained, and what is counted if asked for.

    Args:
        settings: the run's.
        module: its model.
        classes: how many there are.
    """
    counted = (Parameter(name=NAME, shape=(classes,), dtype="float64"),)
    examples = (Parameter(name=EXAMPLES, shape=(), dtype="float64"),)
    return (
        parameters_of(module)
        + (counted if settings.training.learns_shares else ())
        + (examples if settings.exchange.loop == "app" else ())
    )


def dimensions_of(parameters: Iterable[Parameter]) -> int:
    """Return how many numbers parameters hold, d."""
    return sum(math.prod(one.shape) for one in parameters)


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
