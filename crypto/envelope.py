"""Authenticated envelopes (ChaCha20-Poly1305): what one key holder leaves for another.

The context (for example ``b"snapshot|training|round"``) is authenticated but not stored, so an
envelope opens only where it was meant to. Each envelope has its own key, derived from the group
key with a fresh 32-byte salt: random nonces under one key would be limited to some 2**32 messages.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.errors import EnvelopeError

_MAGIC = b"AEV1"
_SALT = 32
_TAG = 16
_NONCE = bytes(12)  # the key is used once
OVERHEAD = len(_MAGIC) + _SALT + _TAG


def _cipher(key: bytes, salt: bytes) -> ChaCha20Poly1305:
    if len(key) != 32:
        raise EnvelopeError(f"envelope key has {len(key)} bytes, expected 32")
    derived = HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"asclepias envelope 1")
    return ChaCha20Poly1305(derived.derive(key))


def wrap(key: bytes, data: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate `data` for holders of the 32-byte `key`, bound to `context`."""
    salt = os.urandom(_SALT)
    return _MAGIC + salt + _cipher(key, salt).encrypt(_NONCE, data, context)


def unwrap(key: bytes, envelope: bytes, context: bytes) -> bytes:
    """Open an envelope.

    Raises:
        EnvelopeError: The bytes are no envelope, were changed, or belong to another key or context.
    """
    if len(envelope) < OVERHEAD or not envelope.startswith(_MAGIC):
        raise EnvelopeError(f"{len(envelope)} bytes are no envelope (at least {OVERHEAD} expected)")
    salt = envelope[len(_MAGIC) : len(_MAGIC) + _SALT]
    try:
        return _cipher(key, salt).decrypt(_NONCE, envelope[len(_MAGIC) + _SALT :], context)
    except InvalidTag:
        raise EnvelopeError("the envelope does not open with this key and context") from None
