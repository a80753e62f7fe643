"""Sums under one-time keys: exact as `modular`'s, and nothing opens but the sum of all."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from masked_keys import NAMES, PLACE, Federation, grid_of
from pairing import opener_of, pair_keys, sealer_of

from crypto.errors import (
    ContributionError,
    FrameError,
    KeysError,
    SealingError,
    TagMismatchError,
)
from crypto.frames import HEAD_BYTES, Content
from crypto.pairs import stream_sum
from crypto.planning import plan_sealing
from crypto.roles import Sealed
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer
from crypto.shared_polynomials import shared_polynomials


@pytest.fixture(name="three", scope="module")
def make_three():
    return Federation()


def looks_uniform(words):
    """Chi-square of the bytes and of the signs' runs, both within five standard deviations."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.view(np.uint8).size / 256
    chi = ((counts - expected) ** 2 / expected).sum()
    signs = words >= 2**15
    runs = 1 + np.count_nonzero(signs[1:] != signs[:-1])
    spread = np.sqrt(len(words)) / 2
    return bool(abs(chi - 255) < 5 * np.sqrt(510) and abs(runs - len(words) / 2) < 5 * spread)


# The oracle


def sums_agree(hospitals, values, bits, seed, extreme):
    """Sealed under one-time keys and by `modular`, the same vectors open to the same bits."""
    random, names = np.random.default_rng(seed), [f"h{index:04}" for index in range(hospitals)]
    given = [random.normal(scale=0.5, size=values) for _ in names]
    if extreme:
        given = [np.where(random.integers(0, 2, values), 1e300, -1e300) for _ in names]
    opened = {}
    for scheme in ("modular", "one-time"):
        plan = plan_sealing(values=values, hospitals=hospitals, grid=grid_of(bits), scheme=scheme)
        keys, adder, nonces = make_keys(plan), make_adder(plan), {}
        for name, vector in zip(names, given, strict=True):
            sealed = sealer_of(plan, keys, name, names).seal(vector, PLACE)
            adder.add(sealed)
            nonces[name] = sealed.nonce
        opened[scheme] = opener_of(plan, keys, names).open(adder.total(), nonces, PLACE)
    return opened["modular"].tobytes() == opened["one-time"].tobytes()


SIZES = {
    "hospitals": some.integers(1, 12),
    "values": some.integers(1, 30_000),
    "bits": some.integers(2, 24),
    "seed": some.integers(0, 2**32),
    "extreme": some.booleans(),
}


@settings(max_examples=20, deadline=None)
@given(**SIZES)
def test_sums_are_those_of_modular_bit_for_bit(hospitals, values, bits, seed, extreme):
    assert sums_agree(hospitals, values, bits, seed, extreme)


@pytest.mark.exhaustive
@settings(max_examples=400, deadline=None)
@given(**SIZES)
def test_many_sums_are_those_of_modular_bit_for_bit(hospitals, values, bits, seed, extreme):
    assert sums_agree(hospitals, values, bits, seed, extreme)


@pytest.mark.parametrize(
    ("hospitals", "bits"),
    [(30, 20), (3, 38), pytest.param(1023, 14, marks=pytest.mark.exhaustive)],
)
def test_sums_of_many_hospitals_and_of_many_bits_are_exact(hospitals, bits):
    assert sums_agree(hospitals, 5_000, bits, 1, extreme=True)


def test_a_federation_opens_to_its_sum(three):
    assert np.array_equal(three.opener.open(three.total(), three.nonces, PLACE), three.expected)


# Nothing opens but the sum of all


def test_a_sum_that_lacks_one_opens_nowhere_and_its_key_is_uniform(three):
    """The server and a hospital that works with it have everything but one reply."""
    for missing in three.names:
        present = [name for name in three.names if name != missing]
        words = three.key_sum(present).astype(np.int16).view(np.uint16)
        assert looks_uniform(words)
        nonces = {name: three.nonces[name] for name in present}
        with pytest.raises(ContributionError, match="no key opens"):
            three.opener.open(three.total(present), nonces, PLACE)
        # Claiming that all are in it does not help.
        body, masked = three.parts(three.total(present), Content.TOTAL)
        with pytest.raises(TagMismatchError, match="masked keys"):
            three.opener.open(three.total_of(body, masked), three.nonces, PLACE)


def test_a_late_reply_completes_the_full_sum_and_nothing_else(three):
    late = Federation()
    late.keys, late.sealed = three.keys, dict(three.sealed)
    late.sealed[NAMES[0]] = late.seal(NAMES[0])  # sealed anew: the same place, another key
    assert np.array_equal(late.opener.open(late.total(), late.nonces, PLACE), late.expected)


def test_masked_keys_of_fewer_than_all_honest_hospitals_are_uniform():
    """Two hospitals work with the server and take their own masks off; four are honest."""
    whole = Federation(hospitals=6, values=100)
    honest, colluders, degree = whole.names[:4], whole.names[4:], whole.layout.degree
    for size in (1, 2, 3, 4):
        for subset in itertools.combinations(honest, size):
            words = whole.key_sum(subset).astype(np.int16).view(np.uint16).copy()
            for colluder in colluders:
                pairs = pair_keys(whole.names)[colluder]
                for name in subset:
                    mask = stream_sum([(pairs.key(name, b"asclepias mask 1", PLACE), True)], degree)
                    words -= mask if colluder > name else -mask
            # Only all of them leave a sum of keys: at most 32 a coefficient and hospital.
            largest = int(np.abs(words.view(np.int16).astype(np.int64)).max())
            assert (largest <= 32 * size) is (size == 4)
            assert looks_uniform(words) is (size < 4)


def test_a_sum_of_keys_has_the_spread_of_fresh_keys(three):
    """Keys are drawn anew for every vector: centred binomial, std 4, of each hospital."""
    total = three.key_sum()
    assert total.std() == pytest.approx(4 * np.sqrt(3), rel=0.08)
    again = Federation()
    again.keys, again.sealed = three.keys, {name: three.seal(name) for name in three.names}
    assert abs(np.corrcoef(total, again.key_sum())[0, 1]) < 0.1


def test_the_server_alone_never_learns_the_sum_of_keys(three):
    _, masked = three.parts(three.total(), Content.TOTAL)
    assert looks_uniform(masked)


@pytest.mark.parametrize("what", ["bind", "place"])
def test_hospitals_with_different_views_open_nothing_together(what, three):
    """Other members or terms, or another place: other polynomials and other masks."""
    split = Federation()
    split.keys, split.sealed = three.keys, dict(three.sealed)
    if what == "place":
        split.sealed[NAMES[2]] = split.seal(NAMES[2], dataclasses.replace(PLACE, attempt=2))
    else:
        pairs = pair_keys(three.names, bytes(32))[NAMES[2]]
        sealer = make_sealer(split.plan, split.keys.with_pairs(pairs), NAMES[2])
        split.sealed[NAMES[2]] = sealer.seal(split.vectors[NAMES[2]], PLACE)
    assert looks_uniform(split.key_sum().astype(np.int16).view(np.uint16))
    with pytest.raises(TagMismatchError, match="masked keys"):
        split.opener.open(split.total(), split.nonces, PLACE)


def test_other_terms_give_other_polynomials(three):
    layout, identifier = three.layout, three.plan.parameter_id
    one = shared_polynomials(layout, PLACE, identifier, bytes(32)).chunk(0, 300.0).spectra
    others = [
        (dataclasses.replace(PLACE, **change), identifier, bytes(32))
        for change in ({"round": 4}, {"attempt": 2}, {"training": "u"})
    ]
    others += [(PLACE, identifier, b"\1" * 32), (PLACE, "00" * 32, bytes(32))]
    for place, plan, bind in others:
        other = shared_polynomials(layout, place, plan, bind).chunk(0, 300.0).spectra
        assert not np.isclose(one, other).any()


# What is refused


def test_sealing_needs_pair_keys_of_this_hospital_and_of_all(three):
    with pytest.raises(KeysError, match="none pair keys"):
        make_sealer(three.plan, three.keys, NAMES[0])
    with pytest.raises(KeysError, match="none pair keys"):
        make_opener(three.plan, three.keys)
    own = pair_keys(three.names)[NAMES[0]]
    with pytest.raises(KeysError, match="not of"):
        make_sealer(three.plan, three.keys.with_pairs(own), NAMES[1])
    fewer = pair_keys(NAMES[:2])[NAMES[0]]
    with pytest.raises(KeysError, match="need 2"):
        make_sealer(three.plan, three.keys.with_pairs(fewer), NAMES[0])


def test_a_round_that_is_over_is_sealed_for_no_more(three):
    later = pair_keys(three.names)[NAMES[0]].at(PLACE.round + 1)
    sealer = make_sealer(three.plan, three.keys.with_pairs(later), NAMES[0])
    with pytest.raises(KeysError, match="are gone"):
        sealer.seal(three.vectors[NAMES[0]], PLACE)


def test_a_place_that_is_sealed_twice_gives_its_difference_away(three):
    """The limit of masks that cannot hold a nonce: why a hospital's book refuses a place twice.

    The server and one hospital that works with it take the group's pads off both masked keys.
    """
    once, again = three.sealed[NAMES[0]], three.seal(NAMES[0])
    keys = []
    for sealed in (once, again):
        keys.append(three.parts(sealed)[1] - three.pad(NAMES[0], sealed.nonce))
    assert looks_uniform(keys[0])
    # The server alone has pads before it that hold each header's own nonce.
    assert looks_uniform(three.parts(again)[1] - three.parts(once)[1])
    assert int(np.abs((keys[1] - keys[0]).view(np.int16).astype(np.int64)).max()) <= 64


@pytest.mark.parametrize("part", ["body", "masked key", "longer", "shorter"])
def test_hostile_frames_are_refused_or_found(part, three):
    """Every byte string of the right length is a sum of something: tags say of what."""
    payload = three.total().payload
    end = len(payload) - three.layout.key_bytes
    hostile = {
        "body": payload[:HEAD_BYTES] + b"\xff" * (end - HEAD_BYTES) + payload[end:],
        "masked key": payload[:end] + b"\xff" * three.layout.key_bytes,
        "longer": payload + b"\0",
        "shorter": payload[:-1],
    }[part]
    expected = FrameError if part in ("longer", "shorter") else TagMismatchError
    with pytest.raises(expected):
        three.opener.open(Sealed(payload=hostile), three.nonces, PLACE)


def test_a_refused_vector_leaves_the_sum_as_it_was(three):
    adder = make_adder(three.plan, three.keys.key_id)
    for name in three.names:
        with pytest.raises(SealingError):
            adder.add(Sealed(payload=three.sealed[name].payload[:-1]))
        adder.add(three.sealed[name])
    with pytest.raises(ContributionError, match="more than"):
        adder.add(three.sealed[NAMES[0]])
    opened = three.opener.open(adder.total(), three.nonces, PLACE)
    assert np.array_equal(opened, three.expected)


def test_an_adder_holds_nothing_that_opens(three):
    held = {type(thing).__name__ for thing in vars(make_adder(three.plan)).values()}
    assert held <= {"SealingPlan", "Layout", "NoneType", "ndarray", "int"}


def test_sealed_vectors_do_not_show_what_is_in_them():
    federation = Federation(values=40_000)
    for value in (0.0, 0.9):
        federation.vectors[NAMES[0]] = np.full(40_000, value)
        words, masked = federation.parts(federation.seal(NAMES[0]))
        low = words[:-1].astype("<u8").view("<u4")[:, ::2].reshape(-1)
        assert looks_uniform(np.ascontiguousarray(low).view(np.uint16))
        assert looks_uniform(masked)


def test_one_sealer_and_one_opener_serve_several_threads(three):
    sealer = sealer_of(three.plan, three.keys, NAMES[0], NAMES)
    opener, vector = three.opener, three.vectors[NAMES[0]]
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda _: sealer.seal(vector, PLACE), range(8)))
        totals = []
        for one in sealed:
            adder = make_adder(three.plan)
            for part in (one, three.sealed[NAMES[1]], three.sealed[NAMES[2]]):
                adder.add(part)
            totals.append((adder.total(), three.nonces | {NAMES[0]: one.nonce}))
        opened = list(pool.map(lambda total: opener.open(*total, PLACE), totals))
    assert all(np.array_equal(one, three.expected) for one in opened)
