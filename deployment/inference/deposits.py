"""Shares of pictures that pages leave at the provider, until the patient's agent asks for them."""

from __future__ import annotations

import secrets
import threading
import time

import numpy as np

from crypto.inference.words import Shape, Words
from deployment.inference.servers import Denied

#: Seconds that a share waits, and how many wait at once.
KEEP_SECONDS, MOST = 600.0, 64


class Deposits:
    """The shares that wait; in memory alone.

    Args:
        shape: of a picture.
        keep_seconds: how long one waits.
    """

    def __init__(self, shape: Shape, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self._shape, self._keep_seconds = shape, keep_seconds
        self._waiting: dict[str, tuple[float, Words]] = {}
        self._lock = threading.Lock()

    def put(self, share: bytes) -> str:
        """Keep a share, uint64 little-endian, and return the token for it.

        Raises:
            Denied: it has another size, or too many wait.
        """
        size = 8 * int(np.prod(self._shape))
        if len(share) != size:
            raise Denied("size", f"a share of {len(share)} bytes; expected {size}")
        token = secrets.token_hex(16)
        with self._lock:
            self._forget_old()
            if len(self._waiting) >= MOST:
                raise Denied("busy", f"{MOST} pictures wait already; try again in a minute")
            words = np.frombuffer(share, dtype="<u8").reshape(self._shape)
            self._waiting[token] = (time.monotonic(), words)
        return token

    def take(self, token: str) -> Words:
        """Return a share, which is then here no more; zeros for no token.

        Raises:
            Denied: there is none of this token.
        """
        if not token:
            return np.zeros(self._shape, np.uint64)
        with self._lock:
            self._forget_old()
            found = self._waiting.pop(token, None)
        if found is None:
            raise Denied("deposit", "no picture waits under this token: it was used, or is too old")
        return found[1]

    def _forget_old(self) -> None:
        now = time.monotonic()
        for token, (since, _) in list(self._waiting.items()):
            if now - since > self._keep_seconds:
                del self._waiting[token]
