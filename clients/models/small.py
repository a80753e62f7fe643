"""The small models: a line, one hidden layer, and a group-normalised convolutional net."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from clients.data.records import DatasetInfo


class Centre(nn.Module):
    """Shift and scale inputs from a public range to [-1, 1]; no parameters, nothing learnt."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.middle = (low + high) / 2
        self.radius = (high - low) / 2

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (inputs - middle) / radius."""
        return (inputs - self.middle) / self.radius


def centre(info: DatasetInfo) -> nn.Module:
    """Return the layer that brings a data set's public range to [-1, 1]."""
    low, high = info.input_range
    return nn.Identity() if (low, high) == (-1.0, 1.0) else Centre(low, high)


def start_at_zero(layer: nn.Linear) -> nn.Linear:
    """Return the layer with all weights zero: no luck in the start of a convex model."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def logistic(info: DatasetInfo) -> nn.Module:
    """Return multinomial logistic regression, started at zero."""
    return nn.Sequential(
        OrderedDict(
            centre=centre(info),
            flatten=nn.Flatten(),
            head=start_at_zero(nn.Linear(math.prod(info.shape), info.outputs)),
        )
    )


def mlp(info: DatasetInfo) -> nn.Module:
    """Return one hidden layer of 32 tanh units (bounded activations suffer less from clipping)."""
    return nn.Sequential(
        OrderedDict(
            centre=centre(info),
            flatten=nn.Flatten(),
            hidden=nn.Linear(math.prod(info.shape), 32),
            act=nn.Tanh(),
            head=nn.Linear(32, info.outputs),
        )
    )


def cnn(info: DatasetInfo) -> nn.Module:
    """Return three group-normalised convolutions, for pictures of 16 pixels and up.

    Tanh instead of ReLU under clipping: Papernot et al. (2021), "Tempered sigmoid activations".
    """
    channels = info.shape[0]
    return nn.Sequential(
        OrderedDict(
            centre=centre(info),
            conv1=nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            norm1=nn.GroupNorm(4, 16),
            act1=nn.Tanh(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            norm2=nn.GroupNorm(8, 32),
            act2=nn.Tanh(),
            conv3=nn.Conv2d(32, 32, 3, padding=1),
            norm3=nn.GroupNorm(8, 32),
            act3=nn.Tanh(),
            pool=nn.AdaptiveAvgPool2d(4),
            flatten=nn.Flatten(),
            head=nn.Linear(32 * 16, info.outputs),
        )
    )
