"""What a hospital refuses before it reads a record: what its book alone tells it to refuse.

To read a table of a million cells takes seconds, and whoever may send messages could have it read
by any. Only those that may begin a training need the records' public facts to be understood; the
others are about one that has begun here. What is refused here the door would refuse as well: it
says so once more, for what comes through. Its code may be another, but it hangs on the book alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from accounting.errors import LedgerError
from accounting.links import Reader
from accounting.states import Phase
from clients.contract.faults import Code, Fault
from clients.contract.kinds import KINDS, Kind
from clients.site.witnessing import Witnessing

if TYPE_CHECKING:
    from accounting.states import TrainingState
    from clients.site.door import Request
    from clients.site.ground import Site

#: Kinds that are understood without a training that has begun here.
_BEFORE = frozenset({Kind.JOIN, Kind.REVEAL, Kind.LEAD, Kind.KEYS, Kind.WITNESS, Kind.VOUCH})
#: Bytes of a ledger's first line that are looked at.
_MOST_LINE = 2**16


def turn_away(site: Site, kind: Kind, request: Request, exchange: str) -> None:
    """Refuse what is about no training that goes on here, on the terms that it was bound to.

    Args:
        site: of a real hospital.
        kind: of the message.
        request: as it was read.
        exchange: the run's.

    Raises:
        Fault: as the door, where the book is enough to say so; ``ledger-behind`` before anything
            else where it may have gone back.
    """
    if kind in _BEFORE or kind not in KINDS[exchange] or not (cohort := _cohort(site)):
        return
    book = site.book(cohort)
    fault = _refused(book.state(request.training), request.bind)
    if fault is None:
        return
    # A book that went back knows less than what has left: it must not say what has begun.
    Witnessing(site, request.training, book=lambda: book, member=_nobody).guard(kind, request)
    site.log(f"refused, no record was read for it: {fault.code}: {fault.detail}")
    raise fault


def _refused(state: TrainingState, bind: str) -> Fault | None:
    if state.phase is Phase.RETIRED:
        return Fault(Code.TRAINING_RETIRED)
    if state.bind is None:
        return Fault(Code.KEYS_MISSING, "the training has not begun here")
    if state.bind.terms != bind:
        detail = f"asked on terms {bind[:16]}, this hospital bound {state.bind.terms[:16]}"
        return Fault(Code.TRAINING_BOUND, detail)
    return None


def _cohort(site: Site) -> str:
    """Return what the site's ledger is about, as its first line says; "" where there is none."""
    try:
        with site.ledger_file.open("rb") as file:
            line = file.readline(_MOST_LINE)
        reader = Reader(site.ledger_file)
        reader.take(line.rstrip(b"\n"))
    except (OSError, LedgerError):
        return ""  # whoever opens it says what is wrong with it
    return reader.cohort if reader.cohort and reader.site == site.name else ""


def _nobody() -> NoReturn:
    raise Fault(Code.KEYS_MISSING)
