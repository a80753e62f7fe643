"""What is opened in the end, and to the patient alone: centred logits, or the class alone.

Probabilities and logits that add up to zero say the same, so nothing more than probabilities is
opened. The provider's message is 32 bits for each class. All it sent before is masked by fresh
draws of its own, so whatever a patient sends, **a prediction tells it at most 32 bits a class of
the model**; with the class alone, 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crypto.inference.comparisons import deal_comparison, not_negative
from crypto.inference.layers import Layer, need
from crypto.inference.parties import Party
from crypto.inference.sources import Source
from crypto.inference.words import Shape, Words


@dataclass(frozen=True, kw_only=True)
class Logits(Layer):
    """Open the logits, FRACTION bits after the point, to the patient."""

    kind: ClassVar[str] = "logits"

    def result(self, *shapes: Shape) -> Shape:
        """Return [classes]."""
        need(len(shapes) == 1 and len(shapes[0]) == 1, "logits are one row of numbers")
        return shapes[0]

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return the logits at the patient; at the provider nothing."""
        opened = party.to_patient(shares[0])
        return np.zeros(0, np.uint64) if opened is None else opened


@dataclass(frozen=True, kw_only=True)
class Favourite(Layer):
    """Open to the patient the number of the class with the largest logit, the first of equal ones.

    Each pair of classes is compared: the one that wins all of its comparisons is the largest.
    """

    kind: ClassVar[str] = "favourite"

    def result(self, *shapes: Shape) -> Shape:
        """Return [1]."""
        need(len(shapes) == 1 and len(shapes[0]) == 1, "logits are one row of numbers")
        need(1 < shapes[0][0] < 2**10, f"{shapes[0][0]} classes")
        return (1,)

    def deal(self, source: Source, name: str, *shapes: Shape) -> Any:
        """Return a comparison for each pair, and one for each class."""
        classes = shapes[0][0]
        pairs = deal_comparison(source, classes * (classes - 1) // 2, choosing=False)
        return pairs, deal_comparison(source, classes, choosing=False)

    def run(self, party: Party, name: str, material: Any, *shares: Words) -> Words:
        """Return the number at the patient; at the provider nothing."""
        logits = shares[0]
        classes = len(logits)
        first, second = np.triu_indices(classes, 1)
        ahead = not_negative(party, material[0], logits[first] - logits[second])
        won = np.zeros(classes, np.uint64)
        np.add.at(won, first, ahead)
        np.add.at(won, second, party.public(np.uint64(1)) - ahead)
        all_of_them = party.public(np.uint64(classes - 1))
        largest = not_negative(party, material[1], won - all_of_them)
        number = (largest * np.arange(classes, dtype=np.uint64)).sum(keepdims=True)
        opened = party.to_patient(number)
        return np.zeros(0, np.uint64) if opened is None else opened
