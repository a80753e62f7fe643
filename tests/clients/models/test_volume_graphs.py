"""Graphs made of volumes: what nodes and edges say, and that messages go along edges alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clients.contract.settings import Settings
from clients.data import DatasetInfo
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.models import ModelError, build_model
from clients.models.volume_graphs import CELLS, NODES, SAID, SIDE, GraphFeatures, Messages
from tests.patient_sums import one_by_one

SPACE = (CELLS * SIDE,) * 3


def info(shape: tuple[int, ...]) -> DatasetInfo:
    return DatasetInfo(
        name="made",
        title="",
        task="binary",
        shape=shape,
        classes=("a", "b"),
        kind="volume",
        input_range=(0.0, 1.0),
    )


def graphs_of(volumes: np.ndarray) -> np.ndarray:
    return GraphFeatures(volumes.shape[1:], (0.0, 1.0))(volumes.astype(np.float32))


def cell(z: int, y: int, x: int) -> int:
    return (z * CELLS + y) * CELLS + x


def adjacency(volume: np.ndarray) -> np.ndarray:
    """Edges between all pairs of nodes, face by face and voxel by voxel."""
    found = np.zeros((NODES, NODES))
    for place in np.ndindex((CELLS,) * 3):
        for axis in range(3):
            other = list(place)
            other[axis] += 1
            if other[axis] == CELLS:
                continue
            here = [slice(SIDE * one, SIDE * one + SIDE) for one in place]
            there = list(here)
            here[axis], there[axis] = SIDE * other[axis] - 1, SIDE * other[axis]
            weight = np.minimum(volume[tuple(here)], volume[tuple(there)]).mean()
            one, two = cell(*place), cell(*other)
            found[one, two] = found[two, one] = weight
    return found


def test_nodes_say_how_bright_cells_are() -> None:
    volume = np.random.default_rng(0).random((1, 1, *SPACE))
    (graph,) = graphs_of(volume)
    for z, y, x in ((0, 0, 0), (6, 2, 5), (3, 6, 6)):
        part = volume[0, 0, 4 * z : 4 * z + 4, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        expected = [part.mean(), 2 * part.std(), part.max()]
        np.testing.assert_allclose(graph[cell(z, y, x), :SAID], expected, rtol=1e-5)


def test_messages_go_along_the_edges_that_voxels_make() -> None:
    volume = np.random.default_rng(1).random(SPACE) ** 4
    (graph,) = torch.from_numpy(graphs_of(volume[None, None]))
    step = Messages(2, 4).double()
    states = torch.randn(1, NODES, 2, dtype=torch.float64)
    seen: list[torch.Tensor] = []
    step.mix.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    step(states, graph[None, :, SAID:].double())
    heard = torch.from_numpy(adjacency(volume)) @ states[0]
    torch.testing.assert_close(seen[0][0], torch.cat([states[0], heard], 1), rtol=0, atol=1e-6)


def test_vessels_that_pass_without_touching_are_not_joined() -> None:
    apart, joined = np.zeros((2, 1, *SPACE))
    apart[0, :6, 1, 1] = apart[0, 7:, 1, 1] = 1.0  # a voxel is missing at a place within a cell
    joined[0, :, 1, 1] = 1.0
    edges = graphs_of(np.stack([apart, joined]))[:, :, SAID:]
    along = [cell(z, 0, 0) for z in range(CELLS - 1)]
    np.testing.assert_allclose(edges[1, along, 1], 1 / SIDE**2)
    apart[0, 7:12, 1, 1] = 0.0
    (gap,) = graphs_of(apart[None])[:, :, SAID:]
    assert gap[cell(0, 0, 0), 1] > 0
    assert gap[cell(1, 0, 0), 1] == gap[cell(2, 0, 0), 0] == 0
    assert not edges[:, :, 2:].any()  # no vessel goes along the other axes


def test_each_volume_is_by_itself_and_one_that_is_not_finite_is_none() -> None:
    volumes = np.random.default_rng(2).random((3, 1, *SPACE)).astype(np.float32)
    whole = graphs_of(volumes)
    for number in range(3):
        assert np.array_equal(graphs_of(volumes[number : number + 1])[0], whole[number])
    volumes[1, 0, 0, 0, 0] = np.inf
    found = graphs_of(volumes)
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("shape", [(2, 9, 7, 30), (1, 56, 56, 56)])
def test_volumes_of_another_size_become_the_same_graph(shape: tuple[int, ...]) -> None:
    even = graphs_of(np.full((1, *shape), 0.25))
    np.testing.assert_allclose(even[0, :, 0], 0.25, rtol=1e-5)
    assert even.shape == (1, NODES, 9)
    assert (even[0, :, SAID:] > 0).sum() == 6 * CELLS**2 * (CELLS - 1)


def test_clipped_sum_is_that_of_patients_one_by_one() -> None:
    module = build_model(Settings.from_config({"model.name": "graph"}), info((1, *SPACE)), 1)
    volumes = np.random.default_rng(3).random((5, 1, *SPACE)) ** 3
    batch = Batch(
        inputs=torch.from_numpy(graphs_of(volumes)),
        labels=torch.tensor([0, 1, 1, 0, 1]),
        patients=torch.tensor([0, 0, 1, 2, 2]),
    )
    found = clipped_gradient_sum(PerSample(module), batch, l2_clip=0.5)
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    total = one_by_one(module, loss, batch, l2_clip=0.5)
    torch.testing.assert_close(torch.from_numpy(found.total), total, rtol=1e-3, atol=1e-5)


def test_volume_with_fewer_voxels_than_cells_is_refused() -> None:
    with pytest.raises(ModelError, match="7 voxels and up"):
        build_model(Settings.from_config({"model.name": "graph"}), info((1, 28, 6, 28)), 1)
