"""Squared norms of patients' gradients: fast where float32 holds them, exact where it does not."""

from __future__ import annotations

import math

import torch

#: Values whose squares are added in float32; the clip undercuts C for it.
NORM_BLOCK = 128
#: A squared norm below this for each of its terms is taken anew in float64: a square that float32
#: cannot hold is off by up to its least normal number, 2^-126, here 2^-20 of the sum at the most.
DOUBTFUL = 2.0**-106


def squared_norms(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return each patient's squared norm over all parameters, float64 ``[n]``."""
    flat = [gradient.reshape(len(gradient), -1) for gradient in gradients]
    squared = torch.stack([_fast_squares(rows) for rows in flat]).sum(dim=0)
    least = DOUBTFUL * sum(rows.shape[1] for rows in flat)
    low, high = torch.aminmax(squared)
    if not (least <= float(low) and float(high) < math.inf):  # also where one is no number
        doubtful = torch.nonzero(~torch.isfinite(squared) | (squared < least)).flatten()
        exact = [rows[doubtful].double().square().sum(dim=1) for rows in flat]
        squared[doubtful] = torch.stack(exact).sum(dim=0)
    return squared


def _fast_squares(flat: torch.Tensor) -> torch.Tensor:
    """Return each row's squared norm, float64 ``[n]``, where squares stay in float32's range.

    Blocks are short enough for float32 (n terms are off by n * 2^-24 of their sum at the most, half
    of that for a norm); the blocks are added in float64. All in float64 takes four times as long.
    """
    whole = flat.shape[1] // NORM_BLOCK * NORM_BLOCK
    squared: torch.Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square()
    if whole:
        blocks = flat[:, :whole].reshape(len(flat), -1, NORM_BLOCK)
        squared = torch.linalg.vector_norm(blocks, dim=2).double().square().sum(dim=1) + squared
    return squared
