"""What is prepared for one vector seals one vector, and nothing of it is left."""

import copy
import gc
import os
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pairing import opener_of, sealer_of

from crypto import shared_polynomials
from crypto.encrypted_blocks import EmptyBlocks
from crypto.errors import KeysError, SealError, SpentError
from crypto.planning import plan_sealing
from crypto.prepared import Prepared
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)
PLACE = Place(training="t", round=3, attempt=1)
SCHEMES = ("plain", "modular", "bfv", "ckks", "one-time")
NAMES = ("a", "b", "c")
VALUES = 500


def sealers(scheme, key_mode="auto"):
    plan = plan_sealing(values=VALUES, hospitals=3, grid=GRID, scheme=scheme, key_mode=key_mode)
    keys = make_keys(plan)
    return plan, keys, {name: sealer_of(plan, keys, name, NAMES) for name in NAMES}


def vector(seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, size=VALUES)


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["at once", "ahead"])
def prepared(scheme, request):
    return sealers(scheme)[2]["a"].prepare(PLACE, ahead=request.param)


def test_it_seals_one_vector_and_no_other(prepared):
    assert not prepared.spent
    prepared.seal(vector())
    assert prepared.spent
    for again in (vector(), vector(1)):
        with pytest.raises(SpentError, match="seals one vector"):
            prepared.seal(again)


@pytest.mark.parametrize("wrong", [np.full(VALUES, np.nan), np.zeros(3), np.zeros(VALUES, "f4")])
def test_it_is_spent_by_a_vector_that_cannot_be_sealed(scheme, wrong):
    prepared = sealers(scheme)[2]["a"].prepare(PLACE)
    with pytest.raises(SealError):
        prepared.seal(wrong)
    with pytest.raises(SpentError):
        prepared.seal(vector())


def test_it_is_spent_by_seeds_that_the_plan_does_not_share(prepared):
    with pytest.raises(SealError, match="seeds"):
        prepared.seal(vector(), (bytes(32),))
    with pytest.raises(SpentError):
        prepared.seal(vector())


def test_of_many_threads_one_seals(prepared):
    def attempt(seed):
        try:
            return prepared.seal(vector(seed))
        except SpentError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = [one for one in pool.map(attempt, range(32)) if one is not None]
    assert len(found) == 1


def test_what_is_thrown_away_seals_nothing(prepared):
    prepared.discard()
    prepared.discard()
    with pytest.raises(SpentError):
        prepared.seal(vector())


def test_it_cannot_be_copied_or_written_down(prepared):
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(prepared)
    assert repr(prepared) == "Prepared(hospital='a', spent=False)"


def test_a_process_that_was_forked_off_cannot_seal_with_it(prepared):
    child = os.fork()
    if child == 0:
        try:
            prepared.seal(vector())
        except SpentError:
            os._exit(7)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    prepared.seal(vector())  # here it is as it was


def test_sums_open_whatever_was_prepared_and_thrown_away_before(scheme):
    plan, keys, by_name = sealers(scheme)
    adder, nonces = make_adder(plan, keys.key_id), {}
    for seed, (name, sealer) in enumerate(by_name.items()):
        sealer.prepare(PLACE).discard()
        sealed = sealer.prepare(PLACE).seal(vector(seed))
        adder.add(sealed)
        nonces[name] = sealed.nonce
    opened = opener_of(plan, keys, NAMES).open(adder.total(), nonces, PLACE)
    np.testing.assert_allclose(opened, sum(vector(seed) for seed in range(3)), atol=2 * GRID.step)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_a_vector_on_noughts_opens_to_the_same_bits_as_one_that_was_encrypted(mode):
    plan, keys, by_name = sealers("bfv", mode)
    opened = {}
    for ahead in (False, True):
        adder, nonces = make_adder(plan, keys.key_id), {}
        for seed, (name, sealer) in enumerate(by_name.items()):
            sealed = sealer.prepare(PLACE, ahead=ahead or name == "b").seal(vector(seed))
            assert sealed.size == plan.bytes_up
            adder.add(sealed)
            nonces[name] = sealed.nonce
        opened[ahead] = opener_of(plan, keys, NAMES).open(adder.total(), nonces, PLACE)
    assert np.array_equal(opened[False], opened[True])


def test_noughts_and_what_they_become_are_told_apart_by_nobody_without_the_key():
    """Two sealings of one vector on noughts differ as two of SEAL's own do: in every byte."""
    _, _, by_name = sealers("bfv")
    one, other = (
        np.frombuffer(by_name["a"].prepare(PLACE, ahead=True).seal(vector()).payload[80:], "u1")
        for _ in range(2)
    )
    assert 0.99 < np.mean(one != other) < 1.0


def test_two_that_were_prepared_for_one_place_share_nothing():
    _, _, by_name = sealers("one-time")
    first, second = (by_name["a"].prepare(PLACE).seal(vector()) for _ in range(2))
    assert first.nonce != second.nonce
    one, other = (np.frombuffer(sealed.payload[80:], dtype="u1") for sealed in (first, second))
    assert 0.9 < np.mean(one != other) < 1.0  # of two random bytes 1 in 256 is the same


def test_the_blocks_that_hid_a_vector_are_gone_with_it(monkeypatch):
    made = []
    real = EmptyBlocks.__init__

    def watched(self, *given):
        real(self, *given)
        made.append((weakref.ref(self), weakref.ref(self._blocks)))

    monkeypatch.setattr(EmptyBlocks, "__init__", watched)
    _, _, by_name = sealers("one-time")
    prepared = by_name["a"].prepare(PLACE)
    assert all(one() is not None for one in made[0])
    prepared.seal(vector())
    gc.collect()
    assert [one() for one in made[0]] == [None, None]
    by_name["a"].prepare(PLACE).discard()
    gc.collect()
    assert [one() for one in made[1]] == [None, None]


def test_hospitals_that_prepare_at_once_make_the_public_part_once(monkeypatch):
    made = []
    real = shared_polynomials.Multiplicand

    def counted(*given):
        made.append(given)
        return real(*given)

    monkeypatch.setattr(shared_polynomials, "Multiplicand", counted)
    _, _, by_name = sealers("one-time")
    place = Place(training="at once", round=1, attempt=1)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda k: by_name[NAMES[k % 3]].prepare(place), range(12)))
    assert len(made) == 1  # so short a vector is one chunk


def test_nothing_is_prepared_for_a_round_whose_keys_are_gone():
    plan, keys, _ = sealers("one-time")
    moved = keys.with_pairs(sealer_of(plan, keys, "a", NAMES)._pairs.at(PLACE.round + 1))
    with pytest.raises(KeysError, match="gone"):
        type(sealer_of(plan, keys, "a", NAMES))(plan, moved, "a").prepare(PLACE)


def test_a_prepared_sealing_says_whose_and_where_it_is(prepared):
    assert isinstance(prepared, Prepared)
    assert (prepared.hospital, prepared.place) == ("a", PLACE)
