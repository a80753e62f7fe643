"""What must hold after every fault: nothing spent is forgotten, no key has left its hospital."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from clients.site.heads import unmarked
from crypto.identity import Identity
from crypto.keys import Keys
from deployment.consortium import Consortium
from tests.deployment.local_deployment import LocalDeployment, events, ledger_rounds

#: Bytes of a long secret that are looked for.
_PIECE = 48


def assert_nothing_lost_or_leaked(deployment: LocalDeployment) -> None:
    """Check ledgers against what was contributed, and look for every key outside its hospital."""
    for submission in deployment.submissions:
        found = events(submission)
        trainings = {event["training"] for event in found if event["kind"] == "start"}
        for event in found:
            if event["kind"] == "round":
                [training] = trainings
                _assert_paid(deployment, training, event)
    assert leaks(deployment.consortium) == []
    identity = deployment.consortium.site(deployment.names[0]) / "private" / "identity.key"
    for journal in deployment.consortium.superlink.rglob("ceremony.json"):
        public = Identity.load_or_create(identity).public
        assert _holds(journal.read_bytes(), public), "the search finds what does travel"


def _assert_paid(deployment: LocalDeployment, training: str, event: Mapping) -> None:
    """As many hospitals as were counted have an entry of that very attempt."""
    place = (training, event["round"], event["attempt"])
    paid = 0
    for name in deployment.names:
        entries = ledger_rounds(deployment, name)
        paid += place in {(e.get("training"), e.get("round"), e.get("attempt")) for e in entries}
    assert paid >= event["contributions"], (place, paid, event)


def leaks(consortium: Consortium) -> list[str]:
    """Return which secrets of hospitals are in which files outside of them."""
    outside = {
        path: path.read_bytes()
        for path in consortium.folder.rglob("*")
        if path.is_file() and consortium.authority not in path.parents
    }
    found = []
    for name in consortium.hospitals:
        site = consortium.site(name)
        own, shared = _secrets(site / "private")
        for path, data in outside.items():
            if site in path.parents:
                continue
            looked_for = own if "sites" in path.parts else {**own, **shared}
            found += [
                f"{name}'s {kind} is in {path}"
                for kind, secret in looked_for.items()
                if _holds(data, secret)
            ]
    return found


def _secrets(private: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return what a hospital alone holds, and what all of a training hold and nobody else may."""
    own = {
        "identity": bytes.fromhex((private / "identity.key").read_text()),
        "node key": (private / "node.key").read_bytes().splitlines()[-3],
    }
    own |= {path.name: path.read_bytes() for path in private.glob("ceremony-*.key")}
    shared = {}
    for path in sorted(private.glob("keys-*.bin")):
        keys = Keys.from_bytes(unmarked(path.read_bytes()))
        shared[f"{path.name} group key"] = keys.group_key
        middle = len(keys.secret) // 2
        shared[f"{path.name} secret key"] = keys.secret[middle : middle + _PIECE]
    return own, {name: secret for name, secret in shared.items() if secret}


def _holds(data: bytes, secret: bytes) -> bool:
    """Whether bytes are in other bytes: raw, in hexadecimal digits or in base 64."""
    forms = [secret, secret.hex().encode()]
    # Base 64 of the same bytes looks different at each of three offsets.
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        forms.append(encoded[4 * (offset > 0) : -4])
    return any(form in data for form in forms)
