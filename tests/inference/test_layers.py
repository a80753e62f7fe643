"""Every layer of a shared model against torch, and arithmetic against whole numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from two_parties import play

from crypto.errors import PrecisionError
from crypto.inference.activations import Relu, Tanh
from crypto.inference.answers import Favourite, Logits
from crypto.inference.comparisons import backwards
from crypto.inference.joining import Addition, Concatenation, Flattening, Truncation
from crypto.inference.normalising import SCALE, GroupNorm, Scaling
from crypto.inference.pooling import Maximum, Mean, windows_of
from crypto.inference.programs import Program, ProgramError, read_program
from crypto.inference.weighted import Convolution, Linear, Weights
from crypto.inference.words import decode, encode, limbs, product, small_product

UNIT = 2.0**-16
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def opened(layers, picture, weights=None):
    """Return what layers make of a picture."""
    n = len(layers)
    end = (Flattening(inputs=(n,)), Logits(inputs=(n + 1,)))
    return play(Program(picture.shape, (*layers, *end)), weights or {}, picture).reals


def pictures(seed, shape=(4, 7, 9), scale=3.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


@few
@given(seeds, st.integers(1, 3), st.integers(1, 2500), st.integers(1, 4))
def test_products_of_any_words_are_exact(seed, rows, terms, columns):
    draw = np.random.default_rng(seed)
    left, right = (
        draw.integers(0, 2**64, shape, dtype=np.uint64)
        for shape in ((rows, terms), (terms, columns))
    )
    # The words whose limbs are largest, and those that borrow through every limb.
    right[0] = draw.choice(np.array([2**63, 2**64 - 1, 2**21, 2**42 + 2**21], np.uint64), columns)
    exact = (left[:, :, None] * right[None]).sum(axis=1)
    assert (product(limbs(left), limbs(right)) == exact).all()
    small = draw.integers(-(2**20), 2**20, (rows, terms))
    exact = (small.astype(np.uint64)[:, :, None] * right[None]).sum(axis=1)
    assert (small_product(small.astype(np.float64), limbs(right)) == exact).all()


def test_bits_go_to_the_place_that_is_their_number_backwards():
    for place in range(64):
        there = int(backwards(np.array([1 << place], np.uint64))[0])
        assert there == 1 << int(f"{place:06b}"[::-1], 2)


@few
@given(seeds, st.integers(1, 31))
def test_a_division_is_off_by_less_than_one_unit_at_any_size(seed, shift):
    draw = np.random.default_rng(seed)
    sizes = 2.0 ** draw.uniform(0, 44.9, 200) * draw.choice([-1, 1], 200)
    values = np.concatenate([[0, 1, -1, 2.0**44, -(2.0**44)], np.rint(sizes)]) * UNIT
    shift = min(shift, 24)
    exact = encode(values).view(np.int64) / 2.0**shift
    plain = Program((len(values),), (Truncation(inputs=(0,), shift=shift), Logits(inputs=(1,))))
    small = np.abs(exact) < 2.0**30  # what is opened has 32 bits
    found = play(plain, {}, values).answer.view(np.int64)
    assert (np.abs(found - exact)[small] < 1).all()
    positive = Program((len(values),), (Relu(inputs=(0,), shift=shift), Logits(inputs=(1,))))
    found = play(positive, {}, values).answer.view(np.int64)
    assert (np.abs(found - np.maximum(exact, 0))[small] < 1).all()


@pytest.mark.parametrize("first", [Truncation, Relu])
def test_divisions_and_signs_are_right_at_the_ends_of_the_range(first):
    ends = np.array([2**62 - 1, -(2**62), 2**61, -(2**61) - 1, 5, -5, 0, -1], np.int64)
    layers = (first(inputs=(0,), shift=31), Truncation(inputs=(1,), shift=2), Logits(inputs=(2,)))
    nothing = np.zeros(len(ends), np.uint64)
    # Shared as they are, as numbers so large cannot be encoded.
    made = play(
        Program((len(ends),), layers), {}, nothing, providers=ends.view(np.uint64), patients=nothing
    )
    expected = (np.maximum(ends, 0) if first is Relu else ends) / 2.0**33
    assert (np.abs(made.answer.view(np.int64) - expected) < 1.5).all()


@few
@given(seeds, st.integers(0, 20))
def test_relu_is_torchs(seed, shift):
    picture = pictures(seed) * 2.0**shift
    found = opened([Relu(inputs=(0,), shift=shift)], picture)
    expected = np.maximum(picture, 0).reshape(-1) / 2.0**shift
    assert np.abs(found - expected).max() <= UNIT * (1 if shift else 0.5)


@few
@given(
    seeds,
    st.sampled_from([(3, 2, 0, True), (3, 2, 1, False), (2, 2, 0, False), (3, 1, 1, True)]),
    st.integers(4, 9),
    st.integers(4, 9),
)  # fmt: skip
def test_maximum_is_torchs(seed, form, rows, columns):
    kernel, stride, padding, ceil = form
    picture = pictures(seed, (2, rows, columns))
    found = opened(
        [Maximum(inputs=(0,), kernel=kernel, stride=stride, padding=padding, ceil=int(ceil))],
        picture,
    )
    expected = nn.functional.max_pool2d(
        torch.from_numpy(picture)[None], kernel, stride, padding, ceil_mode=ceil
    )
    assert np.abs(found - expected.numpy().reshape(-1)).max() <= UNIT


@few
@given(seeds, st.integers(1, 5), st.integers(5, 9), st.integers(5, 9))
def test_means_are_torchs(seed, out, rows, columns):
    picture = pictures(seed, (3, rows, columns))
    whole = torch.from_numpy(picture)[None]
    adaptive = Mean(
        inputs=(0,), rows=windows_of(rows, out=out), columns=windows_of(columns, out=out)
    )
    expected = nn.functional.adaptive_avg_pool2d(whole, out).numpy().reshape(-1)
    assert np.abs(opened([adaptive], picture) - expected).max() <= 2 * UNIT
    windows = [windows_of(side, kernel=2, stride=2) for side in (rows, columns)]
    moving = Mean(inputs=(0,), rows=windows[0], columns=windows[1])
    expected = nn.functional.avg_pool2d(whole, 2).numpy().reshape(-1)
    assert np.abs(opened([moving], picture) - expected).max() <= 2 * UNIT


@few
@given(seeds)
def test_tanh_is_torchs(seed):
    picture = pictures(seed, scale=4.0)
    picture.flat[:6] = [0.0, 6.0, -6.0, 5.99, 900.0, -900.0]
    found = opened([Tanh(inputs=(0,), shift=0)], picture)
    assert np.abs(found - np.tanh(picture).reshape(-1)).max() < 6 * UNIT


@few
@given(seeds, st.sampled_from([1, 2, 4]), st.floats(-4, 5))
def test_group_norm_is_torchs_whatever_the_variance(seed, groups, size):
    draw = np.random.default_rng(seed)
    picture = pictures(seed, scale=2.0**size)
    factor, offset = draw.normal(size=4) + 1, draw.normal(size=4)
    expected = nn.functional.group_norm(
        torch.from_numpy(picture)[None], groups, torch.from_numpy(factor), torch.from_numpy(offset)
    )
    found = opened(
        [GroupNorm(inputs=(0,), groups=groups, epsilon=1e-5), Truncation(inputs=(1,), shift=SCALE)],
        picture,
        {"1": Scaling.of(factor, offset)},
    )
    # Half a unit of the picture is worth 2**-17 / its deviation.
    bound = 1e-4 * np.abs(expected.numpy()).max() + UNIT * (2 + 4 / 2.0**size)
    assert np.abs(found - expected.numpy().reshape(-1)).max() < bound


@few
@given(seeds, st.sampled_from([(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (5, 2, 2), (7, 2, 3)]))
def test_convolutions_are_torchs(seed, form):
    kernel, stride, padding = form
    draw = np.random.default_rng(seed)
    picture = pictures(seed)
    matrix, bias = draw.normal(size=(5, 4, kernel, kernel)), draw.normal(size=5)
    expected = nn.functional.conv2d(
        torch.from_numpy(picture)[None],
        torch.from_numpy(matrix),
        torch.from_numpy(bias),
        stride,
        padding,
    )
    layer = Convolution(
        inputs=(0,), out=5, kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(padding,) * 2
    )
    weights = {"1": Weights.of(matrix.reshape(5, -1), bias, "it")}
    found = opened([layer, Truncation(inputs=(1,), shift=16)], picture, weights)
    terms = 4 * kernel * kernel
    assert np.abs(found - expected.numpy().reshape(-1)).max() < UNIT * (2 + 3 * terms)


def test_linear_layers_sums_and_joins_are_what_they_say():
    draw = np.random.default_rng(0)
    row, matrix, bias = draw.normal(size=6), draw.normal(size=(3, 6)), draw.normal(size=3)
    layers = (
        Linear(inputs=(0,), out=3),
        Addition(inputs=(1, 1), shifts=(0, 2)),
        Truncation(inputs=(2,), shift=16),
        Concatenation(inputs=(3, 0)),
        Logits(inputs=(4,)),
    )
    found = play(Program((6,), layers), {"1": Weights.of(matrix, bias, "it")}, row).reals
    expected = np.concatenate([5 * (matrix @ row + bias), row])
    assert np.abs(found - expected).max() < 40 * UNIT


@few
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=6))
def test_the_favourite_is_the_first_of_the_largest(logits):
    program = Program((len(logits),), (Favourite(inputs=(0,)),))
    assert int(play(program, {}, np.array(logits, float)).answer[0]) == int(np.argmax(logits))


def test_both_shares_may_be_anything_as_long_as_their_sum_is_the_picture():
    picture = pictures(1)
    share = np.random.default_rng(2).integers(0, 2**64, picture.shape, dtype=np.uint64)
    program = Program(
        picture.shape, (Relu(inputs=(0,), shift=0), Flattening(inputs=(1,)), Logits(inputs=(2,)))
    )
    found = play(program, {}, picture, providers=share).reals
    assert np.abs(found - np.maximum(picture, 0).reshape(-1)).max() <= UNIT / 2


def test_numbers_that_cannot_be_shared_are_refused():
    for value in (np.nan, np.inf, 2.0**30):
        with pytest.raises(PrecisionError):
            encode([value])
    with pytest.raises(PrecisionError, match="layer 3"):
        Weights.of(np.full((1, 5), 20_000.0), np.zeros(1), "layer 3")
    assert decode(encode([-1.5, 2.25])).tolist() == [-1.5, 2.25]


def some_program():
    return Program(
        (1, 5, 5),
        (
            Convolution(inputs=(0,), out=2, kernel=(3, 3), stride=(1, 1), padding=(0, 0)),
            Mean(inputs=(1,), rows=((0, 2),), columns=((0, 2), (1, 3))),
            Flattening(inputs=(2,)),
            Linear(inputs=(3,), out=2),
            Truncation(inputs=(4,), shift=16),
            Logits(inputs=(5,)),
        ),
    ).to_json()


WRONG = (
    (("shape",), [1, 5, -5]),
    (("shape",), [1, 2, 2]),
    (("shape",), "155"),
    (("layers", 0, "inputs"), [1]),
    (("layers", 0, "inputs"), []),
    (("layers", 0, "out"), 2**40),
    (("layers", 0, "out"), True),
    (("layers", 0, "kernel"), [3]),
    (("layers", 0, "stride"), [0, 1]),
    (("layers", 1, "rows"), [[0, 9]]),
    (("layers", 1, "rows"), []),
    (("layers", 4, "shift"), 62),
    (("layers", 4, "kind"), "logits"),
    (("layers", 5, "kind"), "shell"),
    (("layers", 3, "more"), 1),
    (("layers",), []),
)


def test_a_program_that_came_from_elsewhere_is_checked_whole():
    good = some_program()
    assert read_program(json.loads(json.dumps(good))).to_json() == good
    for path, wrong in WRONG:
        bad = json.loads(json.dumps(good))
        place = bad
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = wrong
        with pytest.raises(ProgramError):
            read_program(bad)
