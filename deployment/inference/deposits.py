"""Shares of pictures that pages leave at the provider, until the patient's agent asks for them."""

from __future__ import annotations

import secrets
import threading
import time

import numpy as np

from crypto.inference.words import Shape, Words
from deployment.inference.servers import Denied

#: Seconds that a share waits, and how many wait at once: of all patients, and of one.
KEEP_SECONDS, MOST, MOST_OF_ONE = 600.0, 64, 4


class Deposits:
    """The shares that wait; in memory alone.

    Args:
        shape: of a picture.
        keep_seconds: how long one waits.
    """

    def __init__(self, shape: Shape, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self._shape, self._keep_seconds = shape, keep_seconds
        self._waiting: dict[str, tuple[float, Words, str]] = {}
        self._lock = threading.Lock()

    def put(self, share: bytes, patient: str = "") -> str:
        """Keep a patient's share, uint64 little-endian, and return the token for it.

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
            if sum(whose == patient for *_, whose in self._waiting.values()) >= MOST_OF_ONE:
                raise Denied("busy", f"{MOST_OF_ONE} pictures of {patient} wait; try again later")
            words = np.frombuffer(share, dtype="<u8").reshape(self._shape)
            self._waiting[token] = (time.monotonic(), words, patient)
        return token

    def take(self, token: str, patient: str = "") -> Words:
        """Return a share, which is then here no more; zeros for no token.

        Raises:
            Denied: there is none of this token.
        """
        if not token:
            return np.zeros(self._shape, np.uint64)
        with self._lock:
            self._forget_old()
            mine = token in self._waiting and self._waiting[token][2] == patient
            found = self._waiting.pop(token) if mine else None
        if found is None:
            raise Denied("deposit", "no picture waits under this token: it was used, or is too old")
        return found[1]

    def _forget_old(self) -> None:
        now = time.monotonic()
        for token, (since, *_) in list(self._waiting.items()):
            if now - since > self._keep_seconds:
                del self._waiting[token]
