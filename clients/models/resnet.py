"""ResNets (He et al. 2016) by torchvision's and timm's names, for weights that a user brings.

Stages of a pretrained net, with its BatchNorms; `deep.resnet18` is the one that is trained whole.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class Residual(nn.Module):
    """Two 3 x 3 convolutions, or a narrow one between two of 1 x 1, around a shortcut.

    Args:
        before: channels of what comes in.
        width: channels within.
        widening: channels of what goes out, over `width`: 1, or 4 for the narrow form.
        stride: of the first 3 x 3 convolution.
    """

    def __init__(self, before: int, width: int, widening: int, stride: int) -> None:
        super().__init__()
        after = width * widening
        narrow = widening > 1
        self.conv1 = _conv(before, width, 1) if narrow else _conv(before, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride if narrow else 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.narrow = narrow
        if narrow:
            self.conv3 = _conv(width, after, 1)
            self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(_conv(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [n, after, h / stride, w / stride]."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(maps)))))
        if self.narrow:
            inner = self.bn3(self.conv3(torch.relu(inner)))
        around = maps if self.downsample is None else self.downsample(maps)
        return torch.relu(inner + around)


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)


def _resnet(blocks: tuple[int, ...], widening: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    layers["bn1"] = nn.BatchNorm2d(64)
    layers["relu"] = nn.ReLU()
    layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    before = 64
    for number, count in enumerate(blocks, start=1):
        width = 32 * 2**number
        made = []
        for place in range(count):
            made.append(Residual(before, width, widening, 2 if number > 1 and not place else 1))
            before = width * widening
        layers[f"layer{number}"] = nn.Sequential(*made)
    return nn.Sequential(layers)


def resnet18() -> nn.Sequential:
    """Return ResNet-18 without its classifier: 11,176,512 parameters."""
    return _resnet((2, 2, 2, 2), 1)


def resnet50() -> nn.Sequential:
    """Return ResNet-50 without its classifier: 23,508,032 parameters."""
    return _resnet((3, 4, 6, 3), 4)


def own_name(published: str) -> str:
    """Return what a tensor of a published file is called here; "" for the classifier's.

    >>> own_name("layer4.1.bn2.bias"), own_name("fc.bias")
    ('layer4.1.bn2.bias', '')
    """
    return "" if published.startswith("fc.") else published
