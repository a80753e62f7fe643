"""Frames: safetensors files of which the digest is known without a copy."""

from __future__ import annotations

import hashlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load

from clients.contract.settings import Settings
from clients.learning import frames
from clients.learning.frames import frame_digest, frame_from_bytes, frame_size, frame_to_bytes
from clients.learning.replica import Replica

KINDS = st.sampled_from(["<f4", "<f8", "<i8", "|u1"])
SHAPES = arrays_of.array_shapes(min_dims=0, min_side=0)
ARRAYS = st.dictionaries(
    st.text('abc.é"\\', min_size=1, max_size=6),
    KINDS.flatmap(lambda kind: arrays_of.arrays(np.dtype(kind), SHAPES)),
    min_size=1,
    max_size=4,
)


@given(ARRAYS)
def test_a_frame_is_a_safetensors_file_and_its_digest_and_size_are_those_of_its_bytes(arrays):
    data = frame_to_bytes(arrays)
    assert (len(data), hashlib.sha256(data).digest()) == (frame_size(arrays), frame_digest(arrays))
    for found in (load(data), frame_from_bytes(data, arrays)):
        assert set(found) == set(arrays)
        for name, one in arrays.items():
            np.testing.assert_array_equal(found[name], one)
            assert (found[name].dtype, found[name].shape) == (one.dtype, one.shape)


def test_bytes_of_the_same_size_that_hold_something_else_are_no_frame():
    like = {"a": np.zeros(4, np.float32), "b": np.zeros(2, np.float64)}
    other = {"a": np.zeros(2, np.float64), "b": np.zeros(4, np.float32)}
    assert frame_size(like) == frame_size(other)
    for data in (frame_to_bytes(other), bytes(frame_size(like)), frame_to_bytes(like)[::-1]):
        with pytest.raises(ValueError, match="frame"):
            frame_from_bytes(data, like)


def test_order_in_memory_and_of_names_do_not_matter():
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = {"b": np.ones(1), "a": np.asfortranarray(one)}
    assert frame_digest(turned) == frame_digest({"a": one, "b": np.ones(1)})


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "yogi"])
def test_a_replicas_digest_copies_none_of_it(optimizer):
    from torch import nn

    settings = Settings.from_config({"exchange.optimizer": optimizer, "training.momentum": 0.9})
    replica = Replica(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 2)), settings)
    replica.step(np.ones(replica.dimensions), "ab" * 32)
    with mock.patch.object(frames, "frame_to_bytes", None):
        digest = replica.state_digest()
    assert digest == hashlib.sha256(replica.to_bytes()).digest()
    replica.step(np.ones(replica.dimensions), "cd" * 32)
    assert replica.state_digest() != digest
