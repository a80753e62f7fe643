import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import (
    HeaderError,
    IdentityError,
    PayloadMismatchError,
    SignatureError,
    StaleHeaderError,
    UnknownSenderError,
)
from crypto.headers import (
    HEADER_VERSION,
    MAX_HEADER_BYTES,
    Header,
    HeaderKind,
    SignedHeader,
    sign_header,
    verify_header,
)
from tests.crypto.signing import BIND, IDENTITIES, PLACE, PLAN_ID, PUBLIC, fields_of, signed

SUM = HeaderKind.SUM
WITHOUT_PAYLOAD = (HeaderKind.CONFIRM, HeaderKind.PRESENCE, HeaderKind.WITNESS)

LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
DIGESTS = st.binary(min_size=32, max_size=32)
FIELDS = {
    "training": LABELS,
    "round": st.integers(0, 2**31 - 1),
    "attempt": st.integers(0, 2**31 - 1),
    "sender": LABELS,
    "parameter_id": DIGESTS.map(bytes.hex),
    "previous": st.one_of(st.just(""), DIGESTS.map(bytes.hex)),
    "payload": DIGESTS.map(bytes.hex),
    "bind": DIGESTS,
    "nonce": DIGESTS,
    "ledger": st.binary(min_size=8, max_size=8),
    "entry": st.integers(0, 2**53 - 1),
    "head": st.binary(min_size=16, max_size=16),
    "spent": st.integers(0, 2**53 - 1),
}
OTHER_KINDS = [HeaderKind.SNAPSHOT, HeaderKind.VISIT, HeaderKind.VOUCH]
SEEDS = st.lists(DIGESTS, max_size=3).map(b"".join)
HEADERS = st.one_of(
    st.builds(Header, kind=st.just(SUM), seeds=SEEDS, **FIELDS),
    st.builds(Header, kind=st.sampled_from(OTHER_KINDS), **FIELDS),
)


def test_a_header_verifies_and_survives_its_encoding():
    one = SignedHeader.from_bytes(signed().to_bytes())
    header = verify_header(
        one, PUBLIC, kind=SUM, place=PLACE, parameter_id=PLAN_ID, payload=b"sealed", bind=BIND
    )
    assert header == Header(**fields_of())


@given(HEADERS)
def test_every_header_has_one_encoding_that_reads_back(header):
    data = SignedHeader(header=header, signature=bytes(64)).to_bytes()
    assert SignedHeader.from_bytes(data).header == header
    assert len(data) <= MAX_HEADER_BYTES


@given(HEADERS, HEADERS)
def test_different_headers_sign_different_texts(one, other):
    assert (one == other) == (one.signed_text() == other.signed_text())


def test_the_largest_header_fits_and_a_larger_text_is_not_read():
    largest = signed("a", training="\U0001f3e5" * 256, seeds=bytes(16 * 32))
    widest = dataclasses.replace(largest.header, sender="\U0001f3e5" * 256)
    data = SignedHeader(header=widest, signature=bytes(64)).to_bytes()
    assert SignedHeader.from_bytes(data).header == widest
    with pytest.raises(HeaderError, match="bytes"):
        SignedHeader.from_bytes(data.ljust(MAX_HEADER_BYTES + 1, b"\0"))


def test_seeds_are_whole_digests_in_headers_of_sums_alone():
    assert signed(seeds=bytes(64)).header.seeds == bytes(64)
    for wrong in (bytes(31), bytes(33), "", None, bytearray(32)):
        with pytest.raises(HeaderError, match="no digests"):
            signed(seeds=wrong)
    with pytest.raises(HeaderError, match="17 seeds"):
        signed(seeds=bytes(17 * 32))
    with pytest.raises(HeaderError, match="kind snapshot has 1 seeds"):
        signed(kind=HeaderKind.SNAPSHOT, seeds=bytes(32))


def test_strangers_forgeries_replays_and_swaps_are_refused_by_name():
    with pytest.raises(UnknownSenderError):
        verify_header(signed(), {"b": PUBLIC["b"]}, kind=SUM)
    with pytest.raises(SignatureError):
        verify_header(signed(), {"a": PUBLIC["b"]}, kind=SUM)
    forged = dataclasses.replace(signed(), header=dataclasses.replace(signed().header, round=9))
    with pytest.raises(SignatureError):
        verify_header(forged, PUBLIC, kind=SUM)
    for stale in ({"training": "u"}, {"round": 1}, {"attempt": 1}):
        with pytest.raises(StaleHeaderError):
            verify_header(signed(**stale), PUBLIC, kind=SUM, place=PLACE)
    with pytest.raises(HeaderError, match="parameters"):
        verify_header(signed(parameter_id="00" * 32), PUBLIC, kind=SUM, parameter_id=PLAN_ID)
    with pytest.raises(HeaderError, match="other terms"):
        verify_header(signed(bind=bytes(32)), PUBLIC, kind=SUM, bind=BIND)
    with pytest.raises(PayloadMismatchError):
        verify_header(signed(), PUBLIC, kind=SUM, payload=b"Sealed")


def test_no_header_of_one_kind_passes_for_another():
    snapshot = signed(kind=HeaderKind.SNAPSHOT)
    verify_header(snapshot, PUBLIC, kind=HeaderKind.SNAPSHOT)
    with pytest.raises(HeaderError, match="kind snapshot, not sum"):
        verify_header(snapshot, PUBLIC, kind=SUM)
    relabelled = SignedHeader(
        header=dataclasses.replace(snapshot.header, kind=SUM), signature=snapshot.signature
    )
    with pytest.raises(SignatureError):
        verify_header(relabelled, PUBLIC, kind=SUM)
    starts = {kind: f"asclepias header {HEADER_VERSION} {kind}\n".encode() for kind in HeaderKind}
    for kind, start in starts.items():
        assert sum(start.startswith(other) for other in starts.values()) == 1
        header = Header(
            **fields_of(kind=kind, **({"payload": ""} if kind in WITHOUT_PAYLOAD else {}))
        )
        assert header.signed_text().startswith(start)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "sum"}, "kind"),
        ({"round": -1}, "round"),
        ({"round": 2**31}, "round"),
        ({"round": True}, "round"),
        ({"round": 2.0}, "round"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": 2**31}, "attempt"),
        ({"training": ""}, "training"),
        ({"training": "t" * 257}, "training"),
        ({"training": "\ud800"}, "no text"),
        ({"sender": ""}, "sender"),
        ({"sender": "\ud800"}, "no text"),
        ({"parameter_id": ""}, "parameter_id"),
        ({"parameter_id": "AB" * 32}, "parameter_id"),
        ({"previous": "cd"}, "previous"),
        ({"payload": ""}, "payload"),
        ({"bind": b""}, "bind"),
        ({"bind": bytes(31)}, "bind"),
        ({"nonce": b""}, "nonce"),
        ({"nonce": bytes(33)}, "nonce"),
        ({"ledger": bytes(7)}, "ledger"),
        ({"entry": -1}, "entry"),
        ({"entry": 2**53}, "entry"),
        ({"entry": True}, "entry"),
        ({"head": bytes(15)}, "head"),
        ({"spent": -1}, "spent"),
        ({"spent": 2**53}, "spent"),
    ],
)
def test_a_field_of_another_size_type_or_range_is_refused(changes, said):
    with pytest.raises(HeaderError, match=said):
        Header(**fields_of(**changes))


def test_only_kinds_without_a_payload_do_without_it_and_its_nonce():
    for kind in WITHOUT_PAYLOAD:
        Header(**fields_of(kind=kind, payload="", nonce=b""))
        with pytest.raises(HeaderError, match="payload"):
            Header(**fields_of(kind=kind))
    for kind in (SUM, HeaderKind.SNAPSHOT, HeaderKind.VISIT):
        with pytest.raises(HeaderError, match="payload"):
            Header(**fields_of(kind=kind, payload="", nonce=b""))
    Header(**fields_of(kind=HeaderKind.VOUCH))
    Header(**fields_of(kind=HeaderKind.VOUCH, payload="", parameter_id=""))


def test_another_version_is_refused_by_its_number():
    data = bytearray(signed().to_bytes())
    data[68] = HEADER_VERSION + 1
    with pytest.raises(HeaderError, match=f"version {HEADER_VERSION + 1}, expected"):
        SignedHeader.from_bytes(bytes(data))


def test_only_the_one_encoding_of_a_header_is_read():
    data = signed().to_bytes()
    for wrong in (
        b"",
        "text",
        data[:64],
        data[:69],
        data[:-1],
        data + b"\0",
        data + b"\0\0",
        data[:64] + b"AROS" + data[68:],
        data[:69] + b"\xff\xff" + data[71:],
        data[:71] + b"SUM" + data[74:],
        data[:69] + b"\x04\0xsum" + data[74:],
    ):
        with pytest.raises(HeaderError):
            SignedHeader.from_bytes(wrong)


@given(st.binary(max_size=MAX_HEADER_BYTES + 100))
def test_any_bytes_are_a_header_or_refused_as_none(data):
    start = bytes(64) + b"AHDR" + bytes([HEADER_VERSION])
    for given_bytes in (data, start + data):
        with contextlib.suppress(HeaderError):
            assert SignedHeader.from_bytes(given_bytes).to_bytes() == given_bytes


@given(HEADERS, st.data())
def test_any_flipped_byte_of_a_signed_header_is_refused(header, data):
    own = dataclasses.replace(header, sender="a")
    encoded = sign_header(own, IDENTITIES["a"]).to_bytes()
    verify_header(SignedHeader.from_bytes(encoded), PUBLIC, kind=own.kind)
    changed = bytearray(encoded)
    changed[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IdentityError):
        verify_header(SignedHeader.from_bytes(bytes(changed)), PUBLIC, kind=own.kind)


def test_any_flipped_bit_of_a_header_is_refused():
    data = signed().to_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises((HeaderError, SignatureError, UnknownSenderError)):
            verify_header(SignedHeader.from_bytes(bytes(changed)), PUBLIC, kind=SUM)
