"""Cryptographic randomness for sampling and noise.

A `Stream` is an AES-256-CTR keystream read as numbers. Unseeded, its key comes from the operating
system; seeded, from HKDF-SHA256 over the seed and labels, so that every purpose, hospital and round
has a stream of its own and nothing needs to be stored. A seeded stream is repeatable and
therefore carries *no privacy guarantee*: whoever knows the seed knows the noise.

    >>> first, again, other = (
    ...     Stream.from_seed(7, "noise", hospital, 12).normal(1000)
    ...     for hospital in ("hospital-3", "hospital-3", "hospital-4")
    ... )
    >>> bool((first == again).all()), bool((first == other).any())
    (True, False)

Normal values are the inverse normal CDF of uniforms that keep their full relative precision down
to 2^-127, so the tails are right at any depth a training can reach; 53-bit uniforms stop at 8.2
standard deviations, with a few coarse values near it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from accounting.errors import AccountingError
from accounting.normals import SMALL, Normals

CHUNK = 1 << 15  # values drawn at a time: keeps the working set in the cache
_ZEROS = memoryview(bytes(8 * CHUNK))  # fresh ones would cost more than what is drawn over them
# The inverse CDF is good to 7.2e-16 relative (Moshier's Cephes, ndtri); p to 2^-52 relative,
# which moves x by at most 2^-52 * p / pdf(x) < 2^-52 * 1.26.
NORMAL_ERROR = 2.0**-50


def _encode(labels: tuple[str | int | bytes, ...]) -> bytes:
    """The labels, each with its type and length, so that no two tuples encode alike."""
    parts = []
    for label in labels:
        if isinstance(label, str):
            kind, data = b"s", label.encode()
        elif isinstance(label, int) and not isinstance(label, bool):
            kind, data = b"i", str(label).encode()
        elif isinstance(label, bytes):
            kind, data = b"b", label
        else:
            raise AccountingError(f"a stream's label is {label!r}, expected str, int or bytes")
        parts.append(kind + len(data).to_bytes(8, "big") + data)
    return b"asclepias stream 1" + b"".join(parts)


class Stream:
    """A stream of cryptographic random numbers. Not thread-safe: one stream for one purpose."""

    def __init__(self, key: bytes, *, seeded: bool) -> None:
        if len(key) != 32:
            raise AccountingError(f"a stream's key has {len(key)} bytes, expected 32")
        self._seeded = seeded
        self._process = os.getpid()
        self._cipher = _keystream(key)
        #: What was drawn ahead: by which process, how many values, and these.
        self._ahead: tuple[int, int, deque[Normals]] | None = None

    @classmethod
    def fresh(cls) -> Stream:
        """A stream keyed by the operating system. The only kind that carries a guarantee."""
        return cls(os.urandom(32), seeded=False)

    @classmethod
    def from_seed(cls, seed: int, *labels: str | int | bytes) -> Stream:
        """The repeatable stream of (seed, labels). No guarantee: the seed gives the noise away.

        Args:
            seed: any integer.
            labels: what the stream is for, for example hospital, round and purpose. Different
                labels give independent streams (HKDF-SHA256, Krawczyk 2010, RFC 5869).
        """
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=_encode(labels))
        return cls(derive.derive(_encode((seed,))), seeded=True)

    @classmethod
    def from_key(cls, key: bytes, *labels: str | int | bytes) -> Stream:
        """The stream of (secret key, labels): drawn anew it is the same, and nobody else's.

        Guarantee: as `fresh`, while the 32 bytes of the key are random and secret; different labels
        give independent streams.
        """
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=_encode(labels))
        return cls(derive.derive(key), seeded=False)

    @property
    def seeded(self) -> bool:
        """Whether the stream is repeatable, and so carries no guarantee."""
        return self._seeded

    def __repr__(self) -> str:
        return f"Stream(seeded={self._seeded})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream holds a key and cannot be pickled or copied")

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        if self._ahead is not None:
            raise AccountingError("values were drawn ahead of this stream: they are to come first")
        zeros = _ZEROS[:count] if count <= len(_ZEROS) else bytes(count)
        return self._cipher_here().update(zeros)

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` random 64-bit words, uint64 [count]."""
        return np.frombuffer(self.bytes(8 * count), dtype="<u8")

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniforms of the open interval (0, 1), float64 [count], 52 bits each."""
        return ((self.words(count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def bernoulli(self, count: int, probability: float) -> NDArray[np.bool_]:
        """`count` independent draws, true with `probability` exactly to 2^-128, bool [count].

        This is Poisson sampling: the accountants' amplification holds for it and for no other
        way of choosing a batch.

        Raises:
            AccountingError: the probability is outside [0, 1].
        """
        if not 0.0 <= probability <= 1.0:
            raise AccountingError(f"probability is {probability}, expected 0 <= p <= 1")
        numerator, denominator = float(probability).as_integer_ratio()
        threshold = (numerator << 128) // denominator
        if threshold >= 1 << 128:
            self.words(count)
            return np.ones(count, dtype=np.bool_)
        high, low = np.uint64(threshold >> 64), np.uint64(threshold & (2**64 - 1))
        words = self.words(count)
        chosen = words < high
        ties = np.flatnonzero(words == high)  # about never, unless the probability is tiny
        chosen[ties] = self.words(len(ties)) < low
        return chosen

    def integers(self, count: int, below: int) -> NDArray[np.int64]:
        """`count` integers of 0 .. below-1, without bias (rejection), int64 [count]."""
        if not 1 <= below <= 2**63:
            raise AccountingError(f"below is {below}, expected 1 .. 2^63")
        largest = np.uint64(2**64 - 2**64 % below - 1)  # the last word of a whole multiple
        drawn = self.words(count).copy()
        while (bad := np.flatnonzero(drawn > largest)).size:
            drawn[bad] = self.words(bad.size)
        return (drawn % np.uint64(below)).astype(np.int64)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """A uniformly random order of 0 .. count-1, int64 [count]."""
        while True:
            keys = self.words(count)
            order = np.argsort(keys, kind="stable")
            ranked = keys[order]
            if not np.any(ranked[1:] == ranked[:-1]):  # equal keys would favour one order
                return order.astype(np.int64)

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` standard normal values, float64 [count], right in the tails.

        x = sign * ndtri(p), p uniform on (0, 1/2] with full relative precision. A value's error
        relative to an exact sampler of the same uniform is at most `NORMAL_ERROR` * (|x| + 1),
        which the grid planner charges.
        """
        values = np.empty(count, dtype=np.float64)
        for start, drawn in zip(range(0, count, CHUNK), self._next(count), strict=True):
            values[start : start + CHUNK] = drawn.exact()
        return values

    def normals(self, count: int) -> Iterator[Normals]:
        """The values of `normal`, `CHUNK` at a time, before they are computed.

        Raises:
            AccountingError: another number of them was drawn ahead.
        """
        return self._next(count)

    def _next(self, count: int) -> Iterator[Normals]:
        if self._ahead is None:
            yield from self._drawn(count)
            return
        process, drawn, pieces = self._ahead
        self._ahead = None
        if drawn != count:
            raise AccountingError(f"{drawn} values were drawn ahead, and {count} are asked for")
        if process != os.getpid() and not self._seeded:
            yield from self._drawn(count)  # the parent has these
            return
        while pieces:
            yield pieces.popleft()

    def draw_ahead(self, count: int) -> Iterator[Normals]:
        """Draw now what `normals` is to return next; nothing else may be drawn in between.

        Memory: 8 bytes a value, until they are taken.

        Returns:
            The same values, to be made ready for their use.
        """
        if self._ahead is not None:
            raise AccountingError("values of this stream have been drawn ahead before")
        pieces = deque(self._drawn(count))
        self._ahead = os.getpid(), count, pieces
        return iter(list(pieces))

    def forget_ahead(self) -> None:
        """Let go of what was drawn ahead: this stream gives no values any more."""
        if self._ahead is not None:
            self._ahead = (self._ahead[0], -1, deque())

    def _drawn(self, count: int) -> Iterator[Normals]:
        for start in range(0, count, CHUNK):
            words = self.words(min(CHUNK, count - start))
            small = np.flatnonzero(words < SMALL)
            yield Normals(words, small, self.uniform(len(small)))

    def _cipher_here(self) -> CipherContext:
        """The cipher; a fork of the process must not replay its parent's secret stream."""
        if self._process != os.getpid():
            self._process = os.getpid()
            if not self._seeded:
                self._cipher = _keystream(os.urandom(32))
        return self._cipher


def _keystream(key: bytes) -> CipherContext:
    # The counter may start at zero: a key is used for one stream only.
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
