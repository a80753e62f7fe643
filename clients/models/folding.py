"""Making a stage of a pretrained net ready to be trained: no BatchNorm is left in it.

While a stage rests, in inference mode, BatchNorm multiplies and adds numbers of the published file:
a constant map of each record. Multiplied into the convolution before it the net stays the same, and
nothing is left that could mix patients or keep statistics of them. (GroupNorm in its place would
be another net, which forgets what the published numbers know.)
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clients.models.errors import ModelError

_TOLERANCE = 1e-3  # of the largest value: float32's rounding, through a stage


def folded(stage: nn.Module, maps: torch.Tensor) -> nn.Module:
    """Return a copy of a stage whose BatchNorms are part of the convolutions before them.

    A BatchNorm that follows no convolution stays: the check of what is trained refuses it.

    Args:
        stage: in inference mode; left as it is.
        maps: what it may be given, float32 [n, channels, h, w].

    Raises:
        ModelError: the copy does something else, as where a net does not use its layers in the
            order in which it lists them.
    """
    made = copy.deepcopy(stage)
    for layer in list(made.modules()):
        if getattr(layer, "inplace", False):
            # Hooks must see what was, not what became of it.
            layer.inplace = False  # type: ignore[assignment]
        for (at, conv), (after, norm) in pairwise(list(layer.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(layer, at, fuse_conv_bn_eval(conv, norm))
                setattr(layer, after, nn.Identity())
    with torch.no_grad():
        expected, found = stage(maps.clone()), made(maps.clone())
    apart, scale = float((expected - found).abs().max()), float(expected.abs().max())
    if not apart <= _TOLERANCE * scale:
        raise ModelError(
            f"a stage cannot be trained: without its BatchNorms it is off by {apart:.3g} of "
            f"{scale:.3g}; train a head alone (model.tuned-stages = 0), or use nn.GroupNorm",
            code="not-private-ready",
        )
    return made.requires_grad_(True)
