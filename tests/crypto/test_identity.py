import dataclasses

import pytest

from crypto.envelope import unwrap, wrap
from crypto.errors import (
    EnvelopeError,
    HeaderError,
    PayloadMismatchError,
    PreviousMismatchError,
    RosterError,
    SignatureError,
    StaleHeaderError,
    UnknownSenderError,
)
from crypto.identity import (
    Header,
    Identity,
    Roster,
    SignedHeader,
    payload_digest,
    sign_header,
    verify_header,
)
from crypto.roles import Place

NAMES = ("a", "b", "c")
IDENTITIES = {name: Identity.generate() for name in NAMES}
PUBLIC = {name: identity.public for name, identity in IDENTITIES.items()}
PLACE = Place(training="t", round=2, attempt=0)
PLAN_ID = "ab" * 32
PREVIOUS = "cd" * 32


def signed(name="a", payload=b"sealed", **changes):
    fields = {
        "training": "t",
        "round": 2,
        "attempt": 0,
        "sender": name,
        "parameter_id": PLAN_ID,
        "previous": PREVIOUS,
        "payload": payload_digest(payload),
    } | changes
    return sign_header(Header(**fields), IDENTITIES[name])


def roster(**changes):
    return Roster.of([signed(name, **changes) for name in reversed(NAMES)])


def test_a_header_verifies_and_survives_its_encoding():
    one = SignedHeader.from_bytes(signed().to_bytes())
    header = verify_header(one, PUBLIC, place=PLACE, parameter_id=PLAN_ID, payload=b"sealed")
    assert header.sender == "a"


def test_strangers_forgeries_replays_and_swaps_are_refused_by_name():
    with pytest.raises(UnknownSenderError):
        verify_header(signed(), {"b": PUBLIC["b"]})
    with pytest.raises(SignatureError):
        verify_header(signed(), {"a": PUBLIC["b"]})
    forged = dataclasses.replace(signed(), header=dataclasses.replace(signed().header, round=9))
    with pytest.raises(SignatureError):
        verify_header(forged, PUBLIC)
    for stale in ({"training": "u"}, {"round": 1}, {"attempt": 1}):
        with pytest.raises(StaleHeaderError):
            verify_header(signed(**stale), PUBLIC, place=PLACE)
    with pytest.raises(HeaderError):
        verify_header(signed(parameter_id="00" * 32), PUBLIC, parameter_id=PLAN_ID)
    with pytest.raises(PayloadMismatchError):
        verify_header(signed(), PUBLIC, payload=b"Sealed")


def test_only_the_canonical_text_of_a_header_is_read():
    data = signed().to_bytes()
    for wrong in (
        b"",
        data[:64],
        data[:-1],
        data + b" ",
        data.replace(b'"round":2', b'"round": 2'),
        data.replace(b'"round":2', b'"round":2.0'),
        data.replace(b'"round":2', b'"round":true'),
        data.replace(b'"round":2', b'"round":-2'),
        data.replace(b'"attempt":0,', b""),
        data.replace(b'"attempt":0,', b'"attempt":0,"attempt":0,'),
        data[:64] + b"[" * 3000,
        data[:64] + b"null",
    ):
        with pytest.raises(HeaderError):
            SignedHeader.from_bytes(wrong)


def test_any_flipped_bit_of_a_header_is_refused():
    data = signed().to_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises((HeaderError, SignatureError, UnknownSenderError)):
            verify_header(SignedHeader.from_bytes(bytes(changed)), PUBLIC)


def test_a_roster_is_sorted_distinct_of_one_place_and_survives_its_encoding():
    one = roster()
    assert one.names == NAMES
    assert Roster.from_bytes(one.to_bytes()) == one
    assert one.verify(PUBLIC, PLACE, 3, PLAN_ID, PREVIOUS) == NAMES
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
        roster().verify(PUBLIC, PLACE, 4, PLAN_ID)


def test_a_server_that_shows_two_sums_is_found_out():
    shown_to_b = roster().digest(b"another sum")
    headers = [signed("a"), signed("b", previous=shown_to_b), signed("c")]
    with pytest.raises(PreviousMismatchError, match=r"^b opened another sum"):
        Roster.of(headers).verify(PUBLIC, PLACE, 3, PLAN_ID)
    with pytest.raises(PreviousMismatchError, match=r"^a, c opened another sum"):
        Roster.of(headers).verify(PUBLIC, PLACE, 3, PLAN_ID, shown_to_b)


def test_the_digest_binds_roster_and_sum():
    digests = {
        roster().digest(b"sum"),
        roster().digest(b"other"),
        roster(payload=b"x").digest(b"sum"),
        Roster.of([signed("a"), signed("b")]).digest(b"sum"),
    }
    assert len(digests) == 4


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


def test_envelopes_open_with_their_key_and_context_only():
    key = bytes(range(32))
    envelope = wrap(key, b"snapshot", b"round 3")
    assert unwrap(key, envelope, b"round 3") == b"snapshot"
    assert wrap(key, b"snapshot", b"round 3") != envelope
    assert b"snapshot" not in envelope
    changed = bytearray(envelope)
    changed[-1] ^= 1
    for wrong_key, wrong, context in (
        (bytes(32), envelope, b"round 3"),
        (key, envelope, b"round 4"),
        (key, bytes(changed), b"round 3"),
        (key, envelope[:-1], b"round 3"),
        (key, b"", b"round 3"),
        (key[:16], envelope, b"round 3"),
    ):
        with pytest.raises(EnvelopeError):
            unwrap(wrong_key, wrong, context)
