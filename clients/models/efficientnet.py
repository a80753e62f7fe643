"""EfficientNet-Lite0 (Tan and Le 2019; the "lite" edition of 2020), as a sequence of stages.

Lite nets are EfficientNets without squeeze-and-excitation and with ReLU6 in the place of swish: all
that is left is convolutions, normalisation and ReLU6. The published weights come from TensorFlow,
so convolutions with a stride pad more at the end than at the beginning, as its "same" padding does.

    efficientnet_lite0()(pictures)     # [n, 3, 224, 224] -> [n, 1280, 7, 7]
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

#: Pixels per side that it was trained on. Each stride halves an even side, as the padding expects.
SIDE = 224
_EPSILON = 1e-3  # of the normalisation, as it was trained with
#: Blocks, kernel, stride, widening and channels of the seven stages between stem and top.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _TOP = 32, 1280


def unit(
    before: int,
    after: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    active: bool = True,
) -> nn.Sequential:
    """Return convolution, normalisation and ReLU6, padded as TensorFlow pads even sides.

    Args:
        before: channels of what comes in.
        after: channels of what goes out.
        kernel: pixels per side.
        stride: 1, or 2 to halve an even side.
        groups: as of a convolution.
        active: whether ReLU6 follows.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    padding = kernel // 2
    if stride > 1:
        first = (kernel - stride) // 2
        layers["pad"] = nn.ZeroPad2d((first, kernel - stride - first) * 2)
        padding = 0
    layers["conv"] = nn.Conv2d(
        before, after, kernel, stride=stride, padding=padding, groups=groups, bias=False
    )
    layers["norm"] = nn.BatchNorm2d(after, eps=_EPSILON)
    if active:
        layers["act"] = nn.ReLU6()
    return nn.Sequential(layers)


class Block(nn.Module):
    """Widen each place, filter each channel in space, narrow again (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        self.expand = unit(before, wide) if widening > 1 else nn.Identity()
        self.filter = unit(wide, wide, kernel, stride=stride, groups=wide)
        self.project = unit(wide, after, active=False)
        self._adds = stride == 1 and before == after

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [n, after, h / stride, w / stride]."""
        made: torch.Tensor = self.project(self.filter(self.expand(maps)))
        return maps + made if self._adds else made


def efficientnet_lite0() -> nn.Sequential:
    """Return the net without its classifier: nine stages, 3,371,008 parameters."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["stem"] = unit(3, _STEM, 3, stride=2)
    before = _STEM
    for number, (blocks, kernel, stride, widening, after) in enumerate(_STAGES, start=1):
        made = []
        for place in range(blocks):
            made.append(Block(before, after, kernel, 1 if place else stride, widening))
            before = after
        stages[f"stage{number}"] = nn.Sequential(*made)
    stages["top"] = unit(before, _TOP)
    return nn.Sequential(stages)


#: Stage and place within it of each block, in the order in which the published file numbers them.
_PLACES = [
    (number, place)
    for number, (blocks, *_) in enumerate(_STAGES, start=1)
    for place in range(blocks)
]
_OUTSIDE = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "top.conv",
    "_bn1": "top.norm",
}
_INSIDE = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "filter.conv",
    "_bn1": "filter.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def own_name(published: str) -> str:
    """Return what a tensor of the published file is called here; "" for the classifier's.

    >>> own_name("_blocks.3._bn1.running_mean"), own_name("_fc.weight")
    ('stage3.0.filter.norm.running_mean', '')
    """
    layer, _, tensor = published.rpartition(".")
    if layer == "_fc":
        return ""
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
    if inside and int(inside[1]) < len(_PLACES) and inside[2] in _INSIDE:
        stage, place = _PLACES[int(inside[1])]
        return f"stage{stage}.{place}.{_INSIDE[inside[2]]}.{tensor}"
    return f"{_OUTSIDE.get(layer, layer)}.{tensor}"
