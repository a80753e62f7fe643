"""How messages are divided among calls; what actors do with them is tested with real engines."""

from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.run import Run

from simulations.engines.ray_grid import CALL_BYTES, RayGrid, _Call


def envelopes(nodes: range) -> list:
    return [Message(RecordDict(), node, "train").metadata for node in nodes]


def grid_that_saw(seconds: dict[int, float], reply_bytes: int = 0) -> RayGrid:
    """A grid of one actor that has learnt how long each hospital works."""
    grid = RayGrid([None], dict.fromkeys(seconds, 0), Run.create_empty(7))
    asked = envelopes(range(min(seconds), max(seconds) + 1))
    array = Array("uint8", (reply_bytes,), "raw", bytes(reply_bytes))
    content = RecordDict({"arrays": ArrayRecord({"x": array})})
    replies = [Message(content, node, "train") for node in seconds]
    call = _Call(None, asked, 0, 0.0)
    grid._learn(call, replies, [seconds[e.dst_node_id] for e in asked])
    return grid


def sizes(grid: RayGrid, nodes: range) -> list[int]:
    return [len(call.envelopes) for call in grid._calls(None, envelopes(nodes), 0)]


def test_little_work_travels_in_one_call() -> None:
    nodes = range(10, 60)
    assert sizes(grid_that_saw(dict.fromkeys(nodes, 0.001)), nodes) == [50]


def test_much_work_is_halved_until_it_is_little() -> None:
    nodes = range(10, 42)
    found = sizes(grid_that_saw(dict.fromkeys(nodes, 2**-5)), nodes)
    assert found == [16, 8, 4, 4]
    assert sum(found) == len(nodes)


def test_the_longest_work_comes_first_and_alone() -> None:
    nodes = range(10, 20)
    grid = grid_that_saw(dict.fromkeys(nodes, 0.01) | {15: 2.0})
    calls = list(grid._calls(None, envelopes(nodes), 0))
    assert [e.dst_node_id for e in calls[0].envelopes] == [15]
    assert calls[0].seconds == pytest.approx(2.0)


def test_large_replies_keep_calls_small() -> None:
    nodes = range(10, 40)
    grid = grid_that_saw(dict.fromkeys(nodes, 0.001), reply_bytes=CALL_BYTES // 4)
    assert max(sizes(grid, nodes)) == 4


def test_what_was_learnt_follows_a_change() -> None:
    nodes = range(10, 12)
    grid = grid_that_saw(dict.fromkeys(nodes, 0.1))
    [first] = envelopes(range(10, 11))
    for _ in range(8):
        grid._learn(_Call(None, [first], 0, 0.0), [Message(RecordDict(), 10, "train")], [0.3])
    assert grid._seconds(first) == pytest.approx(0.3, rel=0.01)
