"""Scattering on several scales and colours: what each part of the features looks at."""

from __future__ import annotations

import numpy as np
import pytest

from clients.models import ModelError
from clients.models.pyramid import PyramidFeatures

EDITION = 89 * 16


def grating(period: float, side: int) -> np.ndarray:
    """Grey stripes of so many pixels, [1, side, side]."""
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * np.arange(side) / period)
    return np.broadcast_to(wave, (1, side, side)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "editions"),
    [
        pytest.param((1, 224, 224), 3, marks=pytest.mark.exhaustive),
        ((3, 130, 150), 4),
        ((3, 28, 28), 3),
    ],
)
def test_there_are_as_many_editions_as_the_picture_has_scales(
    shape: tuple[int, ...], editions: int
) -> None:
    features = PyramidFeatures(shape)
    assert features.shape == (editions * EDITION,)
    rows = features(np.random.default_rng(0).random((2, *shape), dtype=np.float32))
    assert rows.shape == (2, *features.shape) and np.isfinite(rows).all()


def test_a_difference_of_colour_is_seen_where_light_is_the_same() -> None:
    green = np.stack([grating(9, 64), 1 - grating(9, 64), np.full((1, 64, 64), 0.5)], axis=1)[0]
    blue = np.stack([grating(9, 64), np.full((1, 64, 64), 0.5), 1 - grating(9, 64)], axis=1)[0]
    rows = PyramidFeatures((3, 64, 64))(np.stack([green, blue]).astype(np.float32))
    apart = np.abs(rows[0] - rows[1]).reshape(3, EDITION).max(axis=1)
    assert apart[0] < 0.01 and min(apart[1:]) > 1


def test_fine_detail_is_seen_in_a_large_edition_alone() -> None:
    """Stripes of two pixels and a half, across or along, are grey at 64 pixels per side."""
    across = grating(2.5, 128)
    shown = np.stack([across, across.swapaxes(1, 2)])
    rows = PyramidFeatures((1, 128, 128))(shown)
    apart = np.abs(rows[0] - rows[1]).reshape(2, EDITION).mean(axis=1)
    assert apart[1] > 3 * apart[0]


def test_other_colours_are_refused() -> None:
    with pytest.raises(ModelError, match=r"grey or in three colours"):
        PyramidFeatures((4, 64, 64))
