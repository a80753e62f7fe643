"""Keys between pairs: the same at both ends, bound to what was agreed, and never backwards."""

import copy
import pickle

import numpy as np
import pytest
from pairing import BIND, pair_keys

from crypto.ceremony import make_offer
from crypto.errors import KeysError
from crypto.identity import Identity
from crypto.pairs import PairKeys
from crypto.roles import Place

NAMES = ("a", "b", "c", "d")
PLACE = Place(training="t", round=2, attempt=1)


def test_both_ends_of_a_pair_have_one_key_and_no_third_has_it():
    pairs = pair_keys(NAMES)
    keys = {
        (one, other): pairs[one].key(other, b"test", PLACE)
        for one in NAMES
        for other in NAMES
        if one != other
    }
    for (one, other), key in keys.items():
        assert key == keys[other, one]
    assert len(set(keys.values())) == 6


def test_masks_of_all_cancel_and_those_of_fewer_do_not():
    pairs = pair_keys(NAMES)
    masks = {name: pairs[name].masks(PLACE, 500) for name in NAMES}
    assert not sum(masks.values(), np.zeros(500, dtype=np.uint16)).any()
    for name in NAMES:
        rest = sum((masks[other] for other in NAMES if other != name), np.zeros(500, np.uint16))
        assert np.count_nonzero(rest) > 480


@pytest.mark.parametrize(
    "change",
    [{"training": "u"}, {"round": 3}, {"attempt": 2}],
    ids=["training", "round", "attempt"],
)
def test_a_key_belongs_to_one_place_and_purpose(change):
    pairs = pair_keys(NAMES)["a"]
    fields = {"training": "t", "round": 2, "attempt": 1}
    other = Place(**(fields | change))
    key = pairs.key("b", b"test", PLACE)
    assert key != pairs.key("b", b"test", other)
    assert key != pairs.key("b", b"else", PLACE)
    assert key != pairs.key("b", b"test", PLACE, b"label")
    assert key != pair_keys(NAMES, bytes(32))["a"].key("b", b"test", PLACE)


def test_keys_of_rounds_that_are_over_cannot_be_come_by_from_what_is_left():
    """Who steals a folder after the round has what `to_bytes` holds, and nothing before it."""
    before = pair_keys(NAMES)["a"].at(2)
    key = before.key("b", b"test", PLACE)
    stolen = PairKeys.from_bytes(before.at(3).to_bytes())
    with pytest.raises(KeysError, match="gone"):
        stolen.key("b", b"test", PLACE)
    with pytest.raises(KeysError, match="gone"):
        stolen.masks(PLACE, 8)
    # Passed off as keys of the earlier round, they are others.
    forged = PairKeys(hospital="a", bind=BIND, round=2, roots=stolen._roots)
    assert forged.key("b", b"test", PLACE) != key
    # The control: what is stolen before the round is over opens it, and all later ones.
    assert PairKeys.from_bytes(before.to_bytes()).key("b", b"test", PLACE) == key
    later = Place(training="t", round=9, attempt=1)
    assert before.key("b", b"test", later) == stolen.key("b", b"test", later)


def test_pair_keys_survive_their_file_and_nothing_else():
    pairs = pair_keys(NAMES)["a"].at(5)
    data = pairs.to_bytes()
    again = PairKeys.from_bytes(data)
    assert (again.hospital, again.round, again.bind, again.others) == ("a", 5, BIND, NAMES[1:])
    assert again.to_bytes() == data
    for changed in (b"", data[:-1], data + b" ", data.replace(b'"round": 5', b'"round": 4')):
        with pytest.raises(KeysError):
            PairKeys.from_bytes(changed)


def test_pair_keys_show_nothing():
    pairs = pair_keys(NAMES)["a"]
    assert "hidden" in repr(pairs)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(KeysError):
            leak(pairs)


def test_pair_keys_are_derived_from_the_own_offer_alone():
    made = {name: make_offer("t", name, Identity.generate()) for name in NAMES}
    offers = [offer for offer, _ in made.values()]
    with pytest.raises(KeysError, match="offer of 'a'"):
        PairKeys.derive(offers, made["b"][1], "a", BIND)
    with pytest.raises(KeysError, match="offer of 'a'"):
        PairKeys.derive(offers[1:], made["a"][1], "a", BIND)
    with pytest.raises(KeysError, match="no pair key"):
        PairKeys.derive(offers, made["a"][1], "a", BIND).key("stranger", b"test", PLACE)
