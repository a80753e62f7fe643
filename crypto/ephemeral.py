"""Ephemeral X25519 secrets: what a hospital's offer in a key ceremony is the public half of."""

from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)

from crypto.errors import CeremonyError, KeysError


class EphemeralSecret:
    """The secret half of an offer; kept by its hospital until keys have come."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise CeremonyError(f"an ephemeral secret has 32 bytes, found {len(secret)}")
        self._key = X25519PrivateKey.from_private_bytes(secret)

    @property
    def public(self) -> bytes:
        """The X25519 public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The X25519 shared secret with a peer's public key."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise CeremonyError("a peer's ephemeral key is of low order") from None

    def to_bytes(self) -> bytes:
        """The secret, for the hospital's own 0600 file and nothing else."""
        return self._key.private_bytes_raw()

    @classmethod
    def from_bytes(cls, data: bytes) -> "EphemeralSecret":
        """Read `to_bytes`."""
        return cls(data)

    def __repr__(self) -> str:
        return "EphemeralSecret(hidden)"

    def __reduce__(self) -> NoReturn:
        raise KeysError("ephemeral secrets are never pickled or copied; to_bytes is explicit")
