import pytest

from crypto.envelope import unwrap, wrap
from crypto.errors import EnvelopeError


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
