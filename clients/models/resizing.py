"""Bringing pictures to the size that a pretrained net was trained on: two products of matrices.

Linear interpolation; where a side shrinks, over as many pixels as it shrinks by, so that fine
detail does not turn into false patterns. Written as matrices it is the same everywhere, in exports
too, and plainly a function of each picture alone.
"""

from __future__ import annotations

import torch
from torch import nn


def resizing(before: int, after: int) -> torch.Tensor:
    """Return the matrix float32 [after, before] that resizes one axis; its rows sum to one."""
    if before == after:
        return torch.eye(before)
    step = before / after
    reach = max(1.0, step)
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * step - 0.5
    apart = (centres[:, None] - torch.arange(before, dtype=torch.float64)[None]).abs() / reach
    weights = (1.0 - apart).clamp_min(0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


class Resize(nn.Module):
    """Pictures [n, channels, h, w] to [n, channels, side, side].

    Args:
        size: h and w, pixels.
        side: pixels.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, size: tuple[int, int], side: int) -> None:
        super().__init__()
        self.register_buffer("rows", resizing(size[0], side), persistent=False)
        self.register_buffer("columns", resizing(size[1], side).T.contiguous(), persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return [n, channels, side, side]."""
        return torch.matmul(torch.matmul(self.rows, pictures), self.columns)
