"""Shares that a browser seals for the provider, so that the agent that carries one cannot read it.

HPKE (RFC 9180), base mode: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; what every browser
has. The provider's key lives as long as its process, and is nowhere on disk.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crypto.errors import EnvelopeError

_SUITE = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
#: Bytes of a public key: an uncompressed point of P-256.
PUBLIC = 65
#: By how many bytes a sealed share is longer than the share: a public key, and a tag.
OVERHEAD = PUBLIC + 16


def context(model: str) -> bytes:
    """Return what a share is bound to: it opens for this model and for nothing else."""
    return b"asclepias share 1|" + model.encode()


class ShareOpener:
    """Opens shares that were sealed for it.

    Attributes:
        public: its key, an uncompressed point of P-256, `PUBLIC` bytes.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )

    def open(self, sealed: bytes, model: str) -> bytes:
        """Return a share.

        Raises:
            EnvelopeError: it was sealed for another key or model, or was changed.
        """
        try:
            return _SUITE.decrypt(sealed, self._key, context(model))
        except (InvalidTag, ValueError):
            raise EnvelopeError("a share that was sealed for another key or model") from None

    def __repr__(self) -> str:
        return "ShareOpener(hidden)"


def seal(public: bytes, share: bytes, model: str) -> bytes:
    """Return a share sealed as a browser does it.

    Args:
        public: the provider's, as in `ShareOpener.public`.
        share: the bytes.
        model: the id of the model that they are for.
    """
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    return _SUITE.encrypt(share, key, context(model))
