"""A server of private inference: pinned peers, a thread for each, a clear end for every error."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crypto.errors import SealingError
from crypto.inference.links import FrameLink, LinkError, Refusal
from deployment.errors import DeploymentError
from deployment.inference.arrivals import Arrivals
from deployment.inference.identities import Greeter, Pins

_log = logging.getLogger("asclepias.inference")
#: Connections at once: of all, and of one patient, who else could keep all others out.
MOST_GUESTS, MOST_OF_A_PATIENT = 32, 4
#: Seconds before a connection is taken in again, where the machine gave none.
_PAUSE_SECONDS = 0.1
#: Seconds within which a peer asks that is to be told that it has too many connections.
_ASKED_SECONDS = 5.0


class Denied(SealingError):
    """What a server tells a peer that it will not do; its text travels.

    Attributes:
        reason: a code.
    """

    code = "denied"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Crowded(Exception):
    """A peer has as many connections as it may have."""


class Server:
    """Listens, and lets pinned peers be served.

    Args:
        folder: of the party.
        pins: who may connect.
        address: "host:port"; port 0 for a free one.
        serve: is given the link and the peer's name, and returns when the peer has gone.
        patience: seconds that a peer may be silent.
        trusted: names of peers that may have as many connections as there are.
    """

    def __init__(
        self,
        folder: Path,
        pins: Pins,
        address: str,
        serve: Callable[[FrameLink, str], None],
        *,
        patience: float = 60.0,
        trusted: Collection[str] = (),
    ) -> None:
        host, _, port = address.rpartition(":")
        self._greeter, self._serve, self._patience = Greeter(folder, pins), serve, patience
        try:
            self._socket = socket.create_server((host.strip("[]"), int(port)), backlog=MOST_GUESTS)
        except OSError as error:
            raise DeploymentError(f"cannot listen on {address}: {error}") from None
        self.port: int = self._socket.getsockname()[1]
        self._places = threading.BoundedSemaphore(MOST_GUESTS)
        self._arrivals, self._closed = Arrivals(), False
        self._trusted, self._guests, self._refused = trusted, Counter[str](), Counter[str]()
        self._change = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> Server:
        """Begin to listen, in a thread of its own."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Take in nobody any more; a second time this does nothing."""
        self._closed = True
        # A thread that waits in accept is woken by this, and by a plain close it is not.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            try:
                plain, address = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                # Too many open files, say: a moment later there are fewer.
                _log.error("no connection can be taken in: %s", error.strerror)
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                arrived = self._greeter.arrived(plain)
            except OSError:
                plain.close()
                continue
            self._arrivals.add(arrived, str(address[0]))
            threading.Thread(target=self._receive, args=(arrived,), daemon=True).start()

    def _receive(self, arrived: ssl.SSLSocket) -> None:
        try:
            with self._arrivals.until_known(arrived):
                link, name = self._greeter.greet(arrived, patience=self._patience)
            with link:
                self._let_in(link, name)
        except (LinkError, Refusal) as error:
            _log.info("%s", error)

    def _let_in(self, link: FrameLink, name: str) -> None:
        """Seat a peer, and tell one that has too many connections so, once it has asked."""
        if name in self._trusted:
            self._seat(link, name)
            return
        with suppress(_Crowded), self._counted(self._guests, name):
            self._seat(link, name)
            return
        with suppress(_Crowded), self._counted(self._refused, name):
            said = f"{name} has {MOST_OF_A_PATIENT} connections already, by other commands or pages"
            _turn_away(link, f"{said}: end one of them first")

    def _seat(self, link: FrameLink, name: str) -> None:
        """Attend to a peer once there is a place."""
        if not self._places.acquire(timeout=self._patience / 2):
            _turn_away(link, f"{MOST_GUESTS} peers are connected; try again")
            return
        try:
            self._attend(link, name)
        finally:
            self._places.release()

    @contextmanager
    def _counted(self, counts: Counter[str], name: str) -> Iterator[None]:
        """Count a peer's connection as long as it lasts.

        Raises:
            _Crowded: it has too many.
        """
        with self._change:
            if counts[name] >= MOST_OF_A_PATIENT:
                _log.info("%s has %d connections already", name, MOST_OF_A_PATIENT)
                raise _Crowded
            counts[name] += 1
        try:
            yield
        finally:
            with self._change:
                counts[name] -= 1

    def _attend(self, link: FrameLink, name: str) -> None:
        try:
            self._serve(link, name)
        except Denied as error:
            _log.info("%s is denied: %s", name, error)
            link.say({"error": error.reason, "text": str(error)})
        except LinkError:
            raise
        except SealingError as error:
            _log.info("%s: %s", name, error)
            link.say({"error": error.code, "text": ""})
        except Exception as error:
            # Its text may hold anything: neither a log nor a peer gets it.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("serving %s failed: %s at\n%s", name, type(error).__name__, where)
            link.say({"error": "failed", "text": "the server's own log says where"})


def _turn_away(link: FrameLink, text: str) -> None:
    """Answer the first question of a peer by a refusal.

    An end before it has asked would be an error of its connection, and no answer.
    """
    link.patience = min(link.patience, _ASKED_SECONDS)
    link.hear()
    link.say({"error": "busy", "text": text})
