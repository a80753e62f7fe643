"""SqueezeNet 1.1 (Iandola et al. 2016), by torchvision's names, so that its weights load."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from clients.data.records import DatasetInfo
from clients.models.known_nets import MEAN, STD


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 x 1 and 3 x 3 convolutions side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return [n, 2 * expanded, h, w]."""
        squeezed = torch.relu(self.squeeze(maps))
        wide = torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1)
        return torch.relu(wide)


class Colours(nn.Module):
    """Bring pictures in [0, 1], grey or coloured, to what ImageNet models expect."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, mean: tuple[float, float, float] = MEAN, std: tuple[float, float, float] = STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return [n, 3, h, w]."""
        return (pictures.expand(-1, 3, -1, -1) - self.mean) / self.std


def squeezenet(info: DatasetInfo) -> nn.Module:
    """Return SqueezeNet 1.1: 725,061 parameters with five classes.

    Without dropout, and without the ReLU that would cut negative logits off; layers with nothing to
    learn keep torchvision's numbers in their place. A plain sequence, so that it can be cut.
    """
    features = stages()
    head = nn.Conv2d(512, info.outputs, 1)
    classifier = nn.Sequential(nn.Identity(), head, nn.Identity(), nn.AdaptiveAvgPool2d(1))
    model = nn.Sequential(
        OrderedDict(
            colours=Colours(), features=features, classifier=classifier, flatten=nn.Flatten()
        )
    )
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    nn.init.normal_(head.weight, std=0.01)
    return model


def stages() -> nn.Sequential:
    """Return all layers but the classifier's."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


def own_name(published: str) -> str:
    """Return what a tensor of torchvision's file is called here; "" for the classifier's.

    >>> own_name("features.3.squeeze.weight"), own_name("classifier.1.bias")
    ('3.squeeze.weight', '')
    """
    return "" if published.startswith("classifier.") else published.removeprefix("features.")
