"""What a hospital has in a training since the ceremony: keys, and who the others are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from accounting.private import Unreleased
from clients.contract.faults import Code, Fault
from clients.site.pair_file import Folder, PairFile
from crypto.keys import Keys


@dataclass(frozen=True, kw_only=True)
class Membership(Unreleased):
    """What a hospital has in a training.

    Attributes:
        keys: of the training.
        public_keys: signing keys of all members by name.
        bind: digest of terms and members, to which every header is bound.
        noise_multiplier: sigma, as it came with the keys.
        public: whether every member declared its records public, in the offers that all are bound
            to: what leaves of state that all share depends on it, never on one member's file.
    """

    keys: Keys
    public_keys: Mapping[str, bytes]
    bind: bytes
    noise_multiplier: float
    public: bool = False


class _Folder(Folder, Protocol):
    def read_marked(self, name: str) -> bytes | None: ...


def read_membership(folder: _Folder, training: str, key_id: str) -> Membership:
    """Return what a hospital's folder holds of a training, and its book names.

    Args:
        folder: the hospital's.
        training: id of the training.
        key_id: public name of the keys, as the book has it.

    Raises:
        Fault: ``keys-missing``: something is not there, or not what the book names.
    """
    secret = folder.read_marked(f"keys-{training}.bin")
    terms = folder.read_secret(f"terms-{training}.json")
    if secret is None or terms is None:
        raise Fault(Code.KEYS_MISSING, f"no keys of training {training} in the folder")
    keys, public = Keys.from_bytes(secret), json.loads(terms)
    if keys.key_id.hex() != key_id:
        raise Fault(Code.KEYS_MISSING, "the keys in the folder are not those of the book")
    return Membership(
        keys=PairFile(folder, training).added_to(keys) if public.get("pairs") else keys,
        public_keys={n: bytes.fromhex(k) for n, k in public["public-keys"].items()},
        bind=bytes.fromhex(public["bind"]),
        noise_multiplier=float(public["noise-multiplier"]),
        public=public["public"] is True,
    )


def colluders_of(folder: Folder, training: str) -> int:
    """Return c, the hospitals that a training reckons to work together; 0 without its keys."""
    terms = folder.read_secret(f"terms-{training}.json")
    return 0 if terms is None else int(json.loads(terms)["colluders"])
