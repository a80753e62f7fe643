"""Rough normal values stay within their bound, and what is made with them is the same bits."""

import os
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from accounting import normals
from accounting.errors import AccountingError
from accounting.grid import plan_grid
from accounting.noise import make_noise_plan
from accounting.noising import _in_steps, draw_ahead, noised_unpaid
from accounting.normals import Normals, Room, Rough
from accounting.parts import Seeds, part_stream
from accounting.randomness import CHUNK, Stream


def plain_normal(stream, count):
    """Every value by the inverse CDF, written out: what noise is, to the bit."""
    values = np.empty(count)
    for start in range(0, count, CHUNK):
        part = values[start : start + CHUNK]
        words = np.frombuffer(stream.bytes(8 * len(part)), dtype="<u8")
        magnitude = (words >> np.uint64(1)).astype(np.int64)
        p = magnitude.astype(np.float64)
        small = np.flatnonzero(p < 2.0**54)
        late = np.frombuffer(stream.bytes(8 * len(small)), dtype="<u8") >> np.uint64(12)
        p += 0.5
        p[small] = magnitude[small] + (late.astype(np.float64) + 0.5) * 2.0**-52
        part[:] = np.where(words & np.uint64(1), -1.0, 1.0) * ndtri(p * 2.0**-64)
    return values


def plain_noised(values, grid, stream, seeds=None):
    """Clamp, add every part of the noise, round once: whole vectors, nothing rough."""
    scaled = np.clip(values, -grid.clamp, grid.clamp) / grid.step
    whole = np.rint(scaled)
    draws = plain_normal(stream, values.size) * _in_steps(grid, 0)
    for part, seed in enumerate(() if seeds is None else seeds.each, start=1):
        draws += plain_normal(part_stream(seed), values.size) * _in_steps(grid, part)
    draws += scaled - whole
    whole += np.rint(draws)
    limit = (grid.levels - 1) // 2
    return np.clip(whole, -limit, limit) * grid.step


def planned(*, dropouts=0, finer=1.0):
    plan = make_noise_plan(
        "semi-central", noise_multiplier=5.0, hospitals=10, dropouts=dropouts, removable=True
    )
    grid = plan_grid(
        dimensions=100_000,
        hospitals=10,
        plan=plan,
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=60,
        epsilon=1.0,
        delta=1e-4,
    )
    return replace(grid, step=grid.step / finer)


def every_kind_of_word(count):
    """Random words, those at the ends of cells, and the ends of all."""
    drawn = np.random.default_rng(1).integers(2**64, size=count, dtype=np.uint64)
    cells = np.arange(2**13, dtype=np.uint64) << np.uint64(51)
    ends = [cells, cells + np.uint64(1), cells - np.uint64(1), cells - np.uint64(2)]
    return np.concatenate([drawn, *ends])


def rough_and_exact(words):
    small = np.flatnonzero(words < normals.SMALL)
    drawn = Normals(words, small, np.full(small.size, 0.5))
    room = Room(words.size)
    return drawn.rough(Rough.of(3.0), room).astype(np.float64), 3.0 * drawn.exact()


def test_a_rough_value_is_within_its_bound_and_there_is_none_in_the_tails():
    words = every_kind_of_word(1_000_000)
    rough, exact = rough_and_exact(words)
    tails = np.isnan(rough)
    assert np.array_equal(tails, words >> np.uint64(51) < 64)
    off = np.abs(rough - exact)[~tails].max()
    bound = Rough.of(3.0).error
    assert bound / 4 < off <= bound  # a bound that is far too large would only cost time
    assert np.abs(exact[~tails]).max() < 3.0 * normals.ROUGH_REACH


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_normal_values_are_the_inverse_of_their_words_to_the_bit(size):
    one, other = Stream.from_seed(1, "a"), Stream.from_seed(1, "a")
    assert np.array_equal(one.normal(size), plain_normal(other, size))
    assert one.bytes(8) == other.bytes(8)  # both have taken as much


@pytest.mark.parametrize("finer", [1.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("size", [1, CHUNK + 1, 3 * CHUNK + 7])
def test_noise_lands_on_the_same_steps_as_if_all_of_it_were_computed(size, finer):
    grid = planned(finer=finer)
    values = np.random.default_rng(2).normal(size=size) * grid.clamp
    one, other = Stream.from_seed(2, "noise"), Stream.from_seed(2, "noise")
    assert np.array_equal(noised_unpaid(values, grid, one), plain_noised(values, grid, other))
    assert one.bytes(8) == other.bytes(8)


@pytest.mark.parametrize("finer", [1.0, 1e4])
def test_so_does_noise_in_parts(finer):
    grid = planned(dropouts=2, finer=finer)
    seeds = Seeds.drawn(Stream.from_seed(3, "seeds"), grid.parts)
    values = np.random.default_rng(3).normal(size=(2, CHUNK))
    found = noised_unpaid(values, grid, Stream.from_seed(3, "noise"), seeds)
    plain = plain_noised(values.reshape(-1), grid, Stream.from_seed(3, "noise"), seeds)
    assert len(seeds.each) == 2
    assert np.array_equal(found, plain.reshape(values.shape))


def between_two_steps(grid, size, away):
    """Values whose noise brings them to the middle between two steps, or so far away from it."""
    noise = plain_normal(Stream.from_seed(4, "noise"), size) * _in_steps(grid, 0)
    middles = np.random.default_rng(4).integers(-20, 20, size) + 0.5
    values = (middles + np.resize(away, size) - noise) * grid.step
    return np.where(np.abs(values) < grid.clamp, values, 0.0)


AWAY = [0.0, 1e-15, -1e-15, 1e-9, -1e-9, 1e-6, -1e-6, 6e-5, -6e-5, 1e-4, -1e-4]


def test_what_lies_between_two_steps_falls_as_exact_noise_lets_it():
    grid = planned()
    values = between_two_steps(grid, 2 * CHUNK, AWAY)
    found = noised_unpaid(values, grid, Stream.from_seed(4, "noise"))
    assert np.array_equal(found, plain_noised(values, grid, Stream.from_seed(4, "noise")))


def test_with_a_bound_that_is_too_small_it_would_fall_elsewhere(monkeypatch):
    whole = Rough.of
    monkeypatch.setattr(
        "accounting.noising.Rough.of", lambda s: whole(s)._replace(error=whole(s).error / 100)
    )
    grid = planned()
    values = between_two_steps(grid, 2 * CHUNK, AWAY)
    found = noised_unpaid(values, grid, Stream.from_seed(4, "noise"))
    assert not np.array_equal(found, plain_noised(values, grid, Stream.from_seed(4, "noise")))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, CHUNK + 3])
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(wrong, at):
    values = np.zeros(CHUNK + 5)
    values[at] = wrong
    with pytest.raises(Exception, match="not finite"):
        noised_unpaid(values, planned(), Stream.from_seed(1))


def test_sums_that_overflow_are_not_taken_for_values_that_are_not_finite():
    found = noised_unpaid(np.full(4, 1e308), planned(), Stream.from_seed(1))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("size", [1, CHUNK, 2 * CHUNK + 5])
def test_noise_that_is_drawn_ahead_is_the_same_noise(size):
    grid, values = planned(), np.random.default_rng(5).normal(size=size)
    ahead, plain = Stream.from_seed(5, "noise"), Stream.from_seed(5, "noise")
    draw_ahead(grid, ahead, size)
    assert np.array_equal(noised_unpaid(values, grid, ahead), noised_unpaid(values, grid, plain))
    assert ahead.bytes(8) == plain.bytes(8)
    # And what was drawn is gone: what comes next is new.
    assert np.array_equal(noised_unpaid(values, grid, ahead), noised_unpaid(values, grid, plain))


def test_nothing_is_drawn_ahead_of_what_comes_from_the_stream_first():
    """Seeds of parts do; and an exact sum needs no noise."""
    for grid in (planned(dropouts=2), replace(planned(), noise_stddev=0.0)):
        stream, plain = Stream.from_seed(6, "noise"), Stream.from_seed(6, "noise")
        draw_ahead(grid, stream, 100)
        assert stream.bytes(8) == plain.bytes(8)


def test_what_was_drawn_ahead_comes_first_once_and_as_many():
    stream = Stream.fresh()
    draw_ahead(planned(), stream, 100)
    for draw in (lambda: stream.bytes(8), lambda: stream.uniform(3), lambda: stream.words(1)):
        with pytest.raises(AccountingError, match="to come first"):
            draw()
    with pytest.raises(AccountingError, match="drawn ahead before"):
        draw_ahead(planned(), stream, 100)
    with pytest.raises(AccountingError, match="100 values were drawn ahead, and 99"):
        stream.normal(99)
    first = Stream.from_seed(7)
    draw_ahead(planned(), first, 3)
    assert not np.array_equal(first.normal(3), first.normal(3))


def test_what_was_thrown_away_gives_no_noise():
    stream = Stream.fresh()
    draw_ahead(planned(), stream, 100)
    stream.forget_ahead()
    with pytest.raises(AccountingError, match="ahead"):
        stream.normal(100)


def in_a_fork(draw):
    """What a forked process draws."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(there, draw().tobytes())
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        drawn = np.frombuffer(pipe.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return drawn


def test_a_fork_does_not_repeat_noise_that_its_parent_drew_ahead():
    stream = Stream.fresh()
    draw_ahead(planned(), stream, 50)
    theirs, ours = in_a_fork(lambda: stream.normal(50)), stream.normal(50)
    assert theirs.size == 50 and not np.any(theirs == ours)


def test_a_seeded_stream_is_repeatable_in_a_fork_too():
    stream = Stream.from_seed(8)
    draw_ahead(planned(), stream, 50)
    assert np.array_equal(in_a_fork(lambda: stream.normal(50)), Stream.from_seed(8).normal(50))


def test_words_show_nothing_of_themselves():
    assert repr(Normals(np.zeros(3, dtype=np.uint64), np.zeros(0, int), np.zeros(0))) == (
        "Normals(3, hidden)"
    )
