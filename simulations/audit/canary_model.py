"""Models whose gradients are known beforehand: each canary pulls in a direction of its own.

A record is three numbers, two digits of the canary's number and a loudness; the model makes of them
a vector with one place for each canary, and puts two linear heads without bias on it, started at
zero. The gradient of a record's loss then lies in four coordinates that no other canary touches, as
(-1, 1, -1, 1)/2 for the first class and the opposite for the second, far above any clip used here,
or below it by a share that is known. It spreads over three tensors, a matrix, one of a bias's shape
and name, and one of a kernel's, so that a clip of each tensor by itself shows, and one that leaves
out some kind of tensor.

A small model's gradients come from hooks, those of one with 300,000 parameters from a recorded
pass, in which those of a convolution are factors that are never multiplied out. So there is a large
one as well, of layers of other kinds: a convolution at two positions, a norm, a linear layer.
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
#: What `model.name` calls the model of two heads, the large one, and the one that can be cut.
NAME, LARGE_NAME, STACK = f"{__name__}:heads", f"{__name__}:large", f"{__name__}:stack"
#: Parameters that make a model large beside those that canaries pull at; nobody pulls at these.
SPARE = 300_000
#: A table's fourth column: of every so many canaries a cell is empty, or says what cannot be; of
#: others it holds one of two values, whose mean is nothing that a cell may be taken for.
BLANK, AGES, AGE_RANGE = 4, (10, 90), (0, 100)
#: Values of one record at the cuts of the latter.
WIDTH = 4


#: How far a column may be from what it must be.
_CLOSE = 1e-4


def _scaled(age: int) -> float:
    """Return a value of the fourth column as the declared range has it, in [-1, 1]."""
    low, high = AGE_RANGE
    return 2.0 * (age - low) / (high - low) - 1.0


class Places(nn.Module):
    """From columns in [-1, 1] to one place in many; nothing learnt."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return ``[n, PLACES]`` with the record's loudness in its place.

        A record whose fourth column is not what it must be lies in the place of somebody else.
        """
        inputs, highest = inputs.flatten(1), torch.tensor(HIGHEST, dtype=inputs.dtype)
        whole = torch.round((inputs[:, : len(HIGHEST)] + 1) / 2 * highest).long()
        place = whole[:, 0] * BASE + whole[:, 1]
        if inputs.shape[1] > len(HIGHEST):
            ages = torch.tensor([_scaled(one) for one in AGES], dtype=inputs.dtype)
            told = (inputs[:, -1:] - ages).abs().min(dim=1).values < _CLOSE
            middle = inputs[:, -1].abs() < _CLOSE
            right = torch.where(whole[:, 1] % BLANK == 0, middle, told)
            place = torch.where(right, place, (place + 1) % PLACES)
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


class Normed(nn.Module):
    """A head whose weights are what a layer norm moves its values by, and a linear layer's bias.

    What they are added to is nought, whatever the record.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm_bias = nn.Parameter(torch.zeros(PLACES))
        self.linear_bias = nn.Parameter(torch.zeros(PLACES))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, 2]``."""
        noughts, weight = torch.zeros_like(places), places.new_zeros((PLACES, 1))
        first = functional.layer_norm(noughts, (PLACES,), None, self.norm_bias)
        second = functional.linear(noughts[:, :1], weight, self.linear_bias)
        return torch.stack([(places * first).sum(dim=1), (places * second).sum(dim=1)], dim=1)


class Layers(nn.Module):
    """The same two heads, of layers of other kinds, and more parameters than they need."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places()
        self.left = nn.Conv1d(PLACES, 2, 1, bias=False)
        self.right = Normed()
        self.spare = nn.ParameterList([torch.zeros(SPARE)])  # after those of all layers
        nn.init.zeros_(self.left.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits ``[n, classes]``; each record is seen at two positions, by half at each."""
        places = self.places(inputs)
        halves = (places / 2.0)[:, :, None].expand(-1, -1, 2)
        logits: torch.Tensor = self.left(halves).sum(dim=2) + self.right(places)
        return logits


def large(info: DatasetInfo) -> nn.Module:
    """Return the large model, started at zero, for two classes."""
    assert info.outputs == 2
    return Layers()


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
