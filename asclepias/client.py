"""The hospital's side of an app of one's own.

`private_client` computes each patient's gradient itself, clips it and adds noise: a per-patient
epsilon exists through it alone. `hospital_mod` stands around an app's own training loop: it seals
what the loop made of the model and claims no epsilon, since nobody could say what a patient changed
of it.

Neither sees what else a ClientApp does. One that writes private values to a log, or sends them by
another way, gives them away whatever is promised here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.nn import functional

from asclepias.answering import CALL, Answering, Call, Next, own_info
from asclepias.beginnings import Beginnings
from asclepias.memory import kept_for
from asclepias.patients import Patients
from asclepias.told import RECORD
from clients.contract.faults import Code
from clients.contract.own_task import OwnTask
from clients.data import DatasetInfo, Records
from clients.models.own_model import TensorModel, begin_at
from clients.site.door import Refusal
from clients.site.leave import leave

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

    #: What `data_fn` may return.
    Brought = Patients | Dataset[Any] | DataLoader[Any]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_EXAMPLES = "num-examples"


def private_client(
    model_fn: Callable[[], nn.Module],
    data_fn: Callable[[Context], Brought],
    loss: Loss = functional.cross_entropy,
    *,
    one_record_each: bool = False,
) -> ClientApp:
    """Return a ClientApp whose hospital trains privately.

    Guarantee: with `asclepias.SecureFedAvg` on the server's side, what leaves the hospital of one
    patient is (epsilon, delta)-private as the strategy's table of observers says, and never more
    than the hospital's own limits allow (`[limits]` of its `site.toml`), whatever the server asks
    for. Each patient's gradient is clipped by itself, so a loss sees one record at a time; all
    records of a patient count together.

    Example::

        app = private_client(Net, load_data)

    Args:
        model_fn: returns a new model, float32 ``[n, *shape]`` to outputs ``[n, ...]``. All of its
            parameters are trained; it has no layer that mixes records or keeps anything of them.
        data_fn: from Flower's context (with the app's own run config) to this node's records, all
            of them: `Patients`, or a torch ``Dataset`` or ``DataLoader`` of such records, which are
            then read into memory. It is called once per process.
        loss: (outputs ``[1, ...]``, targets ``[1, ...]``) of one record to its loss.
        one_record_each: whether it is a published fact that no patient has two records; then an
            epsilon covers a patient though no patients are named.

    Refused, with the reason in the hospital's own log: layers that mix patients, that keep
    statistics or have no per-patient gradient; a loss that is not made of the losses of single
    records; parameters that are not those of `initial_arrays`.
    """

    def made() -> Answering:
        beginnings = Beginnings()
        read = partial(_read, model_fn, data_fn, loss, one_record_each, beginnings)
        return Answering(read, beginnings)

    answering = kept_for((model_fn, data_fn, loss, one_record_each), made)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answering.answer(message, context)

    return app


def _read(
    model_fn: Callable[[], nn.Module],
    data_fn: Callable[[Context], Brought],
    loss: Loss,
    one_record_each: bool,
    beginnings: Beginnings,
    call: Call,
    name: str,
) -> tuple[DatasetInfo, Records]:
    """Read a hospital's records, and say what is public about them."""
    brought = data_fn(call.context)
    found = brought if isinstance(brought, Patients) else Patients.gathered(brought)
    classes = found.targets.dtype == np.int64 and found.targets.ndim == 1
    task = OwnTask(
        module=lambda digest: begin_at(model_fn(), beginnings.tensors(digest)),
        loss=None if classes and loss is functional.cross_entropy else loss,
        target_shape=tuple(found.targets.shape[1:]),
        target_dtype=str(found.targets.dtype),
    )
    records = Records(inputs=found.inputs, labels=found.targets, patients=found.numbers)
    info = own_info(name, task, records, named=found.named, one_record_each=one_record_each)
    return info, records


class HospitalMod:
    """`hospital_mod`: what it keeps belongs to one process."""

    def __init__(self) -> None:
        beginnings = Beginnings()

        def module(digest: str) -> nn.Module:
            return TensorModel(dict(sorted(beginnings.tensors(digest).items())))

        def read(call: Call, name: str) -> tuple[DatasetInfo, Records]:
            nobody = np.zeros(0, dtype=np.int64)
            records = Records(
                inputs=np.zeros((0, 1), dtype=np.float32), labels=nobody, patients=nobody
            )
            task = OwnTask(module=module, loop=run_loop)
            return own_info(name, task, records, named=False, one_record_each=True), records

        self._answering = Answering(read, beginnings)

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Answer messages of `asclepias.SecureFedAvg`; in a simulation others that train nothing.

        Elsewhere nothing passes by the door: what an app says of a model that a server chooses, on
        private records and as often as it asks, no ledger would know.
        """
        if message.has_content() and RECORD in message.content:
            return self._answering.answer(message, context, call_next)
        trains = message.metadata.message_type.partition(".")[0] == "train"
        node = context.node_config
        if trains or "site" in node or "partition-id" not in node:
            # What the app returns would leave unsealed.
            return leave(Refusal(Code.MALFORMED.value), message)
        return call_next(message, context)


def run_loop(
    number: int, tensors: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], float]:
    """Have the app train in its own way, as FedAvg would have asked it to.

    Raises:
        ValueError: its answer holds not one record of arrays, or no number of examples.
    """
    call = CALL.get()
    assert call.then is not None
    kept, message = call.message.content, call.message
    config = ConfigRecord({**call.told.config, "server-round": number})
    arrays = ArrayRecord({name: Array(tensor.numpy()) for name, tensor in tensors.items()})
    message.content = RecordDict({"arrays": arrays, "config": config})
    try:
        reply = call.then(message, call.context)
    finally:
        message.content = kept
    if reply.has_error() or len(reply.content.array_records) != 1:
        raise ValueError("the app's training returned no record of arrays, or several")
    [found] = reply.content.array_records.values()
    metrics = reply.content.metric_records.values()
    examples = [one[_EXAMPLES] for one in metrics if _EXAMPLES in one]
    if len(examples) != 1 or not isinstance(examples[0], int | float):
        raise ValueError(f"the app's training returned no metric {_EXAMPLES!r}")
    trained = {name: torch.from_numpy(array.numpy().copy()) for name, array in found.items()}
    return trained, float(examples[0])


hospital_mod = HospitalMod()
"""A Flower mod around an app's own training: it seals, and claims no epsilon.

    app = ClientApp(mods=[hospital_mod])

The server opens nothing but the weighted sum of all hospitals' changes, which is FedAvg's mean; no
update and no number of examples is shown singly. What a patient changes of it nobody bounds, so no
noise is added and none is claimed: for an epsilon use `private_client`. A message to train that
does not come from `SecureFedAvg(own_training=True)` is refused: its answer would leave unsealed. So
is every other message, evaluation too, but at nodes that Flower simulates.
"""
