"""The hospital's Flower app: thin handlers around `clients.site.hospital`.

Every handler catches everything. What the server gets is a code from an enumerated list; the reason
and the traceback stay in the hospital's own log, since an exception's text can carry a patient's
value.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import (
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    UserConfigValue,
)
from flwr.clientapp import ClientApp

from clients.contract import messages
from clients.contract.faults import FLOWER_ERROR_CODE, Code, Fault
from clients.contract.settings import Settings, SettingsError
from clients.contract.visit_messages import JudgeRequest, VisitRequest
from clients.site.ground import (
    own_cohort,
    own_settings,
    partition_of,
    real_site,
    require_invited,
    simulated_site,
)
from clients.site.site_file import SiteFileError, read_site_file

if TYPE_CHECKING:
    from clients.site.hospital import Hospital

logger = logging.getLogger(__name__)

Handler = Callable[[Message, "Hospital"], RecordDict]

#: Ids become parts of file names, so no path may hide in one.
_TRAINING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

app = ClientApp()


def answered(handler: Handler) -> Callable[[Message, Context], Message]:
    """Turn a handler into one that always answers and never explains itself to the server."""

    @wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        try:
            hospital = _hospital(message, context)
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


def _hospital(message: Message, context: Context) -> Hospital:
    from clients.site.hospital import Hospital

    training = str(messages.config_of(message.content)["training"])
    if not _TRAINING.fullmatch(training):
        raise Fault(Code.MALFORMED, "a training's id names files and is a plain word")
    if own := context.node_config.get("site"):
        settings = Settings.from_config(context.run_config)
        file = read_site_file(Path(str(own)))
        settings = own_settings(file, settings)
        return Hospital(real_site(file), settings, training, own_cohort(file, settings))
    return _simulated(partition_of(context), frozenset(context.run_config.items()), training)


@lru_cache(maxsize=4096)
def _simulated(
    number: int | None, config: frozenset[tuple[str, UserConfigValue]], training: str
) -> Hospital:
    """Return a simulated hospital; one process answers for many, again and again."""
    from clients.data.cohorts import cohort_of
    from clients.site.hospital import Hospital

    settings = Settings.from_config(dict(config))
    names = cohort_of(settings).names
    if number is None or number >= len(names):
        raise Fault(Code.NOT_INVITED, f"node {number} is none of {len(names)} hospitals")
    require_invited(settings, [names[number]])
    return Hospital(simulated_site(names[number], settings, training), settings, training)


@app.query("join")
@answered
def join(message: Message, hospital: Hospital) -> RecordDict:
    """Offer a key for the ceremony."""
    offer = hospital.join()
    config = {"name": hospital.site.name, "offer": offer.to_bytes()}
    return RecordDict({messages.CONFIG: ConfigRecord(config)})  # type: ignore[arg-type]


@app.query("lead")
@answered
def lead(message: Message, hospital: Hospital) -> RecordDict:
    """Make the training's keys for all hospitals."""
    return hospital.lead(messages.LeadRequest.read(message.content)).content()


@app.query("keys")
@answered
def keys(message: Message, hospital: Hospital) -> RecordDict:
    """Take over the training's keys."""
    hospital.receive_keys(messages.KeysRequest.read(message.content))
    return RecordDict({messages.CONFIG: ConfigRecord({"name": hospital.site.name})})


@app.train()
@answered
def train(message: Message, hospital: Hospital) -> RecordDict:
    """Contribute to a round."""
    return hospital.contribute(messages.RoundRequest.read(message.content)).content()


@app.query("release")
@answered
def release(message: Message, hospital: Hospital) -> RecordDict:
    """Return the model after the last opened sum."""
    return hospital.release(messages.RoundRequest.read(message.content)).content()


@app.evaluate()
@answered
def evaluate(message: Message, hospital: Hospital) -> RecordDict:
    """Measure the model on the hospital's own test records, if these are public."""
    metrics = hospital.evaluate(messages.RoundRequest.read(message.content))
    record = MetricRecord({messages.NUM_EXAMPLES: 1, **metrics})
    return RecordDict({messages.METRICS: record})


@app.train("visit")
@answered
def visit(message: Message, hospital: Hospital) -> RecordDict:
    """Train a model that visits."""
    from clients.site.host import Host

    return Host(hospital).visit(VisitRequest.read(message.content)).content()


@app.query("release_carried")
@answered
def release_carried(message: Message, hospital: Hospital) -> RecordDict:
    """Release a model that visits."""
    from clients.site.host import Host

    return Host(hospital).release_carried(VisitRequest.read(message.content)).content()


@app.evaluate("models")
@answered
def judge(message: Message, hospital: Hospital) -> RecordDict:
    """Measure released models on the hospital's own test records, if these are public."""
    from clients.site.host import Host

    metrics = Host(hospital).judge(JudgeRequest.read(message.content))
    record = MetricRecord({messages.NUM_EXAMPLES: 1, **metrics})
    return RecordDict({messages.METRICS: record})


@app.train("forward")
@answered
def forward(message: Message, hospital: Hospital) -> RecordDict:
    """Show a batch's activations at the cut."""
    from clients.contract.layer_messages import with_arrays
    from clients.site.split_hospital import SplitHospital

    request = messages.RoundRequest.read(message.content)
    reply, arrays = SplitHospital(hospital).forward(request)
    return with_arrays(reply.content(), arrays)


@app.train("head")
@answered
def head(message: Message, hospital: Hospital) -> RecordDict:
    """Show a batch's loss gradients at the head."""
    from clients.contract.layer_messages import TurnRequest, with_arrays
    from clients.site.split_hospital import SplitHospital

    arrays = SplitHospital(hospital).head(TurnRequest.read(message.content))
    return with_arrays(messages.RoundReply().content(), arrays)


@app.train("backward")
@answered
def backward(message: Message, hospital: Hospital) -> RecordDict:
    """Contribute to the sum that teaches the layers at home."""
    from clients.contract.layer_messages import TurnRequest, with_arrays
    from clients.site.split_hospital import SplitHospital

    reply, arrays = SplitHospital(hospital).backward(TurnRequest.read(message.content))
    return with_arrays(reply.content(), arrays)
