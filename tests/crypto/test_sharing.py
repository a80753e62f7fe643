"""Shamir's sharing modulo 65521, against Python's integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto import sharing
from crypto.sharing import PRIME


def test_the_prime_is_the_largest_below_two_bytes():
    assert all(PRIME % small for small in range(2, 256))
    assert not any(
        all(number % small for small in range(2, 256)) for number in range(PRIME + 1, 2**16)
    )


@settings(max_examples=50, deadline=None)
@given(values=some.lists(some.integers(-(2**51), 2**51), min_size=1))
def test_residues_are_those_of_integers(values):
    found = sharing.reduce(np.array(values, dtype=np.float64))
    assert found.tolist() == [value % PRIME for value in values]


def test_residues_at_the_edges():
    edges = [k * PRIME + e for k in (0, 1, 2**20, 2**35, -1, -(2**35)) for e in (-1, 0, 1)]
    found = sharing.reduce(np.array(edges, dtype=np.float64))
    assert found.tolist() == [value % PRIME for value in edges]


def dealt(threshold, holders, seed, degree=64, most=32):
    dice = np.random.default_rng(seed)
    key = dice.integers(-most, most + 1, degree)
    points = list(range(1, holders + 1))
    derived = {
        point: dice.integers(0, PRIME, degree).astype(np.float64)
        for point in dice.permutation(points)[: threshold - 1].tolist()
    }
    sent = [point for point in points if point not in derived]
    shares = dict(zip(sent, sharing.shares_of(key, derived, sent), strict=True))
    return key, {point: (derived | shares)[point] for point in points}


@settings(max_examples=40, deadline=None)
@given(
    holders=some.integers(1, 20),
    data=some.data(),
    seed=some.integers(0, 2**32),
)
def test_any_t_shares_give_the_key(holders, data, seed):
    threshold = data.draw(some.integers(1, holders))
    key, shares = dealt(threshold, holders, seed)
    chosen = data.draw(some.permutations(sorted(shares)))[:threshold]
    found = sharing.interpolate({point: shares[point] for point in chosen}, [0])[0]
    assert np.array_equal(sharing.centred(found), key)


def test_fewer_than_t_shares_are_independent_of_the_key():
    """For any key whatever there are polynomials through the t - 1 shares that were seen."""
    key, shares = dealt(4, 6, 1)
    seen = {point: shares[point] for point in (1, 2, 5)}
    for other in (key, -key, np.zeros_like(key)):
        rest = sharing.shares_of(other, seen, [3, 4, 6])
        whole = {**seen, **dict(zip([3, 4, 6], rest, strict=True))}
        again = sharing.interpolate({p: whole[p] for p in (2, 3, 4, 6)}, [0])[0]
        assert np.array_equal(sharing.centred(again), other)


def test_sums_of_shares_are_shares_of_the_sum():
    made = [dealt(7, 10, seed) for seed in range(9)]
    total = {p: sharing.reduce(sum(shares[p] for _, shares in made)) for p in range(1, 11)}
    found = sharing.interpolate({p: total[p] for p in (1, 2, 4, 5, 8, 9, 10)}, [0])[0]
    assert np.array_equal(sharing.centred(found), sum(key for key, _ in made))


@pytest.mark.parametrize("wrong", [(3,), (1, 9)])
def test_wrong_answers_are_told_from_right_ones(wrong):
    key, shares = dealt(7, 10, 3)
    dice = np.random.default_rng(4)
    for point in wrong:
        shares[point] = dice.integers(0, PRIME, 64).astype(np.float64)
    found = list(sharing.key_candidates(shares, 7, 32))
    assert len(found) == 1
    assert np.array_equal(found[0][0], key)
    assert found[0][1] == frozenset(range(1, 11)) - set(wrong)


def test_among_many_holders_errors_are_located_by_decoding():
    key, shares = dealt(16, 20, 5, degree=256)
    assert sharing.locate(shares, 16) == frozenset(range(1, 21))
    for point in (2, 17):
        shares[point] = sharing.reduce(shares[point] + 1)
    good = frozenset(range(1, 21)) - {2, 17}
    assert sharing.locate(shares, 16) == good
    found = list(sharing.key_candidates(shares, 16, 32))
    assert np.array_equal(found[0][0], key)
    assert found[0][1] == good
    # More than half of those to spare cannot be located, and nothing false is.
    shares[9] = sharing.reduce(shares[9] + 5)
    assert sharing.locate(shares, 16) in (None, good - {9})


def test_with_t_answers_alone_a_wrong_one_leaves_nothing():
    _, shares = dealt(3, 5, 6)
    chosen = {point: shares[point] for point in (1, 3, 5)}
    chosen[3] = sharing.reduce(chosen[3] + 1)
    assert list(sharing.key_candidates(chosen, 3, 32)) == []
