"""Hospitals that compute their gradients in one pass: who runs when, and what each of them gets."""

import threading

import numpy as np
import pytest

from clients.contract.phases import Phases
from clients.learning import joint
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.joint import answer_together, sum_with_others
from clients.learning.per_sample import PerSample
from tests.clients.learning.test_device import batch, net

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
CLIP = 0.5


@pytest.fixture(name="passes")
def passes_made(monkeypatch):
    """How many batches each pass held."""
    held, real = [], joint.clipped_gradient_sums

    def counted(model, batches, **more):
        held.append(len(batches))
        return real(model, batches, **more)

    monkeypatch.setattr(joint, "clipped_gradient_sums", counted)
    return held


def work(model, seed, phases=None):
    phases = phases or Phases()
    return lambda: sum_with_others(model, batch(6, 3, seed), l2_clip=CLIP, phases=phases).total


def test_sums_are_computed_in_one_pass_and_are_each_ones_own(passes):
    model, phases = PerSample(net()), Phases()
    found = answer_together([work(model, seed, phases) for seed in range(4)])
    assert passes == [4]
    for seed, total in enumerate(found):
        alone = clipped_gradient_sum(model, batch(6, 3, seed), l2_clip=CLIP).total
        np.testing.assert_allclose(total, alone, rtol=1e-5, atol=1e-7)
    assert phases.seconds["gradient"] > 0


def test_outside_a_meeting_a_sum_is_computed_alone(passes):
    model = PerSample(net())
    alone = clipped_gradient_sum(model, batch(6, 3, 1), l2_clip=CLIP).total
    assert np.array_equal(work(model, 1)(), alone) and passes == []


def test_one_works_at_a_time_and_says_who_it_is_whenever_it_goes_on():
    model, running, seen = PerSample(net()), threading.Lock(), []
    now = []

    def hospital(number):
        def answers():
            for step in range(2):
                assert running.acquire(blocking=False), "two hospitals run at once"
                assert now[-1] == number
                seen.append((number, step))
                running.release()
                work(model, number)()
                assert now[-1] == number
            return number

        return answers

    assert answer_together([hospital(n) for n in range(3)], now.append) == [0, 1, 2]
    assert seen == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert now == [0, 1, 2] * 3


def test_who_wants_no_sum_or_fails_holds_nobody_up(passes):
    model = PerSample(net())

    def fails():
        raise LookupError("no keys")

    def answered(one):
        try:
            return one()
        except LookupError as error:
            return str(error)

    works = [work(model, 1), fails, lambda: "nothing to do", work(model, 2)]
    first, *rest, last = answer_together([lambda w=w: answered(w) for w in works])
    assert rest == ["no keys", "nothing to do"] and passes == [2]
    assert first.any() and last.any()


def test_what_ends_a_process_ends_it_after_the_others():
    ended = []

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_together([interrupted, lambda: ended.append(True)])
    assert ended == [True]


def test_models_and_clips_that_differ_are_not_mixed(passes):
    one, other = PerSample(net()), PerSample(net())
    answer_together([work(one, 1), work(other, 2), work(one, 3)])
    assert sorted(passes) == [1, 2]


def test_where_a_pass_of_all_fails_each_is_computed_alone(monkeypatch):
    model = PerSample(net())

    def broken(*_, **__):
        raise MemoryError("too many at once")

    monkeypatch.setattr(joint, "clipped_gradient_sums", broken)
    found = answer_together([work(model, seed) for seed in range(2)])
    for seed, total in enumerate(found):
        alone = clipped_gradient_sum(model, batch(6, 3, seed), l2_clip=CLIP).total
        assert np.array_equal(total, alone)


def test_what_cannot_be_computed_alone_either_is_raised_where_it_was_wanted():
    model = PerSample(net())
    model.gradients = lambda *_: (_ for _ in ()).throw(RuntimeError("a broken device"))

    def told():
        with pytest.raises(RuntimeError, match="a broken device"):
            work(model, 1)()
        return "told"

    assert answer_together([told, told]) == ["told", "told"]
