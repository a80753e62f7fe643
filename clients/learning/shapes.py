"""The tensors of a model as the terms of a training carry them: names, shapes, dtypes."""

from __future__ import annotations

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
