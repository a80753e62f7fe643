"""Graphs made of volumes: cells of a coarse grid, joined where they touch, and a net over them.

A volume is cut into cells, `CELLS` along each axis, and each is a node: how bright it is on
average, how much that varies, and its brightest voxel. Cells that share a face are joined by an
edge, whose weight says how much of what is seen goes on through the face: the mean, over the pairs
of voxels that face each other, of the darker one. So a vessel is a path of strong edges, and two
that pass each other without touching are not joined. Every graph has the same nodes and the same
places for edges; one that is not there weighs nothing. A record is therefore one array,
``[nodes, 3 + 6]``, the last six its edges to the neighbours before and after it on each axis.

Nothing of it is learnt: it is a public constant function of each record alone. The net passes
messages along the edges (Gilmer et al. 2017, "Neural message passing for quantum chemistry"): a
node hears the sum of its neighbours' states, each times its edge. Norms are over one record's
nodes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.data.records import DatasetInfo, Floats
from clients.models.deep import norm
from clients.models.errors import ModelError

#: Cells along each axis, voxels of a cell along each axis, and what is said of each cell.
CELLS, SIDE, SAID = 7, 4, 3
NODES = CELLS**3
#: Two neighbours on each of three axes: before it, and after it.
FACES = 6
_UNITS = 16


class GraphFeatures:
    """The map from volumes of one shape to graphs.

    Args:
        shape: of a volume, (channels, depth, height, width). One of another size than the grid's is
            brought to it first; channels are averaged.
        input_range: lowest and highest value of a voxel, public.
    """

    title = "graphs of volumes"
    shape = (NODES, SAID + FACES)

    def __init__(self, shape: tuple[int, ...], input_range: tuple[float, float]) -> None:
        low, high = input_range
        self._low, self._span = low, high - low
        self.identity = f"volume-graph-1-{low:g}-{high:g}"
        self._resized = tuple(shape[1:]) != (CELLS * SIDE,) * 3

    def __call__(self, volumes: Floats) -> Floats:
        """Return float32 [n, nodes, 9], each volume by itself; NaN for one that is not finite."""
        found = np.empty((len(volumes), *self.shape), dtype=np.float32)
        for number, volume in enumerate(volumes):
            found[number] = self._graph(volume) if np.isfinite(volume).all() else np.nan
        return found

    def _graph(self, volume: Floats) -> Floats:
        grey = (volume.mean(axis=0) - self._low) / self._span
        if self._resized:
            maps = torch.from_numpy(grey.astype(np.float32))[None, None]
            grey = nn.functional.interpolate(maps, (CELLS * SIDE,) * 3, mode="area")[0, 0].numpy()
        grey = grey.clip(0.0, 1.0)
        cells = grey.reshape(CELLS, SIDE, CELLS, SIDE, CELLS, SIDE)
        cells = cells.transpose(0, 2, 4, 1, 3, 5).reshape(NODES, -1)
        # The deviation of values in [0, 1] is at most a half.
        said = [cells.mean(axis=1), 2 * cells.std(axis=1), cells.max(axis=1)]
        edges = [side for axis in range(3) for side in _edges(grey, axis)]
        return np.stack([*said, *edges], axis=1).astype(np.float32)


def _edges(grey: Floats, axis: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return edges [nodes] to the neighbours before and after on an axis; 0 at the border."""
    grey = np.moveaxis(grey, axis, 0)
    last, first = grey[SIDE - 1 : -1 : SIDE], grey[SIDE::SIDE]
    pairs = np.minimum(last, first).reshape(CELLS - 1, CELLS, SIDE, CELLS, SIDE)
    faces = np.zeros((CELLS + 1, CELLS, CELLS), dtype=np.float32)
    faces[1:-1] = pairs.mean(axis=(2, 4))
    before, after = (np.moveaxis(faces[part], 0, axis) for part in (slice(-1), slice(1, None)))
    return before.reshape(NODES), after.reshape(NODES)


class Messages(nn.Module):
    """A step: each node's new state, of its own and of the sum of its neighbours' times edges."""

    neighbours: torch.Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * before, after)
        self.norm = norm(after)
        # What a net is built with is no part of what is trained or kept.
        self.register_buffer("neighbours", _neighbours(), persistent=False)

    def forward(self, states: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Return [n, nodes, after] for states [n, nodes, before] and edges [n, nodes, 6]."""
        heard = (states[:, self.neighbours] * edges.unsqueeze(-1)).sum(dim=2)
        mixed = self.mix(torch.cat([states, heard], dim=2))
        return torch.tanh(self.norm(mixed.transpose(1, 2)).transpose(1, 2))


class GraphNet(nn.Module):
    """Steps of messages, and a head on the mean state, plain and by brightness.

    Args:
        outputs: number of logits.
        steps: how many edges a message goes.
    """

    def __init__(self, outputs: int, steps: int = 3) -> None:
        super().__init__()
        sizes = [SAID + 3, *[_UNITS] * steps]
        self.steps = nn.ModuleList(map(Messages, sizes[:-1], sizes[1:]))
        self.head = nn.Linear(2 * _UNITS, outputs)
        self.register_buffer("places", _places(), persistent=False)

    places: torch.Tensor

    def forward(self, graphs: torch.Tensor) -> torch.Tensor:
        """Return logits [n, outputs] for graphs [n, nodes, 9]."""
        said, edges = graphs[..., :SAID], graphs[..., SAID:]
        states = torch.cat([2 * said - 1, self.places.expand(len(graphs), -1, -1)], dim=2)
        for step in self.steps:
            states = step(states, edges)
        bright = said[..., :1]
        weighed = (states * bright).sum(dim=1) / (bright.sum(dim=1) + 1.0)
        logits: torch.Tensor = self.head(torch.cat([states.mean(dim=1), weighed], dim=1))
        return logits


def _numbers() -> NDArray[np.int64]:
    return np.arange(NODES).reshape((CELLS,) * 3)


def _neighbours() -> torch.Tensor:
    """Return int64 [nodes, 6]: whom each edge goes to; at the border, where it weighs 0, itself."""
    numbers, found = _numbers(), []
    for axis in range(3):
        for step in (-1, 1):
            places = (np.arange(CELLS) + step).clip(0, CELLS - 1)
            found.append(np.take(numbers, places, axis=axis).reshape(NODES))
    return torch.from_numpy(np.stack(found, axis=1))


def _places() -> torch.Tensor:
    """Return float32 [nodes, 3], the middle of each cell in [-1, 1]."""
    axis = np.linspace(-1, 1, CELLS, dtype=np.float32)
    return torch.from_numpy(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)).reshape(
        NODES, 3
    )


@lru_cache(maxsize=4)
def _features(shape: tuple[int, ...], input_range: tuple[float, float]) -> GraphFeatures:
    return GraphFeatures(shape, input_range)


def feature_map(info: DatasetInfo) -> GraphFeatures:
    """Return the map from a data set's volumes to graphs."""
    return _features(info.shape, info.input_range)


def graph(info: DatasetInfo) -> nn.Module:
    """Return a net over graphs of volumes, from graphs [n, 343, 9] to logits."""
    if min(info.shape[1:]) < CELLS:
        raise ModelError(
            f"model graph needs volumes of {CELLS} voxels and up a side; {info.name} has "
            f"{info.shape}",
            code="wrong-kind",
        )
    return GraphNet(info.outputs)
