"""The hospital's Flower app: thin handlers around `clients.site.hospital`.

Every handler catches everything. What the server gets is a code from an enumerated list; the reason
and the traceback stay in the hospital's own log, since an exception's text can carry a patient's
value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.contract import layer_messages, messages, visit_messages
from clients.contract.faults import FLOWER_ERROR_CODE, Code, Fault
from clients.contract.layer_messages import TurnRequest, with_arrays
from clients.contract.settings import SettingsError
from clients.contract.visit_messages import JudgeRequest, VisitRequest
from clients.site.site_file import SiteFileError
from clients.site.worker import Worker

if TYPE_CHECKING:
    from clients.site.hospital import Hospital

logger = logging.getLogger(__name__)

Handler = Callable[[Message, "Hospital"], RecordDict]


def make_client_app(worker: Worker) -> ClientApp:
    """Return the app of one process of hospitals; what it keeps is in `worker`."""
    made = ClientApp()
    categories = {"train": made.train, "evaluate": made.evaluate, "query": made.query}
    for kind, handler in HANDLERS.items():
        category, _, action = kind.partition(".")
        register = categories[category](action) if action else categories[category]()
        register(answered(handler, worker))
    return made


def answered(handler: Handler, worker: Worker) -> Callable[[Message, Context], Message]:
    """Turn a handler into one that always answers and never explains itself to the server."""

    def answer(message: Message, context: Context) -> Message:
        try:
            training = str(messages.config_of(message.content)["training"])
            hospital = worker.hospital(training, context)
        except Exception as error:
            logger.exception("a hospital could not start")
            return _refusal(error, message)
        try:
            return Message(handler(message, hospital), reply_to=message)
        except Exception as error:
            hospital.site.log_exception(error)
            if isinstance(error, Fault):
                hospital.site.log(f"refused: {error.code}: {error.detail}")
            return _refusal(error, message)

    return answer


def _refusal(error: Exception, message: Message) -> Message:
    return Message(Error(FLOWER_ERROR_CODE, code_of(error)), reply_to=message)


def code_of(error: Exception) -> str:
    """Return what the server is told of an error: a code of the closed list."""
    from accounting.errors import LimitRefused
    from clients.data import DataError
    from crypto.errors import (
        CapacityError,
        KeysError,
        OpeningRefusedError,
        PinMismatchError,
        SealingError,
    )

    match error:
        case Fault():
            return error.code
        case LimitRefused():
            return f"{Code.LIMIT_REFUSED}:{error.limit}"
        case SiteFileError() | PinMismatchError():
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


def join(message: Message, hospital: Hospital) -> RecordDict:
    """Offer a key for the ceremony."""
    offer = hospital.join()
    config = {"name": hospital.site.name, "offer": offer.to_bytes()}
    return RecordDict({messages.CONFIG: ConfigRecord(config)})  # type: ignore[arg-type]


def lead(message: Message, hospital: Hospital) -> RecordDict:
    """Make the training's keys for all hospitals."""
    return hospital.lead(messages.LeadRequest.read(message.content)).content()


def keys(message: Message, hospital: Hospital) -> RecordDict:
    """Take over the training's keys."""
    hospital.receive_keys(messages.KeysRequest.read(message.content))
    return RecordDict({messages.CONFIG: ConfigRecord({"name": hospital.site.name})})


def train(message: Message, hospital: Hospital) -> RecordDict:
    """Contribute to a round."""
    return hospital.contribute(messages.RoundRequest.read(message.content)).content()


def release(message: Message, hospital: Hospital) -> RecordDict:
    """Return the model after the last opened sum."""
    return hospital.release(messages.RoundRequest.read(message.content)).content()


def evaluate(message: Message, hospital: Hospital) -> RecordDict:
    """Measure the model on the hospital's own test records, if these are public."""
    metrics = hospital.evaluate(messages.RoundRequest.read(message.content))
    record = MetricRecord({messages.NUM_EXAMPLES: 1, **metrics})
    return RecordDict({messages.METRICS: record})


def visit(message: Message, hospital: Hospital) -> RecordDict:
    """Train a model that visits."""
    from clients.site.host import Host

    return Host(hospital).visit(VisitRequest.read(message.content)).content()


def release_carried(message: Message, hospital: Hospital) -> RecordDict:
    """Release a model that visits."""
    from clients.site.host import Host

    return Host(hospital).release_carried(VisitRequest.read(message.content)).content()


def judge(message: Message, hospital: Hospital) -> RecordDict:
    """Measure released models on the hospital's own test records, if these are public."""
    from clients.site.host import Host

    metrics = Host(hospital).judge(JudgeRequest.read(message.content))
    record = MetricRecord({messages.NUM_EXAMPLES: 1, **metrics})
    return RecordDict({messages.METRICS: record})


def forward(message: Message, hospital: Hospital) -> RecordDict:
    """Show a batch's activations at the cut."""
    from clients.site.split_hospital import SplitHospital

    request = messages.RoundRequest.read(message.content)
    reply, arrays = SplitHospital(hospital).forward(request)
    return with_arrays(reply.content(), arrays)


def head(message: Message, hospital: Hospital) -> RecordDict:
    """Show a batch's loss gradients at the head."""
    from clients.site.split_hospital import SplitHospital

    arrays = SplitHospital(hospital).head(TurnRequest.read(message.content))
    return with_arrays(messages.RoundReply().content(), arrays)


def backward(message: Message, hospital: Hospital) -> RecordDict:
    """Contribute to the sum that teaches the layers at home."""
    from clients.site.split_hospital import SplitHospital

    reply, arrays = SplitHospital(hospital).backward(TurnRequest.read(message.content))
    return with_arrays(reply.content(), arrays)


#: What a hospital answers, by kind of message.
HANDLERS: Mapping[str, Handler] = {
    messages.JOIN: join,
    messages.LEAD: lead,
    messages.KEYS: keys,
    messages.TRAIN: train,
    messages.RELEASE: release,
    messages.EVALUATE: evaluate,
    visit_messages.VISIT: visit,
    visit_messages.RELEASE_CARRIED: release_carried,
    visit_messages.JUDGE: judge,
    layer_messages.FORWARD: forward,
    layer_messages.HEAD: head,
    layer_messages.BACKWARD: backward,
}

app = make_client_app(Worker())
