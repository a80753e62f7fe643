"""Signing identities (Ed25519): what a hospital signs with, and how its key is named to people.

The secret half lies in the hospital's own folder, readable by its owner alone, and leaves it never.
"""

import base64
import contextlib
import hashlib
import os
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from crypto.errors import IdentityError, SignatureError
from crypto.whole_file import write_private


class Identity:
    """A signing key; its repr and pickle show nothing."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise IdentityError(f"an identity has 32 bytes, found {len(secret)}")
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Identity":
        """A new identity."""
        return cls(os.urandom(32))

    @classmethod
    def load_or_create(cls, path: str | Path) -> "Identity":
        """Read the identity at `path`, or make one there with mode 0600.

        Raises:
            IdentityError: The file holds no identity or others may read it.
        """
        place = Path(path)
        if not place.exists():
            cls._create(place)
        if place.stat().st_mode & 0o077:
            raise IdentityError(f"{place} is readable by others, expected mode 0600")
        try:
            return cls(bytes.fromhex(place.read_text().strip()))
        except ValueError:
            raise IdentityError(f"{place} holds no identity") from None

    @staticmethod
    def _create(place: Path) -> None:
        """Make an identity's file whole, unless another process was first."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # two processes agree on one identity
            write_private(place, os.urandom(32).hex().encode() + b"\n", anew=True)

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public)})"

    def __reduce__(self) -> NoReturn:
        raise IdentityError("identities are never pickled or copied")


def fingerprint(public: bytes) -> str:
    """A short name of a public key, short enough to be compared by telephone, and to be pinned."""
    digest = hashlib.sha256(b"asclepias identity\n" + public).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def verify_signature(public: bytes, signature: bytes, message: bytes, who: str) -> None:
    """Check one signature.

    Raises:
        SignatureError: It is not by this key over this message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"the signature of {who!r} does not verify") from None
