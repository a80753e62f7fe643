import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from accounting.errors import AccountingError
from accounting.randomness import NORMAL_ERROR, Stream

ROOT = Path(__file__).resolve().parents[2]


def stream(*labels):
    return Stream.from_seed(20260, *labels)


def test_a_seeded_stream_repeats_itself_and_an_unseeded_one_does_not():
    assert np.array_equal(stream("a", 1).normal(1000), stream("a", 1).normal(1000))
    assert not np.array_equal(Stream.fresh().normal(1000), Stream.fresh().normal(1000))
    assert stream("a").seeded and not Stream.fresh().seeded


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a", "b"), ("ab",)),
        (("a", "b"), ("b", "a")),
        ((1,), ("1",)),
        ((12, 3), (1, 23)),
        (("a",), (b"a",)),
        (("a",), ("a", "")),
        ((-1,), (1,)),
    ],
)
def test_different_labels_never_share_a_stream(left, right):
    assert not np.array_equal(stream(*left).words(4), stream(*right).words(4))


def test_the_seed_separates_streams_however_large_it_is():
    seeds = [0, 1, -1, 2**32, 2**64, 2**64 + 1]
    assert len({Stream.from_seed(seed, "x").bytes(8) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("label", [1.0, None, True])
def test_a_label_of_another_type_is_refused(label):
    with pytest.raises(AccountingError, match="label"):
        stream(label)


def test_a_stream_shows_no_key_and_cannot_be_copied():
    one = stream("secret")
    assert repr(one) == "Stream(seeded=True)"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="key"):
            copied(one)


FORKED = """
import os
from accounting.randomness import Stream

for one in (Stream.fresh(), Stream.from_seed(1, "fork")):
    one.bytes(8)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, one.bytes(8))
        os._exit(0)
    os.wait()
    print(os.read(reading, 8) == one.bytes(8))
"""


def test_a_forked_process_does_not_replay_its_parents_secret_stream():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # What is repeatable repeats itself there too: the negative control.
    assert done.stdout.split() == ["False", "True"]


def test_uniform_stays_inside_the_open_interval_and_is_uniform():
    drawn = stream("uniform").uniform(200_000)
    assert drawn.min() > 0.0 and drawn.max() < 1.0
    assert stats.kstest(drawn, "uniform").pvalue > 0.01
    assert stats.kstest(drawn**1.02, "uniform").pvalue < 1e-6


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_normal_has_the_right_distribution_and_two_thirds_of_sigma_is_rejected(scale):
    drawn = scale * stream("normal", str(scale)).normal(200_000)
    assert stats.kstest(drawn, "norm", args=(0.0, scale)).pvalue > 0.01
    assert stats.kstest(drawn * 2 / 3, "norm", args=(0.0, scale)).pvalue < 1e-12
    deviations = np.array([1.0, 2.0, 3.0, 4.0])
    expected = 2 * ndtr(-deviations) * drawn.size
    found = [(np.abs(drawn) > z * scale).sum() for z in deviations]
    assert np.all(np.abs(found - expected) < 4 * np.sqrt(expected) + 1)
    small = [(np.abs(drawn * 2 / 3) > z * scale).sum() for z in deviations]
    assert np.any(np.abs(small - expected) > 10 * np.sqrt(expected))


def test_normal_values_are_uncorrelated_between_neighbours_and_signs():
    drawn = stream("pairs").normal(200_000)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert abs(np.mean(drawn > 0) - 0.5) < 0.005


class Words(Stream):
    """A stream of chosen 64-bit words, to reach the far tail on purpose."""

    def __init__(self, *words):
        super().__init__(bytes(32), seeded=True)
        self.chosen = list(words)

    def bytes(self, count):
        taken = [self.chosen.pop(0) for _ in range(count // 8)]
        return b"".join(word.to_bytes(8, "little") for word in taken)


@pytest.mark.parametrize(
    "magnitude", [0, 1, 5, 2**20, 2**40, 2**53 - 1, 2**54 + 1, 2**62, 2**63 - 1]
)
@pytest.mark.parametrize("sign", [0, 1])
def test_normal_is_the_inverse_of_an_uncut_uniform_as_far_as_it_goes(magnitude, sign):
    mpmath = pytest.importorskip("mpmath")
    fraction = 2**63 + 2**12 - 1
    value = Words(2 * magnitude + sign, fraction).normal(1)[0]
    with mpmath.workdps(40):
        refined = magnitude < 2**54
        u = mpmath.mpf((fraction >> 12) + 0.5) * mpmath.mpf(2) ** -52 if refined else 0.5
        p = (mpmath.mpf(magnitude) + u) * mpmath.mpf(2) ** -64
        exact = -mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * p) if p > 1e-3 else None
        if exact is None:
            exact = mpmath.findroot(lambda x: mpmath.log(mpmath.ncdf(x) / p), -abs(value) - 1e-9)
        error = abs(abs(value) - abs(exact))
    assert error <= NORMAL_ERROR * (abs(value) + 1)
    assert math.copysign(1, value) == (1 if sign else -1) or value == 0.0


def test_the_far_tail_is_finer_than_53_bit_uniforms_can_be():
    one = Words(0, 2**63, 2, 2**63)
    beyond, near = one.normal(1)[0], one.normal(1)[0]
    assert beyond < near < -8.3  # 53-bit uniforms have nothing below -8.3


def test_bernoulli_draws_each_patient_with_the_rate_and_independently():
    chosen = stream("poisson").bernoulli(400_000, 0.0341297)
    assert abs(chosen.mean() - 0.0341297) < 4 * math.sqrt(0.0341297 / 400_000)
    batches = chosen.reshape(400, 1000).sum(axis=1)
    assert 0.8 < batches.var() / (1000 * 0.0341297 * (1 - 0.0341297)) < 1.2


@pytest.mark.parametrize("probability", [2.0**-64, 2.0**-70, 0.1, 1 / 3, 1 - 2.0**-53])
def test_bernoulli_compares_with_the_probability_to_the_last_bit(probability):
    numerator, denominator = probability.as_integer_ratio()
    threshold = (numerator << 128) // denominator
    for value, expected in ((threshold - 1, True), (threshold, False)):
        one = Words(value >> 64, value & (2**64 - 1))
        assert one.bernoulli(1, probability)[0] == expected


def test_bernoulli_at_the_ends_is_certain():
    assert stream("x").bernoulli(1000, 1.0).all()
    assert not stream("x").bernoulli(1000, 0.0).any()
    assert stream("x").bernoulli(0, 0.5).shape == (0,)
    for probability in (-0.1, 1.1, float("nan")):
        with pytest.raises(AccountingError, match="probability"):
            stream("x").bernoulli(3, probability)


def test_integers_are_unbiased_where_a_remainder_would_not_be():
    below = 3 * 2**61
    drawn = stream("integers").integers(30_000, below)
    assert drawn.min() >= 0 and drawn.max() < below
    assert abs(np.mean(drawn < below // 3) - 1 / 3) < 0.012  # a plain remainder gives 1/2
    assert set(stream("die").integers(1000, 6)) == set(range(6))
    for bad in (0, -1, 2**63 + 1):
        with pytest.raises(AccountingError, match="below"):
            stream("x").integers(1, bad)


def test_permutations_are_all_equally_likely():
    one = stream("order")
    seen = [tuple(one.permutation(3)) for _ in range(6000)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01
    assert sorted(one.permutation(1000)) == list(range(1000))
    assert one.permutation(0).shape == (0,)
