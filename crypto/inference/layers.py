"""What a layer of a shared model is: its shape, the randomness it takes, how two parties run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from crypto.errors import SealingError
from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.words import Shape, Words

#: Numbers in one value, and in what a layer makes of one on the way.
MOST_VALUES = 1 << 25


class ProgramError(SealingError):
    """A list of layers that is no program; the message names the layer and what is wrong."""

    code = "program"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A step of a program: public, but for its weights.

    Attributes:
        kind: its name on the wire.
        inputs: numbers of the values that it takes: 0 is the picture, n what layer n - 1 made.
    """

    kind: ClassVar[str]
    inputs: tuple[int, ...]

    def result(self, *shapes: Shape) -> Shape:
        """Return the shape that it makes of inputs of these shapes.

        Raises:
            ProgramError: it takes no such inputs.
        """
        raise NotImplementedError

    def weight_shape(self, *shapes: Shape) -> Shape | None:
        """Return the shape of the weights that are masked; None without any."""
        return None

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return the material for one run; the same code at all three roles."""
        return None

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return a share of the result."""
        raise NotImplementedError


def need(condition: bool, text: str) -> None:
    """Insist on a property of a program.

    Raises:
        ProgramError: it does not hold.
    """
    if not condition:
        raise ProgramError(text)
