"""A model as the terms of a training carry it: names, shapes and dtypes, and where it starts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from clients.contract.binding import Parameter


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


def weights_digest(path: str) -> str:
    """Return the SHA-256 of a file of starting weights, hex; "" where there is none.

    Raises:
        OSError: the file cannot be read.
    """
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest() if path else ""
