"""The hospital's own ground: its name, folder, keys, log, ledger and limits.

Nothing here is taken from the server. A real hospital's node names a ``site.toml`` in its node
config; a simulated one gets a folder inside the run folder. Whatever a run asks for, the limits
that are read here win.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from accounting import lines
from accounting.limits import SiteLimits
from accounting.randomness import Stream
from clients.contract.faults import Code, Fault
from clients.contract.printable import printable_lines
from clients.site.books import Books
from clients.site.heads import marked, unmarked
from clients.site.machine import Machine
from clients.site.readiness import site_faults
from crypto.errors import IdentityError
from crypto.identity import Identity, fingerprint
from crypto.pins import FirstUse, Pins
from crypto.whole_file import locked, sweep, write_private

if TYPE_CHECKING:
    from accounting.book import Book
    from accounting.input_noise import InputNoise
    from clients.contract.settings import Settings
    from clients.data import DatasetInfo
    from clients.data.noisy_inputs import Streams
    from clients.learning.processors import Processors
    from clients.site.site_file import SiteFile

logger = logging.getLogger(__name__)

#: Letters of one entry of the hospital's own log.
MOST_LETTERS = 2**14
#: Bytes of a log before it makes room, and how many before it are kept.
MOST_LOG_BYTES, OLDER_LOGS = 2**24, 4
_KEY_BYTES = 32
#: A disk, or a share of one, that takes no more.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hospital's own ground.

    Attributes:
        name: the hospital's name in this federation.
        folder: where keys, ledger and log are kept; only the owner may read it.
        simulated: whether the hospital lives in a simulation.
        books: the books that its process holds open.
        limits: what the hospital allows, whatever a run asks for.
        pins: fingerprints of the other hospitals' identities; empty in simulations only.
        ledger_path: a ledger that outlives the run, or ``None`` for one inside ``folder``.
        test_mode: whether seeded (repeatable, not private) runs are allowed outside simulation.
        audit: whether each training's promise is attacked here when it closes.
        patients: N_k as the hospital itself declares it, a public number; 0 where it does not.
        partition: part of a public cohort that stands for its records; None for its own.
        answer_every: seconds; answers leave at whole multiples of them. 0: when they are ready.
        unwitnessed: places that may be known to the server alone.
        require_witness: whether peers vouch for its ledger in each training, whatever its home.
        home: ``inode``, or ``any`` where a disk gives a file another inode at times.
        machine: what it computes on.
    """

    name: str
    folder: Path
    simulated: bool
    books: Books
    limits: SiteLimits = field(default_factory=SiteLimits)
    pins: Pins = field(default_factory=dict)
    ledger_path: Path | None = None
    test_mode: bool = False
    audit: bool = False
    patients: int = 0
    partition: int | None = None
    answer_every: float = 0.0
    unwitnessed: int = 4
    require_witness: bool = False
    home: str = "inode"
    machine: Machine = field(default_factory=Machine)

    @cached_property
    def identity(self) -> Identity:
        """The hospital's signing key, made on first use.

        Raises:
            Fault: ``site-refused``: others may read it, or it holds none.
        """
        try:
            return Identity.load_or_create(self.folder / "identity.key")
        except IdentityError as error:
            raise Fault(Code.SITE_REFUSED, str(error)) from error

    def book(self, cohort: str) -> Book:
        """Open the hospital's book for a cohort of patients.

        A simulated site skips the flush to the disk's own surface, not the write: a killed process
        still loses nothing, and a thousand sites do not wait for one disk.

        Raises:
            LedgerError: it is damaged, or another's.
            Fault: ``site-refused``: there can be no such file.
        """
        try:
            return self.books.open(
                self.ledger_file, site=self.name, cohort=cohort, durable=not self.simulated
            )
        except OSError as error:
            if error.errno in FULL:
                raise
            raise Fault(Code.SITE_REFUSED, f"the ledger: {error}") from error

    @cached_property
    def ledger_file(self) -> Path:
        """Where the hospital's ledger is."""
        return self.ledger_path or self.folder / "ledger.jsonl"

    def log(self, text: str) -> None:
        """Append a line to the hospital's own log; further lines of a text are set in.

        It never raises: what is being logged may be that the disk is full. What cannot be written
        goes to standard error, which is the hospital's own as well.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        if len(text) > MOST_LETTERS:
            # A message may quote what a server sent, which may be as long as it likes.
            half = MOST_LETTERS // 2
            text = f"{text[:half]} [...] {text[-half:]}"
        line = f"{moment} {printable_lines(text)}".replace("\n", "\n    ") + "\n"
        try:
            append_log(self.folder / "hospital.log", line.encode())
        except OSError as error:
            with suppress(Exception):
                sys.stderr.write(f"{self.name}: hospital.log: {error.strerror}; {line}")

    def log_exception(self, error: BaseException) -> None:
        """Append an exception with its traceback to the hospital's own log."""
        self.log("".join(traceback.format_exception(error)).rstrip())

    def write_secret(self, name: str, data: bytes) -> None:
        """Write a file for the owner alone, whole or not at all; a real site flushes it."""
        write_private(self.folder / name, data, durable=not self.simulated)

    def write_marked(self, name: str, data: bytes, book: Book) -> None:
        """Write a secret that shows, at a real site, how long the book was."""
        self.write_secret(name, data if self.simulated else marked(data, book))

    def read_marked(self, name: str) -> bytes | None:
        """Read what :meth:`write_marked` wrote, or ``None``."""
        data = self.read_secret(name)
        return None if data is None else unmarked(data)

    def read_secret(self, name: str) -> bytes | None:
        """Read what :meth:`write_secret` wrote, or ``None``.

        Raises:
            Fault: ``site-refused``: others than the owner could read or change it.
        """
        path = self.folder / name
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise Fault(Code.SITE_REFUSED, f"{path} can be read or written by others")
                return file.read()
        except FileNotFoundError:
            return None

    def input_noise(
        self, noise: InputNoise, info: DatasetInfo, settings: Settings, training: str
    ) -> Streams:
        """Return the streams of the noise on this hospital's records, the same in every training.

        The first time that a cohort's records of a shape are noised at a scale a key is drawn, and
        the noise is written to the book, before any record is touched.
        """
        label = json.dumps([info.name, noise.scale, info.shape]).encode()
        name = f"input-noise-{hashlib.sha256(label).hexdigest()[:16]}"
        book = self.book(info.name)
        with book.hold():
            key = self.read_secret(f"{name}.key")
            counted = any(entry.purpose == f"charge: {name}" for entry in book.entries())
            if not counted or (key is None and not settings.seeded):
                book.append(lines.charge(training, noise.event, why=name))
            if settings.seeded:
                seed = settings.run.seed
                return partial(Stream.from_seed, seed, self.name, "input noise", name)
            if key is None:
                key = os.urandom(_KEY_BYTES)
                self.write_secret(f"{name}.key", key)
        return partial(Stream.from_key, key, "input noise")

    def forget_secret(self, name: str) -> None:
        """Remove a secret that is no longer needed."""
        (self.folder / name).unlink(missing_ok=True)


def simulated_site(
    name: str,
    settings: Settings,
    training: str,
    books: Books,
    processors: Processors | None = None,
) -> Site:
    """Return a simulated hospital's ground, inside the run folder where there is one."""
    if settings.run.out:
        root = Path(settings.run.out)
    else:
        root = Path(tempfile.gettempdir()) / f"asclepias-{os.getuid()}" / training
    folder = private_folder(root / "sites" / name)
    machine = Machine.of(settings, processors)
    return Site(name=name, folder=folder, simulated=True, books=books, machine=machine)


def real_site(file: SiteFile, books: Books) -> Site:
    """Return a real hospital's ground, as its own ``site.toml`` says.

    Raises:
        Fault: others could use its files, or it names no pins, no app or no place for a ledger.
    """
    if not file.private.exists():
        private_folder(file.private)
    if faults := site_faults(file):
        raise Fault(Code.SITE_REFUSED, "; ".join(faults))
    sweep(file.private)
    return Site(
        name=file.hospital,
        folder=file.private,
        simulated=False,
        books=books,
        limits=file.limits,
        pins=_pins(file),
        ledger_path=file.ledger,
        test_mode=file.test_mode,
        patients=file.patients,
        partition=file.simulated_partition,
        answer_every=file.answer_every,
        audit=file.audit,
        unwitnessed=file.unwitnessed,
        require_witness=file.require_witness,
        home=file.home,
        machine=Machine.with_processes(file.device, file.threads, file.processes),
    )


def _pins(file: SiteFile) -> Pins:
    """Return the pins of a site, or the keys seen first where its file trusts them."""
    if not file.trust_on_first_use:
        return file.pins
    own = Identity.load_or_create(file.private / "identity.key").public
    return FirstUse(file.private / "first-use.json", {file.hospital: fingerprint(own)})


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner can enter."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def append_log(path: Path, data: bytes) -> None:
    """Add bytes to a log that only its owner can read; a full one makes room for a new one.

    Whoever sends messages decides how much is said of them, and must not fill the disk with it.
    """
    with suppress(OSError):
        _make_room(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Put a full log aside as `<name>.1`, those before it one further, and drop the last."""

    def is_full() -> bool:
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size >= MOST_LOG_BYTES

    if not is_full():
        return
    with locked(path.with_name(f".{path.name}.lock")):
        if not is_full():
            return  # another process was first
        older = [path, *(path.with_name(f"{path.name}.{one + 1}") for one in range(OLDER_LOGS))]
        for one, further in reversed(list(pairwise(older))):
            with suppress(FileNotFoundError):
                os.replace(one, further)
