"""Starting a model from a file: safetensors, or a torch state dict read without unpickling."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from clients.models.errors import ModelError

#: The largest file of weights that is read: half a billion numbers.
MOST_BYTES = 2 * 1024**3


def weights_bytes(path: Path) -> bytes:
    """Return the bytes of a file of weights.

    A run may name any path: a device has no end, a pipe no beginning, and of some files it is said
    that they are empty.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger than `MOST_BYTES`.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"has {size} bytes, at most {MOST_BYTES}", str(path))
        data = file.read(size + 1)
    if len(data) != size:
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    return data


def read_state(path: Path, digest: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file or of a torch state dict.

    Args:
        path: the file.
        digest: SHA-256 of the file in hex digits, held against the very bytes that are then read;
            "" for any.

    Raises:
        ModelError: `missing-file`, `weights-mismatch` for another digest, or `unreadable`.
    """
    try:
        data = weights_bytes(path)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise ModelError(f"model.weights: {path} {reason}", code="missing-file") from error
    found = hashlib.sha256(data).hexdigest() if digest else ""
    if found != digest:
        raise ModelError(
            f"model.weights: {path} has SHA-256 {found}, expected {digest}", code="weights-mismatch"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return dict(load(data))
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
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


def load_weights(module: nn.Module, path: str | Path, digest: str = "") -> tuple[str, ...]:
    """Copy the weights in a file into the model.

    A head of another number of classes keeps its own start: that is how a pretrained net is reused.

    Args:
        module: the model.
        path: the file.
        digest: SHA-256 of the file in hex digits; "" for any.

    Returns:
        Names of the parameters that kept their own start.

    Raises:
        ModelError: a file that is not there, not readable or of another digest, or that fits no
            layer, or a layer of another shape that is not the head.
    """
    file = Path(path).expanduser()
    state = read_state(file, digest)
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


@torch.no_grad()
def set_parameters(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Set a model's parameters to those of a released model; its buffers stay as they are.

    Raises:
        ModelError: as `check_parameters`.
    """
    check_parameters(module, tensors)
    for name, parameter in module.named_parameters():
        parameter.copy_(tensors[name])


def check_parameters(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Insist that a released model has this one's parameters.

    Raises:
        ModelError: other names or shapes than the model's own parameters.
    """
    own = dict(module.named_parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {name: tuple(parameter.shape) for name, parameter in own.items()}
    if shapes != expected:
        wrong = sorted(n for n in {*shapes, *expected} if shapes.get(n) != expected.get(n))
        raise ModelError(
            f"a released model does not fit this one at {', '.join(wrong)}", code="weights-mismatch"
        )


def head_of(module: nn.Module) -> str:
    """Return the name of the last layer that makes the logits."""
    layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def freeze_body(module: nn.Module) -> None:
    """Leave only the head trainable: fewer coordinates for the noise to spoil."""
    head = head_of(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(f"{head}."))
