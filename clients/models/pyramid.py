"""Wavelet scattering on several scales and colours: features without training for large pictures.

`scattering` looks at details of up to eight pixels. A picture of 224 pixels per side has details of
all sizes, so here the same features are taken of the picture at 64, at 128 and at 224 pixels per
side, as far as it is that large (a smaller one is enlarged to 64). What differs in colour, rather
than in light, is looked at in the smallest edition alone: colours vary slowly, and each feature
more is one more for the noise. (That eyes see colour so is what JPEG rests on too.) Nothing is
learnt, and each record is by itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from clients.data.records import DatasetInfo, Floats
from clients.models.errors import ModelError
from clients.models.features import Features
from clients.models.resizing import Resize
from clients.models.small import start_at_zero

#: Pixels per side of the editions, smallest first.
SIDES = (64, 128, 224)
#: Places per side that are left of each edition.
_GRID = 4
_SEEN = 8  # a large noise picture has hundreds of places to take statistics from
#: Light and two differences of colour, orthonormal (Ohta, Kanade and Sakai 1980), rows to columns.
_LIGHT = (1 / math.sqrt(3),) * 3
_COLOURS = (
    (1 / math.sqrt(2), -1 / math.sqrt(2), 0.0),
    (1 / math.sqrt(6), 1 / math.sqrt(6), -2 / math.sqrt(6)),
)


class PyramidFeatures:
    """The map from pictures of one shape to feature rows.

    Args:
        shape: of a picture, (channels, height, width), grey or in three colours.

    Raises:
        ModelError: a picture of other colours.
    """

    identity = "scattering-pyramid-1"
    title = "scattering features"

    def __init__(self, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        if channels not in (1, 3):
            raise ModelError(
                f"model scattering-pyramid is for pictures, grey or in three colours; found "
                f"records of shape {shape}",
                code="wrong-kind",
            )
        sides = [SIDES[0], *(side for side in SIDES[1:] if side <= min(height, width))]
        self._coloured = channels == 3
        self._resizes = [Resize((height, width), side) for side in sides]
        self._editions = [_edition(side) for side in sides]
        rows = len(sides) + (len(_COLOURS) if self._coloured else 0)
        self.shape = (rows * self._editions[0].width,)

    def __call__(self, pictures: Floats) -> Floats:
        """Return float32 [n, width] of pictures float32 [n, channels, height, width] in [0, 1]."""
        shown = torch.from_numpy(np.ascontiguousarray(pictures))
        light = _mixed(shown, _LIGHT) if self._coloured else shown
        parts = [
            edition(resize(light).numpy())
            for resize, edition in zip(self._resizes, self._editions, strict=True)
        ]
        if self._coloured:
            small = self._resizes[0](shown)
            parts += [self._editions[0](_mixed(small, one).numpy()) for one in _COLOURS]
        return np.concatenate(parts, axis=1)


def _mixed(pictures: torch.Tensor, shares: tuple[float, ...]) -> torch.Tensor:
    """Return one channel [n, 1, h, w] of three."""
    return (pictures * torch.tensor(shares).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)


@lru_cache(maxsize=len(SIDES))
def _edition(side: int) -> Features:
    """Return the features of one edition: the same number whatever its side."""
    return Features((1, side, side), pool=side // 8 // _GRID, seen=_SEEN)


@lru_cache(maxsize=4)
def _features(shape: tuple[int, ...]) -> PyramidFeatures:
    return PyramidFeatures(shape)


def feature_map(info: DatasetInfo) -> PyramidFeatures:
    """Return the features that the model `scattering-pyramid` learns from."""
    return _features(info.shape)


def pyramid(info: DatasetInfo) -> nn.Module:
    """Return a linear model, started at zero, from feature rows to logits."""
    width = feature_map(info).shape[0]
    return nn.Sequential(OrderedDict(head=start_at_zero(nn.Linear(width, info.outputs))))
