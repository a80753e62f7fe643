import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import (
    HeaderError,
    PreviousMismatchError,
    RosterError,
    SignatureError,
    StaleHeaderError,
    UnknownSenderError,
)
from crypto.headers import HeaderKind, SignedHeader
from crypto.roles import Place
from crypto.rosters import ROSTER_VERSION, Roster, confirmed_round, next_chain, quorum
from tests.crypto.signing import BIND, NAMES, PLACE, PLAN_ID, PREVIOUS, PUBLIC, signed

EXPECTED = {"least": 3, "parameter_id": PLAN_ID, "bind": BIND}


def roster(**changes):
    return Roster.of([signed(name, **changes) for name in reversed(NAMES)])


def one_otherwise(**changes):
    """A roster in which b's header is another one."""
    return Roster.of([signed("a"), signed("b", **changes), signed("c")])


def test_a_roster_is_sorted_distinct_of_one_place_and_survives_its_encoding():
    one = roster()
    assert one.names == NAMES
    assert one.nonces == {name: name.encode() * 32 for name in NAMES}
    assert Roster.from_bytes(one.to_bytes()) == one
    assert one.verify(PUBLIC, PLACE, **EXPECTED, previous=PREVIOUS) == NAMES
    with pytest.raises(RosterError, match="distinct"):
        Roster.of([signed("a"), signed("a")])
    with pytest.raises(RosterError, match="sorted"):
        Roster(headers=(signed("b"), signed("a")))
    with pytest.raises(RosterError, match="different rounds"):
        Roster.of([signed("a"), signed("b", round=3)])
    with pytest.raises(RosterError, match="nobody"):
        Roster.of([])


def test_too_few_contributors_are_refused():
    with pytest.raises(RosterError, match="at least 4"):
        roster().verify(PUBLIC, PLACE, **EXPECTED | {"least": 4})


def test_one_header_that_differs_spoils_the_whole_roster():
    one_otherwise().verify(PUBLIC, PLACE, **EXPECTED)
    for changes, said in (
        ({"kind": HeaderKind.SNAPSHOT}, "kind snapshot"),
        ({"bind": bytes(32)}, "other terms"),
        ({"parameter_id": "00" * 32}, "parameters"),
    ):
        with pytest.raises(HeaderError, match=said):
            one_otherwise(**changes).verify(PUBLIC, PLACE, **EXPECTED)
    with pytest.raises(PreviousMismatchError):
        one_otherwise(previous="").verify(PUBLIC, PLACE, **EXPECTED)
    forged = SignedHeader(header=signed("b").header, signature=signed("a").signature)
    with pytest.raises(SignatureError):
        Roster.of([signed("a"), forged, signed("c")]).verify(PUBLIC, PLACE, **EXPECTED)
    members = {name: PUBLIC[name] for name in "ab"}
    with pytest.raises(UnknownSenderError):
        roster().verify(members, PLACE, **EXPECTED)
    with pytest.raises(StaleHeaderError):
        roster().verify(PUBLIC, Place(training="t", round=2, attempt=1), **EXPECTED)


def test_a_server_that_shows_two_sums_is_found_out():
    shown_to_b = roster().digest(b"another sum")
    headers = [signed("a"), signed("b", previous=shown_to_b), signed("c")]
    with pytest.raises(PreviousMismatchError, match=r"^b opened another sum"):
        Roster.of(headers).verify(PUBLIC, PLACE, **EXPECTED)
    with pytest.raises(PreviousMismatchError, match=r"^a, c opened another sum"):
        Roster.of(headers).verify(PUBLIC, PLACE, **EXPECTED, previous=shown_to_b)


def test_the_digest_binds_roster_and_sum():
    digests = {
        roster().digest(b"sum"),
        roster().digest(b"other"),
        roster(payload="ef" * 32).digest(b"sum"),
        roster(entry=8).digest(b"sum"),
        Roster.of([signed("a"), signed("b")]).digest(b"sum"),
    }
    assert len(digests) == 5


def test_bytes_that_are_no_roster_are_refused():
    data = roster().to_bytes()
    for wrong in (
        b"",
        data[:9],
        data[:-1],
        data + b"0",
        b"X" + data[1:],
        data[:5] + b"\xff\xff\xff\xff" + data[9:],
        data[:5] + b"\0\0\0\0" + data[9:],
        data[:9] + b"\xff\xff" + data[11:],
    ):
        with pytest.raises((RosterError, HeaderError)):
            Roster.from_bytes(wrong)
    other = ROSTER_VERSION + 1
    with pytest.raises(RosterError, match=f"version {other}, expected"):
        Roster.from_bytes(data[:4] + bytes([other]) + data[5:])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_roster_or_refused_as_none(data):
    start = roster().to_bytes()[:9]
    for given_bytes in (data, start + data):
        with pytest.raises((RosterError, HeaderError)):
            Roster.from_bytes(given_bytes)


def test_a_chain_covers_all_that_was_opened_in_order():
    first, second = bytes(32), bytes(range(32))
    chains = [
        next_chain(b"", first),
        next_chain(bytes(32), first),
        next_chain(b"", second),
        next_chain(next_chain(b"", first), second),
        next_chain(next_chain(b"", second), first),
    ]
    assert len(set(chains)) == len(chains)
    assert {len(chain) for chain in chains} == {32}
    for wrong in ((b"short", first), (b"", b""), (bytes(33), first)):
        with pytest.raises(RosterError, match="32 bytes"):
            next_chain(*wrong)


def test_what_was_opened_covers_the_noise_that_was_removed_in_order():
    one = roster()
    lists = [
        [],
        [("a", 1)],
        [("a", 2)],
        [("a", 1), ("b", 1)],
        [("b", 1), ("a", 1)],
        [("a", 1), ("a", 2)],
        [("ab", 1)],
    ]
    opened = [one.digest(b"total", removed) for removed in lists]
    assert len(set(opened)) == len(opened)
    assert one.digest(b"total") == opened[0] != one.digest(b"other")


def most_signers_of_two_chains(hospitals, colluders):
    """The oracle: honest hospitals sign one of two chains, colluders both; the smaller side."""
    honest = hospitals - colluders
    return max(min(here, honest - here) + colluders for here in range(honest + 1))


FEDERATIONS = [
    (hospitals, dropouts, colluders)
    for hospitals in range(1, 13)
    for dropouts, colluders in itertools.product(range(hospitals), repeat=2)
]


def test_no_two_chains_both_find_a_quorum():
    for hospitals, dropouts, colluders in FEDERATIONS:
        needed = quorum(hospitals, dropouts, colluders)
        assert most_signers_of_two_chains(hospitals, colluders) < needed <= hospitals
        assert needed >= hospitals - dropouts


def test_one_signer_fewer_or_the_planned_contributors_alone_would_let_two_chains_through():
    for hospitals, colluders in ((4, 0), (3, 1), (10, 2)):
        everybody_may_miss = quorum(hospitals, hospitals - 1, colluders)
        assert most_signers_of_two_chains(hospitals, colluders) >= everybody_may_miss - 1
    assert most_signers_of_two_chains(4, 0) >= 4 - 2
    assert most_signers_of_two_chains(3, 1) >= 3 - 1


def test_a_quorum_is_as_in_the_examples():
    assert [quorum(*one) for one in ((10, 2, 0), (4, 2, 0), (3, 1, 1), (2, 1, 0), (1, 0, 0))] == [
        8,
        3,
        3,
        2,
        1,
    ]
    for wrong in ((0, 0, 0), (3, 3, 0), (3, -1, 0), (3, 0, 3), (3, 0, -1)):
        with pytest.raises(RosterError, match="no quorum"):
            quorum(*wrong)


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 50)), st.integers(1, 12))
def test_a_round_is_confirmed_once_a_quorum_has_signed_it_or_a_later_one(signed_rounds, needed):
    last = confirmed_round(signed_rounds, needed)

    def signers(number):
        return sum(theirs >= number for theirs in signed_rounds.values())

    assert last == 0 or signers(last) >= needed
    assert signers(last + 1) < needed


def test_a_quorum_of_nobody_confirms_nothing():
    with pytest.raises(RosterError, match="at least 1"):
        confirmed_round({"a": 3}, 0)
