"""Small nets of somebody's own, as `model.name = "pretrained:tests.clients.models.nets:..."`."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn


def _layers() -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=nn.Conv2d(3, 6, 5, stride=8),
        norm1=nn.BatchNorm2d(6),
        act1=nn.ReLU(inplace=True),
        last=nn.Sequential(nn.Conv2d(6, 10, 3, stride=4, bias=False), nn.BatchNorm2d(10)),
    )


def staged() -> nn.Sequential:
    """A plain sequence, whose last stage can be trained too."""
    return nn.Sequential(_layers())


def classifying() -> nn.Module:
    """No plain sequence of stages, with a classifier, as torchvision's nets are."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = staged()
            self.fc = nn.Linear(10, 1000)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return self.fc(self.body(pictures).mean(dim=(2, 3)))  # type: ignore[no-any-return]

    return Net()


def mixing() -> nn.Module:
    """One that normalises over whoever is in a batch, in inference mode too."""
    return nn.Sequential(
        *list(_layers().values())[:1], nn.BatchNorm2d(6, track_running_stats=False)
    )


def tangled() -> nn.Module:
    """One that does not use its layers in the order in which it lists them."""

    class Tangled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return self.norm(torch.tanh(self.conv(maps)))  # type: ignore[no-any-return]

    return nn.Sequential(*list(_layers().values())[:3], Tangled())


def written(folder: Path, net: nn.Module, seed: int = 0) -> tuple[str, str]:
    """Write a file of weights as if the net had been trained; return its path and SHA-256."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor
        if not tensor.is_floating_point()
        else 0.5 + torch.rand(tensor.shape, generator=generator)
        if name.endswith("running_var")
        else torch.randn(tensor.shape, generator=generator) * 0.3
        for name, tensor in net.state_dict().items()
    }
    path = folder / f"weights-{seed}.pth"
    torch.save(state, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()
