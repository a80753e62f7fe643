"""Whether a model can be trained privately: no layer mixes patients, and Opacus knows them all.

Layers that are known are found by their type, and named with what to use instead. What somebody's
own code does is found by running it, in `clients.models.independence`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from clients.models.errors import ModelError

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo

_REPLACEMENTS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.LSTM, "opacus.layers.DPLSTM"),
    (nn.GRU, "opacus.layers.DPGRU"),
    (nn.RNN, "opacus.layers.DPRNN"),
    (nn.MultiheadAttention, "opacus.layers.DPMultiheadAttention"),
)


def faults(module: nn.Module, public: Collection[str] = ()) -> list[str]:
    """Return one line for each layer that rules the model out of private training.

    Args:
        module: in training mode.
        public: names of tensors that came from a public file whose digest is known. A frozen layer
            in inference mode may keep statistics from there; any others are patients'.
    """
    found: list[str] = []
    for name, layer in module.named_modules():
        where = f"{name or 'the model'} ({type(layer).__name__})"
        if _is_spectral(layer):
            found.append(
                f"{where} changes its running state with every batch: remove spectral_norm"
            )
        elif isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            found.append(f"{where} draws its own randomness: remove it; the noise regularises")
        elif isinstance(layer, _BatchNorm | _InstanceNorm):
            instead = _instead_of_statistics(layer)
            if instead and not _rests(name, layer, public):
                found.append(f"{where} {instead}")
        elif isinstance(layer, LazyModuleMixin):
            found.append(f"{where} has no size yet: give it its sizes")
        else:
            found.extend(
                f"{where} has no per-patient gradients: use {instead}"
                for kind, instead in _REPLACEMENTS
                if type(layer) is kind
            )
    return found or _opacus_faults(module)


def _instead_of_statistics(layer: _BatchNorm | _InstanceNorm) -> str:
    """Say what a normalising layer does with patients and what to use; empty if it does nothing."""
    if isinstance(layer, _InstanceNorm):
        if layer.track_running_stats:
            return "keeps statistics of patients: set track_running_stats=False"
        return "has no size yet: give it its sizes" if isinstance(layer, LazyModuleMixin) else ""
    channels = layer.num_features
    instead = f"nn.GroupNorm({groups(channels)}, {channels})" if channels else "nn.GroupNorm"
    return f"mixes patients of a batch: use {instead}"


def _rests(name: str, layer: nn.Module, public: Collection[str]) -> bool:
    """Whether a layer is frozen, in inference mode, and keeps statistics of nobody's patients."""
    frozen = not any(p.requires_grad for p in layer.parameters())
    buffers = [f"{name}.{buffer}" if name else buffer for buffer, _ in layer.named_buffers()]
    return frozen and not layer.training and bool(buffers) and set(buffers) <= set(public)


def _is_spectral(layer: nn.Module) -> bool:
    hooks = layer._forward_pre_hooks.values()
    return isinstance(layer, _SpectralNorm) or any(isinstance(h, SpectralNorm) for h in hooks)


def _opacus_faults(module: nn.Module) -> list[str]:
    """Ask Opacus about the layers that its hooks do not know."""
    if all(
        isinstance(layer, _KNOWN) or not list(layer.parameters(recurse=False))
        for layer in module.modules()
    ):
        return []  # spares an import
    from clients.models.opacus_parts import GradSampleModule

    return [str(error) for error in GradSampleModule.validate(module, strict=False)]


_KNOWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)


def groups(channels: int) -> int:
    """Return the largest group count up to 32 that leaves two or more channels in each group."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)


def check_private_ready(
    module: nn.Module, info: DatasetInfo | None = None, *, public: Collection[str] = ()
) -> None:
    """Refuse a model with a layer that cannot be trained privately, naming layer and replacement.

    Args:
        module: in training mode.
        info: public facts of the data set, if the model is to be run on made-up records of its
            shape as well: it must treat each alone, and keep nothing of them.
        public: names of tensors that came from a public file whose digest is known.

    Raises:
        ModelError: `not-private-ready`, listing every such layer; `wrong-kind`, if the model does
            not run on such records.
    """
    found = faults(module, public)
    if not found and info is not None:
        from clients.models.independence import dependences

        try:
            found = dependences(module, info.shape, info.input_range)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"the model does not run on records of shape {info.shape} ({error})",
                code="wrong-kind",
            ) from error
    if found:
        raise ModelError("; ".join(found), code="not-private-ready")
