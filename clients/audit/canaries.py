"""Canaries: made-up patients who take part or not by the toss of a coin.

Each has the largest contribution that the clip lets through, along a coordinate of its own, so what
is seen there tells of nobody else. Most are patients of the first hospital alone. Others are known
to several hospitals, for the rows of the observer table about such patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.randomness import Stream
from clients.learning.dp_sgd import clip_factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: A canary's gradient before the clip, in units of C: far beyond it.
_UNCLIPPED = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Canaries that are patients of the same number of hospitals.

    Attributes:
        hospitals: m of each.
        first: coordinate of the first canary.
        coins: who takes part, bool [n].
    """

    hospitals: int
    first: int
    coins: NDArray[np.bool_]

    @property
    def place(self) -> slice:
        """Their coordinates."""
        return slice(self.first, self.first + len(self.coins))


class Canaries:
    """All canaries of one audit.

    Args:
        sizes: how many there are of each kind, by the number of hospitals that know them.
        hospitals: in the audit. A canary of m hospitals is a patient of the first m; where there is
            one alone, who holds everybody's records, it is m of its patients.
        l2_clip: C, in gradient units.
    """

    def __init__(self, sizes: dict[int, int], *, hospitals: int, l2_clip: float) -> None:
        self.groups: dict[int, Group] = {}
        members: list[list[NDArray[np.int64]]] = [[] for _ in range(hospitals)]
        first = 0
        for known, size in sizes.items():
            # Even numbers of either side: a coin each, tossed until both have come.
            coins = Stream.fresh().bernoulli(size, 0.5)
            group = self.groups[known] = Group(hospitals=known, first=first, coins=coins)
            for number in range(known):
                members[number % hospitals].append(first + np.flatnonzero(group.coins))
            first += size
        self.dimensions = first
        #: Of each hospital, the coordinate of each of its patients.
        self._coordinates = [np.concatenate([np.zeros(0, np.int64), *own]) for own in members]
        squared = torch.tensor([(_UNCLIPPED * l2_clip) ** 2], dtype=torch.float64)
        factor = clip_factors(squared, l2_clip)
        self._contribution = float(factor[0]) * _UNCLIPPED * l2_clip

    def patients(self, hospital: int) -> NDArray[np.int64]:
        """The numbers of a hospital's patients, 0 .. n-1."""
        return np.arange(len(self._coordinates[hospital]))

    def total(self, hospital: int, sampled: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sum of the clipped contributions of the patients in a batch, float64 ``[d]``."""
        counts = np.bincount(self._coordinates[hospital][sampled], minlength=self.dimensions)
        return np.asarray(counts * self._contribution)

    def left_out(self) -> NDArray[np.int64]:
        """The coordinates of all who do not take part: nothing is there but noise."""
        apart = [group.first + np.flatnonzero(~group.coins) for group in self.groups.values()]
        return np.concatenate(apart)


def sizes_of(canaries: int, shared: Sequence[int]) -> dict[int, int]:
    """How many canaries of each kind: so many of one hospital, a quarter of that of several."""
    return {1: canaries, **{known: max(canaries // 4, 2) for known in shared if known > 1}}
