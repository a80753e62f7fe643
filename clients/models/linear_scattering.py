"""The linear head on scattering features."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from clients.data.records import DatasetInfo
from clients.models.errors import ModelError
from clients.models.features import features_for
from clients.models.small import start_at_zero


def scattering(info: DatasetInfo) -> nn.Module:
    """Return a linear model, started at zero, from feature rows to logits."""
    if min(info.shape[1:]) < 16:
        raise ModelError(
            f"model scattering needs pictures of 16 pixels and up; {info.name} has {info.shape}",
            code="wrong-kind",
        )
    width = features_for(info.shape).width
    return nn.Sequential(OrderedDict(head=start_at_zero(nn.Linear(width, info.outputs))))
