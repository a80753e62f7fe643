"""Can a model be trained privately? Layers that mix patients or that Opacus cannot treat."""

from __future__ import annotations

from torch import nn

from clients.models.errors import ModelError

_MIXING = (nn.modules.batchnorm._BatchNorm,)
_REPLACEMENTS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.LSTM, "opacus.layers.DPLSTM"),
    (nn.GRU, "opacus.layers.DPGRU"),
    (nn.RNN, "opacus.layers.DPRNN"),
    (nn.MultiheadAttention, "opacus.layers.DPMultiheadAttention"),
)


def faults(module: nn.Module) -> list[str]:
    """Return one line for each layer that rules the model out of private training."""
    found: list[str] = []
    for name, layer in module.named_modules():
        where = f"{name or 'the model'} ({type(layer).__name__})"
        if isinstance(layer, _MIXING):
            channels = layer.num_features
            instead = f"nn.GroupNorm({groups(channels)}, {channels})"
            found.append(f"{where} mixes patients of a batch: use {instead}")
        elif isinstance(layer, nn.InstanceNorm2d) and layer.track_running_stats:
            found.append(f"{where} keeps statistics of patients: set track_running_stats=False")
        elif isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            found.append(f"{where} draws its own randomness: remove it; the noise regularises")
        else:
            found.extend(
                f"{where} has no per-patient gradients: use {instead}"
                for kind, instead in _REPLACEMENTS
                if type(layer) is kind
            )
    return found or _opacus_faults(module)


def _opacus_faults(module: nn.Module) -> list[str]:
    """Ask Opacus about the layers that its hooks do not know."""
    if all(
        isinstance(layer, _KNOWN) or not list(layer.parameters(recurse=False))
        for layer in module.modules()
    ):
        return []  # spares Opacus' import of 2.5 s
    from opacus.grad_sample import GradSampleModule

    return [str(error) for error in GradSampleModule.validate(module, strict=False)]


_KNOWN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)


def groups(channels: int) -> int:
    """Return the largest group count up to 32 that leaves two or more channels in each group."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)


def check_private_ready(module: nn.Module) -> None:
    """Refuse a model with a layer that cannot be trained privately, naming layer and replacement.

    Raises:
        ModelError: `not-private-ready`, listing every such layer.
    """
    found = faults(module)
    if found:
        raise ModelError("; ".join(found), code="not-private-ready")
