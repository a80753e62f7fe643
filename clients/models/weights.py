"""Starting a model from a file: safetensors, or a torch state dict read without unpickling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from clients.models.errors import ModelError


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file or of a torch state dict."""
    if not path.is_file():
        raise ModelError(f"model.weights: {path} does not exist", code="missing-file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever a damaged file makes the readers raise, the answer is the same.
        raise ModelError(
            f"model.weights: {path} is neither safetensors nor a plain torch state dict ({error})",
            code="unreadable",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ModelError(f"model.weights: {path} holds no state dict", code="unreadable")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_weights(module: nn.Module, path: str | Path) -> tuple[str, ...]:
    """Copy the weights in a file into the model.

    A head of another number of classes keeps its own start: that is how a pretrained net is reused.

    Returns:
        Names of the parameters that kept their own start.

    Raises:
        ModelError: a file that is not there or not readable, or that fits no layer, or a layer of
            another shape that is not the head.
    """
    file = Path(path).expanduser()
    state = read_state(file)
    own = module.state_dict()
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if not fits:
        raise ModelError(
            f"model.weights: {file} fits no layer; it holds {', '.join(list(state)[:4])} ..., "
            f"the model {', '.join(list(own)[:4])} ...",
            code="weights-mismatch",
        )
    head = {f"{head_of(module)}.weight", f"{head_of(module)}.bias"}
    kept = tuple(key for key in own if key not in fits)
    for key in kept:
        if key in state and key not in head:
            raise ModelError(
                f"model.weights: {file}: {key} has shape {tuple(state[key].shape)}, expected "
                f"{tuple(own[key].shape)}",
                code="weights-mismatch",
            )
        if key not in state and key not in head:
            raise ModelError(f"model.weights: {file} has no {key}", code="weights-mismatch")
    module.load_state_dict({**own, **fits})
    return kept


def head_of(module: nn.Module) -> str:
    """Return the name of the last layer that makes the logits."""
    layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def freeze_body(module: nn.Module) -> None:
    """Leave only the head trainable: fewer coordinates for the noise to spoil."""
    head = head_of(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(f"{head}."))
