"""The deep nets of the field with every BatchNorm replaced by GroupNorm (Wu and He 2018)."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from clients.data.records import DatasetInfo
from clients.models.readiness import groups
from clients.models.small import centre


def norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with up to 16 groups."""
    return nn.GroupNorm(min(16, groups(channels)), channels)


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norm(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), norm(after)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [n, after, h / stride, w / stride]."""
        inner = torch.relu(self.norm1(self.conv1(maps)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


def resnet18(info: DatasetInfo) -> nn.Module:
    """Return ResNet-18 with GroupNorm; pictures under 128 pixels keep their first resolution."""
    large = min(info.shape[1:]) >= 128
    layers: OrderedDict[str, nn.Module] = OrderedDict(centre=centre(info))
    if large:
        layers["conv1"] = nn.Conv2d(info.shape[0], 64, 7, stride=2, padding=3, bias=False)
    else:
        layers["conv1"] = nn.Conv2d(info.shape[0], 64, 3, padding=1, bias=False)
    layers["norm1"] = norm(64)
    layers["act1"] = nn.ReLU()
    if large:
        layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
    before = 64
    for stage, after in enumerate((64, 128, 256, 512), start=1):
        layers[f"layer{stage}"] = nn.Sequential(
            Residual(before, after, 1 if stage == 1 else 2), Residual(after, after, 1)
        )
        before = after
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(512, info.outputs)
    return nn.Sequential(layers)


class PadTo(nn.Module):
    """Pad each spatial side with zeros (the middle grey) to at least a size."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the maps, padded on both sides as evenly as can be."""
        pads: list[int] = []
        for side in reversed(maps.shape[2:]):
            spare = max(self.least - side, 0)
            pads += [spare // 2, spare - spare // 2]
        return nn.functional.pad(maps, pads)


def densenet121(info: DatasetInfo) -> nn.Module:
    """Return MONAI's DenseNet-121 with GroupNorm, for pictures and volumes."""
    from monai.networks.nets.densenet import DenseNet121

    options: dict[str, Any] = {
        "norm": ("group", {"num_groups": 16}),
        "act": ("relu", {"inplace": False}),  # hooks must see what was, not what became of it
        "dropout_prob": 0.0,
    }
    net = DenseNet121(
        spatial_dims=len(info.shape) - 1,
        in_channels=info.shape[0],
        out_channels=info.outputs,
        **options,
    )
    return nn.Sequential(OrderedDict(centre=centre(info), pad=PadTo(32), net=net))


def densenet121_stages() -> nn.Sequential:
    """Return MONAI's DenseNet-121 as it is published, with BatchNorms and without a classifier."""
    from monai.networks.nets.densenet import DenseNet121

    net = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1)
    return net.features.append(nn.ReLU())  # type: ignore[no-any-return]


def own_name(published: str) -> str:
    """Return what a tensor of a published DenseNet is called among the stages; "" elsewhere.

    MONAI's names, and torchvision's, which have changed once.

    >>> own_name("features.denseblock1.denselayer1.norm.1.weight")
    'denseblock1.denselayer1.layers.norm1.weight'
    """
    if not published.startswith("features."):
        return ""
    name = published.removeprefix("features.")
    return re.sub(r"(denselayer\d+)\.(?:layers\.)?(norm|conv)\.?(\d)\.", r"\1.layers.\2\3.", name)


def cnn3d(info: DatasetInfo) -> nn.Module:
    """Return three group-normalised convolutions with tanh, for volumes."""
    return nn.Sequential(
        OrderedDict(
            centre=centre(info),
            conv1=nn.Conv3d(info.shape[0], 16, 5, stride=2, padding=2),
            norm1=norm(16),
            act1=nn.Tanh(),
            conv2=nn.Conv3d(16, 32, 3, stride=2, padding=1),
            norm2=norm(32),
            act2=nn.Tanh(),
            conv3=nn.Conv3d(32, 32, 3, stride=2, padding=1),
            norm3=norm(32),
            act3=nn.Tanh(),
            pool=nn.AdaptiveAvgPool3d(2),
            flatten=nn.Flatten(),
            head=nn.Linear(32 * 8, info.outputs),
        )
    )
