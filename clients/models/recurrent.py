"""A recurrent net for time series, or for a table read as one, from Opacus' per-patient layers."""

from __future__ import annotations

import torch
from torch import nn

from clients.data.records import DatasetInfo


class Recurrent(nn.Module):
    """A GRU over the steps and a linear head on their mean.

    Args:
        flat: rows are [features] and read one feature a step; else [steps, features].
        features: of one step.
        classes: number of logits.
        hidden: units.
    """

    def __init__(self, *, flat: bool, features: int, classes: int, hidden: int = 32) -> None:
        from clients.models.opacus_parts import DPGRU

        super().__init__()
        self.flat = flat
        self.gru = DPGRU(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes]."""
        steps = rows.unsqueeze(-1) if self.flat else rows
        states, _ = self.gru(steps)
        logits: torch.Tensor = self.head(states.mean(dim=1))
        return logits


def gru(info: DatasetInfo) -> nn.Module:
    """Return a GRU of 32 units for a table [features] or a series [steps, features]."""
    flat = len(info.shape) == 1
    return Recurrent(flat=flat, features=1 if flat else info.shape[1], classes=info.outputs)
