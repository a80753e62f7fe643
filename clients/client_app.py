"""The hospital's Flower app: a table of handlers behind one door.

What is asked is read, let in by the door or not, handled, and leaves as a release or as a code from
a closed list. Whatever goes wrong on the way, its reason stays in the hospital's own log, since an
exception's text can carry a patient's value; and writing that log may fail without anybody hearing
of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.contract.ceremony_messages import (
    EndRequest,
    JoinRequest,
    KeysRequest,
    LeadRequest,
    RevealRequest,
)
from clients.contract.faults import Code, Fault
from clients.contract.kinds import Kind
from clients.contract.layer_messages import TurnRequest
from clients.contract.messages import ReleaseRequest, RoundRequest
from clients.contract.one_object import from_one_object
from clients.contract.printable import printable
from clients.contract.settings import SettingsError
from clients.contract.share_messages import SharesRequest
from clients.contract.visit_messages import JudgeRequest, VisitRequest
from clients.contract.witness_messages import VouchRequest, WitnessRequest
from clients.site.answer_times import hold_answer
from clients.site.door import Passage, Refusal, Release
from clients.site.ground import FULL
from clients.site.leave import leave
from clients.site.site_file import SiteFileError
from clients.site.worker import Worker

if TYPE_CHECKING:
    from clients.site.hospital import Hospital

logger = logging.getLogger(__name__)

#: Letters of somebody else's words that a log repeats.
MOST_TEXT = 300

Handler = Callable[[Passage[Any], "Hospital"], Release]

#: How a request of each kind is read.
READERS: Mapping[Kind, Callable[[RecordDict], Any]] = {
    Kind.JOIN: JoinRequest.read,
    Kind.REVEAL: RevealRequest.read,
    Kind.LEAD: LeadRequest.read,
    Kind.KEYS: KeysRequest.read,
    Kind.TRAIN: RoundRequest.read,
    Kind.FORWARD: RoundRequest.read,
    Kind.HEAD: TurnRequest.read,
    Kind.BACKWARD: TurnRequest.read,
    Kind.ANSWER: SharesRequest.read,
    Kind.VISIT: VisitRequest.read,
    Kind.RELEASE_CARRIED: VisitRequest.read,
    Kind.CONFIRM: RoundRequest.read,
    Kind.END: EndRequest.read,
    Kind.RELEASE: ReleaseRequest.read,
    Kind.EVALUATE: ReleaseRequest.read,
    Kind.EVALUATE_MODELS: JudgeRequest.read,
    Kind.WITNESS: WitnessRequest.read,
    Kind.VOUCH: VouchRequest.read,
}


def join(passage: Passage[JoinRequest], hospital: Hospital) -> Release:
    """Offer a key for the ceremony, or say that the hospital is there."""
    from clients.site.joining import Joining

    return Joining(hospital).join(passage)


def reveal(passage: Passage[RevealRequest], hospital: Hospital) -> Release:
    """Show the number that the hospital's offer committed to."""
    from clients.site.joining import Joining

    return Joining(hospital).reveal(passage)


def lead(passage: Passage[LeadRequest], hospital: Hospital) -> Release:
    """Make the training's keys for all hospitals."""
    from clients.site.joining import Joining

    return Joining(hospital).lead(passage)


def keys(passage: Passage[KeysRequest], hospital: Hospital) -> Release:
    """Take over the training's keys."""
    from clients.site.joining import Joining

    return Joining(hospital).receive_keys(passage)


def train(passage: Passage[RoundRequest], hospital: Hospital) -> Release:
    """Contribute to a round."""
    from clients.site.contributing import Contributing

    return Contributing(hospital).contribute(passage)


def forward(passage: Passage[RoundRequest], hospital: Hospital) -> Release:
    """Show a batch's activations at the cut."""
    from clients.site.split_hospital import SplitHospital

    return SplitHospital(hospital).forward(passage)


def head(passage: Passage[TurnRequest], hospital: Hospital) -> Release:
    """Show a batch's loss gradients at the head."""
    from clients.site.split_hospital import SplitHospital

    return SplitHospital(hospital).head(passage)


def backward(passage: Passage[TurnRequest], hospital: Hospital) -> Release:
    """Contribute to the sum that teaches the layers at home."""
    from clients.site.split_hospital import SplitHospital

    return SplitHospital(hospital).backward(passage)


def answer_roster(passage: Passage[SharesRequest], hospital: Hospital) -> Release:
    """Answer a roster with shares of the key of its sum."""
    from clients.site.answering import Answering

    return Answering(hospital).answer(passage)


def visit(passage: Passage[VisitRequest], hospital: Hospital) -> Release:
    """Train a model that visits."""
    from clients.site.host import Host

    return Host(hospital).visit(passage)


def release_carried(passage: Passage[VisitRequest], hospital: Hospital) -> Release:
    """Release a model that visits."""
    from clients.site.host import Host

    return Host(hospital).release_carried(passage)


def judge(passage: Passage[JudgeRequest], hospital: Hospital) -> Release:
    """Measure released models on the hospital's own test records, if these are public."""
    from clients.site.host import Host

    return Host(hospital).judge(passage)


def confirm(passage: Passage[RoundRequest], hospital: Hospital) -> Release:
    """Sign that a sum was the last."""
    from clients.site.releasing import Releasing

    return Releasing(hospital).confirm(passage)


def end(passage: Passage[EndRequest], hospital: Hospital) -> Release:
    """End the training here: its keys go."""
    from clients.site.ending import end

    return end(passage, hospital)


def release(passage: Passage[ReleaseRequest], hospital: Hospital) -> Release:
    """Return the model after the last sum."""
    from clients.site.releasing import Releasing

    return Releasing(hospital).release(passage)


def evaluate(passage: Passage[ReleaseRequest], hospital: Hospital) -> Release:
    """Measure the model on the hospital's own test records, if these are public."""
    from clients.site.releasing import Releasing

    return Releasing(hospital).evaluate(passage)


def witness(passage: Passage[WitnessRequest], hospital: Hospital) -> Release:
    """Sign where the hospital's own book stands."""
    return hospital.witnessing.witness(passage)


def vouch(passage: Passage[VouchRequest], hospital: Hospital) -> Release:
    """Sign what is known of a peer's book."""
    return hospital.witnessing.vouch(passage)


#: What a hospital does about a request of each kind.
HANDLERS: Mapping[Kind, Handler] = {
    Kind.JOIN: join,
    Kind.REVEAL: reveal,
    Kind.LEAD: lead,
    Kind.KEYS: keys,
    Kind.TRAIN: train,
    Kind.FORWARD: forward,
    Kind.HEAD: head,
    Kind.BACKWARD: backward,
    Kind.ANSWER: answer_roster,
    Kind.VISIT: visit,
    Kind.RELEASE_CARRIED: release_carried,
    Kind.CONFIRM: confirm,
    Kind.END: end,
    Kind.RELEASE: release,
    Kind.EVALUATE: evaluate,
    Kind.EVALUATE_MODELS: judge,
    Kind.WITNESS: witness,
    Kind.VOUCH: vouch,
}

#: Kinds of requests that propose a noise multiplier; to the others that of the keys applies.
_PROPOSING = frozenset({Kind.JOIN, Kind.REVEAL, Kind.LEAD, Kind.KEYS})


def make_client_app(worker: Worker) -> ClientApp:
    """Return the app of one process of hospitals; what it keeps is in `worker`."""
    made = ClientApp()
    categories = {"train": made.train, "evaluate": made.evaluate, "query": made.query}
    for kind in HANDLERS:
        category, _, action = kind.partition(".")
        register = categories[category](action) if action else categories[category]()
        register(answered(kind, worker))
    return made


def answered(kind: Kind, worker: Worker) -> Callable[[Message, Context], Message]:
    """Return what answers messages of a kind, always, and never explains itself to the server."""

    def answer(message: Message, context: Context) -> Message:
        # A message may come as an error, which asks for nothing.
        content = message.content if message.has_content() else RecordDict()
        outcome, every = _outcome(kind, content, context, worker)
        hold_answer(every)
        try:
            return leave(outcome, message)
        except Exception as error:
            with suppress(Exception):
                _log_here(error)
            return leave(Refusal(Code.INTERNAL), message)

    return answer


def _outcome(
    kind: Kind, content: RecordDict, context: Context, worker: Worker
) -> tuple[Release | Refusal, float]:
    """Return what leaves, and the seconds at whose multiples this hospital's answers leave."""
    log: Callable[[BaseException], None] = _log_here
    every = 0.0
    passage: Passage[Any] | None = None
    try:
        # Before records are read: how long that takes is held back as well.
        every = worker.answer_every(context)
        request = _read(kind, content)
        # A hospital vouches for a peer's ledger whichever of them a run invites.
        invited = kind is not Kind.VOUCH
        hospital = worker.hospital(
            request.training, context, invited=invited, asked=(kind, request)
        )
        log = hospital.site.log_exception
        hospital.witnessing.guard(kind, request)
        sigma = request.noise_multiplier if kind in _PROPOSING else None
        if isinstance(request, JoinRequest):
            from clients.site.joining import log_differences

            log_differences(request, hospital)
        admitted = hospital.door.admit(
            kind, request, lambda: hospital.terms_digest(sigma), hospital.own_digest
        )
        if isinstance(admitted, Release):
            return admitted, every
        passage = admitted
        release = HANDLERS[kind](passage, hospital)
        if hospital.site.audit:
            from clients.audit.closing import audit_at_close

            audit_at_close(kind, request, hospital)
        return release, every
    except Exception as error:
        # The log's own disk may be full: nobody but the hospital would lose by it.
        with suppress(Exception):
            log(error)
        return Refusal(code_of(error, paid=passage is not None and passage.paid)), every


def _read(kind: Kind, content: RecordDict) -> Any:
    try:
        return READERS[kind](from_one_object(content))
    except Exception as error:
        # What was sent may be as long as its sender likes.
        text = f"{kind}: {type(error).__name__}: {str(error)[:MOST_TEXT]}"
        raise Fault(Code.MALFORMED, text) from None


def _log_here(error: BaseException) -> None:
    if isinstance(error, Fault):
        # What somebody else sent is in it; a traceback would say no more.
        logger.warning("a message was refused: %s", printable(f"{error.code}: {error.detail}"))
    else:
        logger.error("a hospital could not answer", exc_info=error)


def code_of(error: Exception, *, paid: bool = False) -> str:
    """Return what the server is told of an error: a code of the closed list.

    Args:
        error: what went wrong.
        paid: whether records may have been touched. Which error it was could then tell of them, so
            all are one code; a disk is filled by what is written, whose sizes are public.
    """
    from accounting.errors import BookError, LedgerError, LimitRefused
    from clients.data import DataError
    from crypto.errors import (
        CapacityError,
        KeysError,
        OpeningRefusedError,
        PinMismatchError,
        SealingError,
    )

    match error:
        case OSError() if error.errno in FULL:
            return Code.DISK_FULL
        case _ if paid:
            return Code.INTERNAL
        case Fault() | BookError():
            return error.code
        case LimitRefused():
            return f"{Code.LIMIT_REFUSED}:{error.limit}"
        case SiteFileError() | PinMismatchError() | LedgerError():
            return Code.SITE_REFUSED
        case SettingsError() | CapacityError():
            return Code.SETTINGS_REFUSED
        case DataError():
            return Code.DATA_UNAVAILABLE
        case OpeningRefusedError():
            return Code.RELEASE_REFUSED
        case KeysError():
            return Code.KEYS_MISSING
        case SealingError():
            return Code.MALFORMED
        case _:
            return Code.INTERNAL


app = make_client_app(Worker())
