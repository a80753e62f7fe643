"""Secret randomness for sealing under one-time keys, and keystreams that all may derive.

Secrets are drawn from the operating system, in seeded runs too: 32 bytes of it key an AES-256-CTR
stream. No draw branches on a secret or looks one up in a table.
"""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from crypto.security import COINS

Words = NDArray[np.uint64]
_BLOCK = 16


class KeyStream:
    """AES-256 in counter mode under a key that is used for nothing else."""

    __slots__ = ("_buffer", "_cipher", "_zeros")

    def __init__(self, key: bytes, *, start: int = 0) -> None:
        """Begin at byte `start`, a multiple of 16."""
        counter = (start // _BLOCK).to_bytes(_BLOCK, "big")
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
        self._zeros, self._buffer = b"", bytearray()

    def words(self, count: int) -> Words:
        """The next `count` words, uint64; overwritten by the next call."""
        size = 8 * count
        if len(self._zeros) != size:
            self._zeros, self._buffer = bytes(size), bytearray(size + _BLOCK - 1)
        self._cipher.update_into(self._zeros, self._buffer)
        return np.frombuffer(self._buffer, dtype="<u8", count=count)

    def __repr__(self) -> str:
        return "KeyStream(hidden)"


class Coins(KeyStream):
    """A stream of secret randomness, freshly keyed by the operating system."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(os.urandom(32))

    def heads(self, count: int) -> NDArray[np.uint8]:
        """How many of 64 coins show heads, uint8 `[count]`: 32 on average, std 4 exactly."""
        return np.bitwise_count(self.words(count))

    def binomial(self, count: int) -> NDArray[np.int64]:
        """Centred binomial numbers, int64 `[count]`: `heads` less 32."""
        return self.heads(count).astype(np.int64) - COINS // 2

    def below(self, bound: int, count: int) -> NDArray[np.float64]:
        """Uniform whole numbers below `bound` <= 2**49, as float64 `[count]`.

        Their law is within `bound * 2**-52` of uniform in total variation.
        """
        units = (self.words(count) >> np.uint64(12)).astype(np.float64)
        units *= 2.0**-52 * bound
        return np.floor(units, out=units)
