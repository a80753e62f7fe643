"""How an app of one's own answers for a hospital: the same door, the same book, the same limits.

What an app brings takes the place of named data and models; all else is what every hospital does. A
hospital is a real one where its node names a `site.toml`, and a simulated one where Flower gives it
the number of a partition.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Context, Message

from asclepias.beginnings import Beginnings
from asclepias.told import NotTold, Told, digest_of
from clients.client_app import answered
from clients.contract.faults import Code
from clients.contract.model_settings import OWN
from clients.data import Cohort, DataError, DatasetInfo, Records
from clients.data.own_info import OwnInfo
from clients.site.door import Refusal
from clients.site.leave import leave
from clients.site.worker import Worker

if TYPE_CHECKING:
    from clients.contract.own_task import OwnTask

logger = logging.getLogger(__name__)

Next = Callable[[Message, Context], Message]

#: Codes of what a person has to mend in the app; the others are a training's own course.
_TO_MEND = frozenset(
    code.value
    for code in (
        Code.DATA_UNAVAILABLE,
        Code.INTERNAL,
        Code.SETTINGS_REFUSED,
        Code.SITE_REFUSED,
        Code.TRAINING_BOUND,
    )
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """The message that is being answered.

    Attributes:
        message: with the content that the strategy sent.
        context: Flower's own, with the app's run config.
        told: what stood beside the message.
        then: what the app itself would do with a message to train; None where it does not train.
    """

    message: Message
    context: Context
    told: Told
    then: Next | None = None


CALL: ContextVar[Call] = ContextVar("asclepias.call")

#: Reads a hospital's records: (the call, what its ledger's cohort is called) -> (facts, records).
Read = Callable[[Call, str], tuple[DatasetInfo, Records]]


class Answering:
    """Answers for the hospitals of one process; each process begins with an empty memory.

    Args:
        read: a hospital's records.
        beginnings: where the tensors are kept that trainings begin with.
    """

    def __init__(self, read: Read, beginnings: Beginnings) -> None:
        self._read = read
        self._beginnings = beginnings
        self._worker: tuple[int, Worker] | None = None
        #: Records by (process, node, name): read once, shared by all trainings.
        self._kept: dict[tuple[int, str], tuple[DatasetInfo, Records]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process, where an app is sent to another one."""
        return {**self.__dict__, "_worker": None, "_kept": {}}

    def answer(self, message: Message, context: Context, then: Next | None = None) -> Message:
        """Return a hospital's answer to a message of a strategy of ours, or a code."""
        try:
            return self._answer(message, context, then)
        except Exception as error:
            # A text that leaves by way of Flower may name a path, or hold a patient's value.
            logger.error("a message could not be answered", exc_info=error)
            return leave(Refusal(Code.INTERNAL.value), message)

    def _answer(self, message: Message, context: Context, then: Next | None) -> Message:
        try:
            told = Told.taken(message)
            if told.settings.get("model.name") != OWN:
                raise NotTold(f"model.name is {told.settings.get('model.name')!r}, expected 'own'")
            if told.initial:
                if digest_of(told.initial) != told.settings.get("model.weights-digest"):
                    raise NotTold("the tensors that came are not those that the settings name")
                self._beginnings.keep(told.initial)
        except NotTold as error:
            logger.warning("a message was refused: %s", error)
            return leave(Refusal(Code.MALFORMED.value), message)
        known = CALL.set(Call(message=message, context=context, told=told, then=then))
        try:
            reply = answered(told.kind, self._of_this_process())(message, _told(context, told))
        finally:
            CALL.reset(known)
        if told.initial and reply.has_content():
            self._beginnings.write_down(digest_of(told.initial))
        simulated = "site" not in context.node_config
        if simulated and reply.has_error() and reply.error.reason in _TO_MEND:
            logger.warning(
                "a simulated hospital answered %r to %s; why, is in the hospital.log of %s",
                reply.error.reason,
                told.kind.value,
                told.settings.get("run.out") or "its folder",
            )
        return reply

    def _of_this_process(self) -> Worker:
        if self._worker is None or self._worker[0] != os.getpid():
            self._worker = os.getpid(), Worker(bring=self._bring)
        return self._worker[1]

    def _bring(self, hospital: str, name: str) -> Cohort:
        """Return the cohort as one hospital knows it: its own records."""
        call = CALL.get()
        key = call.context.node_id, name
        if key not in self._kept:
            self._kept[key] = self._read(call, name)
        info, records = self._kept[key]
        return Cohort(
            info=info, names=(hospital,), holdout=records.take([]), records={hospital: records}
        )


def _told(context: Context, told: Told) -> Context:
    """Return a node's context with the training's settings in the place of the app's own."""
    return Context(
        run_id=context.run_id,
        node_id=context.node_id,
        node_config=context.node_config,
        state=context.state,
        run_config=dict(told.settings),
    )


def own_info(
    name: str, task: OwnTask, records: Records, *, named: bool, one_record_each: bool
) -> DatasetInfo:
    """Return what is public about records that an app brings: their form.

    Raises:
        DataError: they have no form that a model could take.
    """
    if np.ndim(records.inputs) < 2:
        raise DataError(
            f"inputs of shape {tuple(records.inputs.shape)}, expected [records, *shape]",
            code="shape",
        )
    return OwnInfo(
        name=name,
        title="an app's own records",
        task=OWN,
        shape=tuple(records.inputs.shape[1:]),
        classes=(),
        has_patient_ids=named,
        one_record_each=one_record_each,
        brought=task,
    )
