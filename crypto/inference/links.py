"""Links: frames over a socket, TLS or not, sent and received at once without threads.

A frame is its length, uint32 little-endian, and as many bytes. When both ends send at the same
time, each also reads, so that neither waits for the other. A peer that is gone, is silent for too
long, or sends another length than it should, ends the link with an error that says which.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

from crypto.errors import SealingError

_HEAD = struct.Struct("<I")
#: What a piece of a send or a read may be: about what a socket's buffer takes.
_PIECE = 1 << 18
#: A longest JSON message.
MOST_WORDS = 1 << 22
#: Of a refusal: bytes of the frame in an array's place, and characters that are repeated.
_MOST_OF_A_REFUSAL = 1 << 10


class LinkError(SealingError):
    """A connection that ended, or on which something else came than should."""

    code = "link"


class Ended(LinkError):
    """A connection that the peer has ended."""


class Refusal(SealingError):
    """What the other end says instead of an answer.

    Attributes:
        reason: its code.
    """

    code = "refused"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class FrameLink:
    """A connection to one peer.

    Args:
        connection: a connected socket, with TLS or without; closed with the link.
        peer: how the peer is called in errors.
        patience: seconds that it may be silent.

    Attributes:
        sent: bytes, frames' heads included.
        received: likewise.
    """

    def __init__(self, connection: socket.socket, *, peer: str, patience: float = 60.0) -> None:
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self.peer, self.patience = connection, peer, patience
        self.sent = self.received = 0

    def send(self, data: memoryview | bytes) -> None:
        """Send one frame."""
        self._move(_framed(data), memoryview(bytearray()))

    def receive(self, size: int) -> memoryview:
        """Return the next frame, which must have this size."""
        return self.exchange(None, size)

    def exchange(self, data: memoryview | bytes | None, size: int) -> memoryview:
        """Send a frame, and return the one that comes meanwhile, which must have this size."""
        came = memoryview(bytearray(_HEAD.size + size))
        out = [] if data is None else _framed(data)
        # The head first: a shorter frame than expected must not be waited for.
        self._move(out, came[: _HEAD.size], came[_HEAD.size :], size)
        return came[_HEAD.size :]

    def say(self, words: Mapping[str, Any]) -> None:
        """Send a JSON object."""
        self.send(json.dumps(words).encode())

    def hear(self) -> dict[str, Any]:
        """Return the next frame as a JSON object.

        Raises:
            Refusal: the peer refuses.
            LinkError: it is none, or too long.
        """
        head = memoryview(bytearray(_HEAD.size))
        self._move([], head)
        (size,) = _HEAD.unpack(head)
        if size > MOST_WORDS:
            raise LinkError(f"{self.peer} sent a message of {size} bytes; expected {MOST_WORDS}")
        words = self._words(size)
        if words is None:
            raise LinkError(f"{self.peer} sent something that is no message")
        return words

    def questions(self) -> Iterator[dict[str, Any]]:
        """Yield messages until the peer ends the connection where one might begin.

        Raises:
            Refusal, LinkError: as `hear`; also where it ends within a message.
        """
        while True:
            before = self.received
            try:
                words = self.hear()
            except Ended:
                if self.received != before:
                    raise
                return
            yield words

    def _words(self, size: int) -> dict[str, Any] | None:
        """Read a body as a JSON object; None if it is none.

        Raises:
            Refusal: it refuses.
        """
        body = memoryview(bytearray(size))
        self._move([], body)
        try:
            words = json.loads(bytes(body))
        except (ValueError, RecursionError):
            return None
        if not isinstance(words, dict):
            return None
        if "error" in words:
            given = (words["error"], words.get("text", ""))
            reason, text = (str(one)[:_MOST_OF_A_REFUSAL] for one in given)
            raise Refusal(reason, f"{self.peer} refuses ({reason}): {text or 'no more is said'}")
        return words

    def ask(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Send a JSON object and return the one that answers it."""
        self.say(words)
        return self.hear()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> FrameLink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _move(
        self,
        out: list[memoryview],
        head: memoryview,
        body: memoryview | None = None,
        size: int = 0,
    ) -> None:
        """Send pieces and fill buffers, whichever can go on; check the head before the body."""
        pending = [piece for piece in out if len(piece)]
        wanted = [head] if len(head) else []
        deadline = time.monotonic() + self.patience
        while pending or wanted or body is not None:
            if not wanted and body is not None:
                self._check(head, size)
                wanted, body = ([body] if len(body) else []), None
                continue
            went = self._write(pending) if pending else 0
            came = self._read(wanted) if wanted else 0
            if went or came:
                deadline = time.monotonic() + self.patience
                continue
            self._wait(bool(wanted), bool(pending), deadline)

    def _check(self, head: memoryview, size: int) -> None:
        (found,) = _HEAD.unpack(head)
        if found != size:
            if found <= _MOST_OF_A_REFUSAL:
                self._words(found)
            raise LinkError(f"{self.peer} sent a frame of {found} bytes; expected {size}")

    def _write(self, pending: list[memoryview]) -> int:
        try:
            went = self._connection.send(pending[0][:_PIECE])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise LinkError(f"{self.peer} is gone ({error})") from None
        self.sent += went
        pending[0] = pending[0][went:]
        if not len(pending[0]):
            pending.pop(0)
        return went

    def _read(self, wanted: list[memoryview]) -> int:
        try:
            came = self._connection.recv_into(wanted[0][:_PIECE])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise LinkError(f"{self.peer} is gone ({error})") from None
        if not came:
            raise Ended(f"{self.peer} ended the connection")
        self.received += came
        wanted[0] = wanted[0][came:]
        if not len(wanted[0]):
            wanted.pop(0)
        return came

    def _wait(self, reading: bool, writing: bool, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise LinkError(f"{self.peer} was silent for {self.patience:g} s")
        poll = select.poll()
        wanted = (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0)
        poll.register(self._connection, wanted)
        poll.poll(1000 * left)


def whole_number(words: Mapping[str, Any], name: str, most: int, *, peer: str) -> int:
    """Return a number of a message, between 0 and `most`.

    Raises:
        LinkError: it is none.
    """
    found = words.get(name)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= most:
        raise LinkError(f"{peer} says {name} = {str(found)[:40]}; expected 0 to {most}")
    return found


def _framed(data: memoryview | bytes) -> list[memoryview]:
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    return [memoryview(_HEAD.pack(len(view))), view]
