"""Where a model is cut: which layers a hospital keeps and which the server has.

Only a plain sequence can be cut. Nested sequences are read as one, with dotted names::

    input -> [bottom: up to exchange.cut] -> [middle: the server's] -> [head: the rest] -> loss

The head begins at the last layer that learns. With labels at home (U-shaped, Vepakomma et al.
2018) bottom and head stay at the hospital; with labels at the server only the bottom does. The
parts share their layers with the whole model, so what one learns the other knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from clients.contract.schedule import schedule_of
from clients.contract.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.contract.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A cut model; `head` is None where head and loss are the server's."""

    bottom: nn.Sequential
    middle: nn.Sequential
    head: nn.Sequential | None

    @property
    def home(self) -> list[nn.Parameter]:
        """What hospitals train together, in the model's order."""
        parts = [self.bottom] if self.head is None else [self.bottom, self.head]
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    @property
    def away(self) -> list[nn.Parameter]:
        """What the server trains."""
        return [p for p in self.middle.parameters() if p.requires_grad]

    def names_away(self, whole: nn.Module) -> list[str]:
        """Return the names under which the whole model knows the server's parameters."""
        ids = {id(p) for p in self.middle.parameters()}
        return [name for name, p in whole.named_parameters() if id(p) in ids]


def pieces_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the layers of a sequence in order, by dotted name; empty if it is none."""
    if type(module) is not nn.Sequential:
        return []
    pieces: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        inner = pieces_of(child)
        pieces += [(f"{name}.{rest}", layer) for rest, layer in inner] or [(name, child)]
    return pieces


def cut_model(settings: Settings, module: nn.Module) -> Parts:
    """Cut a model where the settings say.

    Raises:
        SettingsError: the model is no sequence, or the layer is none of those it can be cut after,
            which are listed.
    """
    pieces = pieces_of(module)
    at_server = settings.exchange.labels == "server"
    learning = [k for k, (_, layer) in enumerate(pieces) if _learns(layer)]
    last = learning[-1] if learning else 0
    # With labels at the server only the bottom is at home, and it must have something to learn.
    allowed = [k for k in range(last) if not at_server or any(n <= k for n in learning)]
    names = [pieces[k][0] for k in allowed]
    if not names:
        raise SettingsError(
            [
                f"exchange.name 'layers' cannot cut model {settings.model.name!r}: it is no plain "
                "sequence of layers, or leaves none to learn at the hospital."
            ]
        )
    cut = settings.exchange.cut or next((pieces[k][0] for k in allowed if k in learning), names[-1])
    if cut not in names:
        raise SettingsError(
            [
                f"exchange.cut = {cut!r} is no layer that model {settings.model.name!r} can be cut "
                f"after; those are {', '.join(names)}."
            ]
        )
    first = allowed[names.index(cut)] + 1
    layers = [layer for _, layer in pieces]
    if at_server:
        return Parts(bottom=_row(layers[:first]), middle=_row(layers[first:]), head=None)
    return Parts(
        bottom=_row(layers[:first]), middle=_row(layers[first:last]), head=_row(layers[last:])
    )


@torch.no_grad()
def values_of_messages(
    settings: Settings, parts: Parts, shape: Sequence[int], patients: float
) -> int:
    """Return how many noised values a hospital's batch of messages has."""
    activation = parts.bottom(torch.zeros(1, *shape))
    width: int = activation.numel()
    if parts.head is not None:
        width += parts.middle(activation).numel()
    return slots_of(patients, schedule_of(settings).batches) * width


def slots_of(patients: float, batches: int) -> int:
    """Return the fixed size of a hospital's batches, padding included."""
    return max(1, math.ceil(patients / batches))


def _learns(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())


def _row(layers: list[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*layers)
