"""Signed headers for tests: three hospitals, one place, one plan, one set of terms."""

from crypto.headers import Header, HeaderKind, payload_digest, sign_header
from crypto.identity import Identity
from crypto.roles import Place

NAMES = ("a", "b", "c")
IDENTITIES = {name: Identity.generate() for name in NAMES}
PUBLIC = {name: identity.public for name, identity in IDENTITIES.items()}
PLACE = Place(training="t", round=2, attempt=0)
PLAN_ID = "ab" * 32
PREVIOUS = "cd" * 32
BIND = bytes(range(32))


def fields_of(name="a", **changes):
    """A sum's header as keywords."""
    return {
        "kind": HeaderKind.SUM,
        "training": "t",
        "round": 2,
        "attempt": 0,
        "sender": name,
        "parameter_id": PLAN_ID,
        "previous": PREVIOUS,
        "payload": payload_digest(b"sealed"),
        "bind": BIND,
        "nonce": name.encode() * 32,
        "ledger": bytes(range(8)),
        "entry": 7,
        "head": bytes(range(16)),
        "spent": 5,
    } | changes


def signed(name="a", **changes):
    """A signed header of a sum."""
    return sign_header(Header(**fields_of(name, **changes)), IDENTITIES[name])
