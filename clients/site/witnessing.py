"""A hospital that answers only while its book is sure not to have gone back.

Before a request reaches the door the hospital looks for signs that its book is older than what has
left: its own signatures, which come with requests, and the files beside the book. One sign proves
it, and from then on the hospital answers nothing but `query.witness`, in every process, until its
operator has recovered the book. A file that is not where it was may be a copy, and a book that was
just begun may stand in the place of one that is gone: then all peers must vouch first, for a nonce,
that they know nothing newer. And a hospital begins no place while as many as `[ledger] unwitnessed`
are known to the server alone. Who the peers are its own file says (`clients.site.witnesses`).

Simulated hospitals do none of this: their books live and die with the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from accounting import lines
from accounting.charges import charges_of_places
from accounting.errors import LedgerError
from clients.contract.faults import Code, Fault
from clients.contract.kinds import Kind
from clients.contract.witness_messages import (
    Standing,
    Vouch,
    VouchReply,
    WitnessReply,
    vouched,
)
from clients.site.heads import Kept, changing, shown_of
from clients.site.home import home_of, machine_start
from clients.site.pending_witness import PendingWitness
from clients.site.signs import Signs, own_headers
from clients.site.witnesses import Witnesses
from crypto.errors import SealingError
from crypto.headers import Header, HeaderKind, SignedHeader, payload_digest, sign_header
from crypto.identity import verify_signature
from crypto.roles import NONCE_BYTES
from crypto.rosters import Roster

if TYPE_CHECKING:
    from accounting.book import Book
    from clients.contract.witness_messages import VouchRequest, WitnessRequest
    from clients.site.door import Passage, Release
    from clients.site.ground import Site
    from clients.site.membership import Membership
    from clients.site.opening import Behind


class Witnessing:
    """What one hospital does about its book and its peers'.

    Args:
        site: its own ground.
        training: that is asked about.
        book: its own.
        member: returns its keys and the others' in the training, or raises `Fault`.
    """

    def __init__(
        self,
        site: Site,
        training: str,
        *,
        book: Callable[[], Book],
        member: Callable[[], Membership],
    ) -> None:
        self._site = site
        self._training = training
        self._book_of = book
        self._member_of = member
        self._witnesses = Witnesses(site)
        self._read: Kept | None = None
        self._signs = Signs(site, training, book=book, kept=lambda: self._kept)

    def guard(self, kind: Kind, request: object) -> None:
        """Let nothing further in that a lost or unproved book must not answer.

        All that it writes are own signatures that prove a loss: what came has not been held against
        the training's terms yet.

        Raises:
            Fault: ``ledger-behind``, or ``malformed`` headers.
        """
        if self._site.simulated:
            return
        try:
            self._signs.confront(own_headers(request, self._site.name))
        except ValueError as error:
            raise Fault(Code.MALFORMED, str(error)) from error
        if kind is Kind.WITNESS:
            return
        if reason := self._signs.lost():
            raise Fault(Code.LEDGER_BEHIND, f"this ledger has gone back: {reason}; recover it")
        if kind is Kind.VOUCH and not self._signs.has_moved():
            return  # all peers may begin at once, and each says what it knows
        if reason := self._unproved():
            raise Fault(Code.LEDGER_BEHIND, f"{reason}; {self._way_on()}")

    def settle_in(self) -> None:
        """Write where a new book is at home, for a hospital that has no peers to ask."""
        if not self._site.simulated and self._signs.is_new() and not self._unproved():
            self._book.append(lines.moved(inode=home_of(self._book.path)))

    def require_room(self) -> None:
        """Refuse a new place while too many are known to the server alone.

        Raises:
            Fault: ``ledger-behind``.
        """
        if not self._site.simulated and self._is_full():
            raise Fault(
                Code.LEDGER_BEHIND,
                f"{self._site.unwitnessed} places that no peer has confirmed; waits for vouches",
            )

    def learn(self, request: Behind, *, after: int) -> None:
        """Remember what rosters show of peers' ledgers, once their rounds are closed here.

        Whoever is in the roster of a round has signed the chain of those before it, and so has seen
        their rosters, if it opened them rather than took a snapshot over.

        Args:
            request: what held them.
            after: the last round that had been closed before.
        """
        if self._site.simulated:
            return
        state = self._book.state(self._training)
        new = [number for number in sorted(request.closed) if after < number <= state.closed]
        if not new:
            return
        needed = self._witnesses.needed(self._book)
        with self._remembering() as kept:
            for number in new:
                for signed in Roster.from_bytes(request.closed[number].roster).headers:
                    # What a snapshot stands for was never opened here, so nobody has verified it.
                    if not request.snapshot or self._is_signed(signed):
                        self._learn_one(kept, number, signed, opened=number > state.adopted)
            if needed:
                self._count(kept, kept.known_to(self._training, needed))

    def _learn_one(self, kept: Kept, round: int, signed: SignedHeader, *, opened: bool) -> None:
        name = signed.header.sender
        if name == self._site.name:
            kept.keep_own(self._training, round, signed.header.entry)
            return
        self._take_down(kept, signed)
        if opened and name in self._witnesses.names():
            kept.keep_knowing(self._training, name, range(signed.header.adopted + 1, round))

    def _is_signed(self, signed: SignedHeader) -> bool:
        """Whether a member's header has that member's signature."""
        key = self._member_of().public_keys.get(signed.header.sender)
        try:
            if key is not None:
                _verify(signed, key)
        except SealingError:
            return False
        return key is not None

    def see(self, trail: Iterable[bytes]) -> None:
        """Remember what the makers of a visiting model have signed of their ledgers."""
        if self._site.simulated:
            return
        with self._remembering() as kept:
            for data in trail:
                with suppress(SealingError):
                    signed = SignedHeader.from_bytes(data)
                    if signed.header.sender != self._site.name and self._is_signed(signed):
                        self._take_down(kept, signed)

    def head(self) -> bytes:
        """Sign where this book stands, for an answer that added to it; b"" in simulations."""
        if self._site.simulated:
            return b""
        return self._header(HeaderKind.WITNESS, nonce=b"").to_bytes()

    def witness(self, passage: Passage[WitnessRequest]) -> Release:
        """Sign where this book stands, after a look at evidence and at peers' vouches."""
        request = passage.request
        if not self._site.simulated:
            self._signs.confront(request.evidence)
            self._take_vouches(request.vouches)
        return passage.answer(
            WitnessReply(
                name=self._site.name,
                standing=self._standing(),
                header=self._pending().to_bytes(),
                key=self._site.identity.public,
            )
        )

    def vouch(self, passage: Passage[VouchRequest]) -> Release:
        """Take down where a peer's book stands, and sign what was known of it before.

        Raises:
            Fault: the witness is not by a hospital that this one knows.
        """
        request = passage.request
        signed = SignedHeader.from_bytes(request.witness)
        header, key = signed.header, request.key
        if header.sender == self._site.name or not self._trusts(header.sender, key):
            raise Fault(Code.NOT_INVITED, f"{header.sender!r} is no hospital that is known here")
        _verify(signed, key)
        if header.kind is not HeaderKind.WITNESS or header.training != request.training:
            raise Fault(Code.MALFORMED, f"a header of kind {header.kind} is no witness")
        known: tuple[bytes, ...] = ()
        if not self._site.simulated:
            with self._remembering() as kept:
                known = kept.headers.of(key)
                self._note(kept.headers.take(key, signed))
        payload = payload_digest(vouched(request.witness, known))
        own = self._header(HeaderKind.VOUCH, nonce=header.nonce, payload=payload)
        public = self._site.identity.public
        return passage.answer(
            VouchReply(vouch=Vouch(header=own.to_bytes(), key=public, known=known))
        )

    @property
    def _book(self) -> Book:
        return self._book_of()

    @property
    def _kept(self) -> Kept:
        if self._read is None:
            self._read = Kept.read(self._site.folder)
        return self._read

    @contextmanager
    def _remembering(self) -> Iterator[Kept]:
        """Change what lies beside the book as it is now, whatever this process had read of it."""
        with changing(self._site, self._book) as kept:
            yield kept
        self._read = kept

    def _witnessed(self, kept: Kept) -> int:
        """The own entry up to which peers know of this book."""
        mark = kept.mark
        return kept.witnessed if mark and mark.ledger == self._book.id else -1

    def _count(self, kept: Kept, entry: int) -> None:
        """Take the book for known to enough peers up to an entry."""
        kept.witnessed = max(self._witnessed(kept), entry)

    def _standing(self) -> Standing:
        if self._site.simulated:
            return Standing.SOUND
        if self._signs.lost():
            return Standing.BEHIND
        return Standing.WAITING if self._unproved() or self._is_full() else Standing.SOUND

    def _unproved(self) -> str:
        """Return why peers must vouch for this book first, "" where they need not."""
        if self._signs.has_moved():
            return "the ledger's file is another one than was written last"
        if self._signs.is_new():
            # Nobody else could know of an earlier one.
            return "the ledger is new here" if self._witnesses.names() else ""
        if self._site.require_witness and self._kept.proved.get(self._training) != machine_start():
            return "[ledger] require-witness = true"
        return ""

    def _way_on(self) -> str:
        """Return what an operator may do about a book that waits."""
        peers = ", ".join(self._witnesses.names())
        who = (
            f"waits until all that are pinned vouch for it ({peers})"
            if peers
            else "no peer is pinned"
        )
        return f"{who}; without them 'asclepias ledger recover' goes on"

    def _is_full(self) -> bool:
        """Whether as many places are known to the server alone as this hospital allows."""
        book, seen = self._book, set()
        if not self._witnesses.names():
            return False
        for number in range(book.head()[0], self._witnessed(self._kept), -1):
            try:
                line, _ = book.line(number)
            except LedgerError:
                break  # older than the chain
            if line.kind == "spend" or (line.kind == "show" and line.whole("turn") == 1):
                seen.add((line.training, line.whole("round"), line.whole("attempt")))
            if len(seen) >= self._site.unwitnessed:
                return True
        return False

    def _member(self) -> Membership | None:
        try:
            return self._member_of()
        except Fault:
            return None

    def _trusts(self, name: str, key: bytes) -> bool:
        if self._site.simulated:
            member = self._member()
            return member is not None and member.public_keys.get(name) == key
        return self._witnesses.trusts(name, key)

    def _take_down(self, kept: Kept, signed: SignedHeader) -> None:
        """Remember a peer's header whose signature is verified."""
        key = self._member_of().public_keys.get(signed.header.sender)
        if key is not None:
            self._note(kept.headers.take(key, signed))

    def _note(self, copied: object) -> None:
        if copied is not None:
            self._site.log(f"a peer's ledger is in use in two places: {copied}")

    def _header(self, kind: HeaderKind, *, nonce: bytes, payload: str = "") -> SignedHeader:
        member = self._member()
        header = Header(
            kind=kind,
            training=self._training,
            round=0,
            attempt=0,
            sender=self._site.name,
            parameter_id="",
            previous="",
            payload=payload,
            bind=member.bind if member is not None else bytes(32),
            nonce=nonce,
            **shown_of(self._book, self._training, milestones=not self._site.simulated),
        )
        return sign_header(header, self._site.identity)

    def _pending(self) -> SignedHeader:
        """Return the witness that peers are to vouch for: the same one while nothing happens."""
        pending = PendingWitness(self._site, self._training, self._book)
        made = pending.read()
        if made is None:
            made = self._header(HeaderKind.WITNESS, nonce=os.urandom(NONCE_BYTES))
            pending.write(made)
        return made

    def _take_vouches(self, vouches: Iterable[Vouch]) -> None:
        """Go on if enough peers have vouched for the last witness and none knows anything newer."""
        asked = PendingWitness(self._site, self._training, self._book).read()
        if asked is None:
            return
        found = {}
        for one in vouches:
            with suppress(SealingError):
                if (name := self._voucher(one, asked)) is not None:
                    self._signs.confront(one.known)
                    found[name] = one.key
        if not found or self._signs.lost():
            return
        missing = self._witnesses.missing(found)
        self._site.log(
            f"{', '.join(sorted(found))} vouched for this ledger"
            + (f", {', '.join(missing)} did not" if missing else "")
        )
        if not missing:
            self._go_on(asked.header.entry)
        elif not self._unproved() and len(set(found.values())) >= self._witnesses.needed(
            self._book
        ):
            # Whoever vouches has taken down where this book stands.
            with self._remembering() as kept:
                self._count(kept, asked.header.entry)

    def _voucher(self, vouch: Vouch, asked: SignedHeader) -> str | None:
        """Return whose vouch for a witness it is, None for one that is not sound."""
        signed = SignedHeader.from_bytes(vouch.header)
        header = signed.header
        if header.sender == self._site.name or not self._trusts(header.sender, vouch.key):
            return None
        _verify(signed, vouch.key)
        payload = payload_digest(vouched(asked.to_bytes(), vouch.known))
        given = (header.kind, header.nonce, header.payload)
        return header.sender if given == (HeaderKind.VOUCH, asked.header.nonce, payload) else None

    def _go_on(self, entry: int) -> None:
        """Take the book for sound up to an entry; where it has moved, charge for what may lack."""
        if self._signs.has_moved() or self._signs.is_new():
            book = self._book
            charged = charges_of_places(book, self._site.unwitnessed, why="moved")
            book.append(lines.moved(inode=home_of(book.path)), *charged)
            if charged:
                self._site.log(
                    f"the ledger has moved; {self._site.unwitnessed} places of every open training "
                    "are charged for what it may have lost"
                )
        with self._remembering() as kept:
            self._count(kept, entry)
            kept.proved.pop(self._training, None)
            kept.proved[self._training] = machine_start()
        PendingWitness(self._site, self._training, self._book).forget()


def _verify(signed: SignedHeader, key: bytes) -> None:
    header = signed.header
    verify_signature(key, signed.signature, header.signed_text(), header.sender)
