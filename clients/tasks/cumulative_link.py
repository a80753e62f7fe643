"""From steps between grades to the logarithms of their chances."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class CumulativeLink(nn.Module):
    """Steps ``[n, grades - 1]`` to log chances ``[n, grades]``; no parameters, nothing learnt.

    With c_k = c_(k-1) - softplus(s_k), the chance of a grade in the middle is sigmoid(c_k) -
    sigmoid(c_(k+1)). Written as a product, sigmoid(c_k) * sigmoid(-c_(k+1)) * sigmoid(s_(k+1)), no
    difference of two numbers that are nearly equal is ever taken.
    """

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of each grade's chance; a row's chances add up to 1."""
        below = functional.softplus(steps[:, 1:]).cumsum(dim=1)
        logits = torch.cat([steps[:, :1], steps[:, :1] - below], dim=1)
        reached, missed = functional.logsigmoid(logits), functional.logsigmoid(-logits)
        middle = reached[:, :-1] + missed[:, 1:] + functional.logsigmoid(steps[:, 1:])
        return torch.cat([missed[:, :1], middle, reached[:, -1:]], dim=1)
