"""A model whose gradients are known beforehand: each canary pulls in a direction of its own.

A record is three numbers, two digits of the canary's number and a loudness; the model makes of them
a vector with one place for each canary, and puts two linear heads without bias on it, started at
zero. The gradient of a record's loss then lies in four coordinates that no other canary touches, as
(-1, 1, -1, 1)/2 for the first class and the opposite for the second, far above any clip used here,
or below it by a share that is known. It spreads over three tensors, a matrix, one of a bias's shape
and name, and one of a kernel's, so that a clip of each tensor by itself shows, and one that leaves
out some kind of tensor.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo

#: Digits in which a canary's number is written, and the numbers that there are.
BASE = 64
PLACES = BASE * BASE
#: C of the canaries' trainings, far below a gradient's norm of 1.
CLIP = 0.05
#: Norms of those canaries' gradients that lie below the clip, in clips.
BELOW = (0.25, 0.5, 0.9)
#: What a record's features are multiplied by, by loudness: squares of the fourth leave float32, and
#: a gradient of the fifth is no number.
LOUDNESS = (1.0, 1e6, 1e12, 1e24, float("inf"), *(CLIP * share for share in BELOW))
#: Numbers in it from which on a gradient can vanish, and from which on it lies below the clip.
LOUD, FAINT = 1, len(LOUDNESS) - len(BELOW)
#: Number of the loudness that leaves no gradient at all.
NO_NUMBER = FAINT - 1
#: Values that a record's three columns can take: 0 .. the number, whole.
HIGHEST = (BASE - 1, BASE - 1, len(LOUDNESS) - 1)
#: What `model.name` calls the model of two heads, and the one that can be cut.
NAME, STACK = f"{__name__}:heads", f"{__name__}:stack"
#: Values of one record at the cuts of the latter.
WIDTH = 4


class Places(nn.Module):
    """From three columns in [-1, 1] to one place in many; nothing learnt."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[n, PLACES]`` with the record's loudness in its place."""
        highest = torch.tensor(HIGHEST, dtype=inputs.dtype)
        whole = torch.round((inputs + 1) / 2 * highest).long()
        place = whole[:, 0] * BASE + whole[:, 1]
        loudness = torch.tensor(LOUDNESS, dtype=inputs.dtype)[whole[:, 2]]
        places = functional.one_hot(place, PLACES).to(inputs.dtype) * loudness[:, None]
        # A cut model's parts go back to their inputs, at which the gradient of this is zero.
        return places + 0.0 * inputs.sum(dim=1, keepdim=True)


class Apart(nn.Module):
    """A linear head of two classes whose weights are a tensor of one axis and one of four."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(PLACES))
        self.kernel = nn.Parameter(torch.zeros(1, 1, BASE, BASE))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, 2]``."""
        weights = torch.stack([self.bias, self.kernel.reshape(PLACES)])
        return functional.linear(places, weights)


class Heads(nn.Module):
    """Two heads on the same places, whose logits add up."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places()
        self.left = nn.Linear(PLACES, 2, bias=False)
        self.right = Apart()
        nn.init.zeros_(self.left.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, classes]``."""
        places = self.places(inputs)
        logits: torch.Tensor = self.left(places) + self.right(places)
        return logits


def heads(info: DatasetInfo) -> nn.Module:
    """Return the model, started at zero, for two classes."""
    assert info.outputs == 2
    return Heads()


def stack(info: DatasetInfo) -> nn.Module:
    """Return a sequence that can be cut: what a record shows has a norm far above any clip."""
    bottom = nn.Linear(PLACES, WIDTH, bias=False)
    nn.init.normal_(bottom.weight)
    return nn.Sequential(
        OrderedDict(
            places=Places(),
            bottom=bottom,
            squash=nn.Tanh(),
            middle=nn.Linear(WIDTH, WIDTH),
            act=nn.Tanh(),
            head=nn.Linear(WIDTH, info.outputs),
        )
    )
