"""Replies, read by schema: names, kinds, shapes, finite numbers, sizes. Nothing else is believed.

A hospital may answer anything at all. Whatever is not exactly what was asked for is `BadReply` with
one code and is its sender's alone: it never ends a run. Sizes are compared before anything of that
size is made::

    with one_bad_reply():
        reply = read_round(message.content, form)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from clients.contract.ceremony_messages import JoinReply, LeadReply
from clients.contract.faults import Code
from clients.contract.messages import (
    ARRAYS,
    METRICS,
    NUM_EXAMPLES,
    PHASES,
    RoundReply,
    named_bytes,
)
from clients.contract.share_messages import SharesReply
from clients.contract.tensors import numbers_in
from clients.contract.visit_messages import Carried, VisitReply
from clients.contract.words import CONFIG
from clients.tasks.catalogue import MEASURES
from crypto.errors import SealingError
from crypto.headers import MAX_HEADER_BYTES
from crypto.roles import MAX_LABEL

if TYPE_CHECKING:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
    from numpy.typing import NDArray

MALFORMED = Code.MALFORMED.value
_MODEL, _LAYERS, _ENVELOPE = "model.", "layers.", "envelope."
#: Of what precedes the values in an array that travels as a NumPy file.
_MOST_PREFACE = 4096
_MOST_PINS = 1 << 24
_MOST_OFFER, _MOST_PUBLIC, _MOST_WRAPPED = 4096, 1 << 24, 1 << 28
_MOST_PHASES = 32
_PHASE = re.compile(r"[a-z][a-z-]{0,31}")
#: Tensors by the dtype's name.
_KINDS = {"float32": np.float32, "float64": np.float64}
#: A ConfigRecord's key that is no hospital's, so no hospital may have it as a name.
_PUBLIC = "public"

T = TypeVar("T")


class BadReply(Exception):
    """A reply that is not what was asked for.

    Attributes:
        code: what the run records of its sender.
    """

    def __init__(self, code: str = MALFORMED) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def one_bad_reply() -> Iterator[None]:
    """Turn whatever reading one reply raises into `BadReply`.

    Raises:
        BadReply: with the code of a sealing error, else ``malformed``.
    """
    try:
        yield
    except BadReply:
        raise
    except SealingError as error:
        raise BadReply(error.code) from error
    except Exception as error:
        # What hostile bytes make a reader raise is not for a list to say; all of it is one fault.
        raise BadReply from error


@dataclass(frozen=True, kw_only=True)
class ModelForm:
    """What a released model looks like: its parameters, never a buffer.

    Attributes:
        trained: shape of each tensor that hospitals train together, all float32.
        frozen: parameters that nobody trains, which are public and the server's own.
        order: names of all parameters as the model has them.
    """

    trained: Mapping[str, tuple[int, ...]]
    frozen: Mapping[str, torch.Tensor]
    order: tuple[str, ...]

    @classmethod
    def of(cls, module: torch.nn.Module) -> ModelForm:
        """Return the form of releases of a model, whose parameters say whether they are trained."""
        parameters = dict(module.named_parameters())
        return cls(
            trained={n: tuple(p.shape) for n, p in parameters.items() if p.requires_grad},
            frozen={n: p.detach().clone() for n, p in parameters.items() if not p.requires_grad},
            order=tuple(parameters),
        )

    def without(self, away: Collection[str]) -> ModelForm:
        """Return the form of releases that lack some parameters, which are the server's."""
        return ModelForm(
            trained={n: shape for n, shape in self.trained.items() if n not in away},
            frozen={n: tensor for n, tensor in self.frozen.items() if n not in away},
            order=tuple(name for name in self.order if name not in away),
        )

    @property
    def values(self) -> int:
        """How many numbers are trained."""
        return sum(math.prod(shape) for shape in self.trained.values())

    def whole(self, trained: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return all tensors of a release, given those that were trained."""
        given = {**self.frozen, **trained}
        return {name: given[name] for name in self.order}

    def read(self, arrays: ArrayRecord) -> dict[str, torch.Tensor]:
        """Return the tensors of a released model; none where a reply holds none.

        Raises:
            BadReply: names, shapes, kinds or numbers are others.
        """
        found = {k[len(_MODEL) :]: v for k, v in arrays.items() if k.startswith(_MODEL)}
        if not found:
            return {}
        names = set(found)
        if not set(self.trained) <= names or not names <= set(self.order):
            raise BadReply
        return {
            name: torch.from_numpy(_values(found[name], shape, "float32").copy())
            for name, shape in self.trained.items()
        }


def read_join(content: RecordDict) -> JoinReply:
    """Read an answer to a request to join."""
    config = _config(content)
    reply = JoinReply(
        name=_text(config, "name"),
        offer=_bytes(config, "offer", _MOST_OFFER),
        presence=_bytes(config, "presence", MAX_HEADER_BYTES),
        pins=_bytes(config, "pins", _MOST_PINS),
    )
    if not reply.name or not reply.name.isprintable() or reply.name == _PUBLIC:
        raise BadReply
    if bool(reply.offer) == bool(reply.presence):
        raise BadReply
    return reply


def read_pins(data: bytes) -> dict[str, str]:
    """Read which fingerprints a hospital knows others by, by name; none where it names none."""
    pins = json.loads(data) if data else {}
    if not isinstance(pins, dict) or not all(isinstance(one, str) for one in pins.values()):
        raise BadReply
    return pins


def read_lead(content: RecordDict, wrapped_for: set[str]) -> LeadReply:
    """Read the keys that a leader made; they must be for exactly these hospitals."""
    config = _config(content)
    if set(config) != wrapped_for | {_PUBLIC}:
        raise BadReply
    return LeadReply(
        public=_bytes(config, _PUBLIC, _MOST_PUBLIC),
        wrapped={name: _bytes(config, name, _MOST_WRAPPED) for name in wrapped_for},
    )


def read_named(content: RecordDict, name: str) -> None:
    """Insist that an answer says no more than who sent it."""
    if _text(_config(content), "name") != name:
        raise BadReply


def read_revealed(content: RecordDict, name: str) -> bytes:
    """Read the number that a hospital committed to."""
    read_named(content, name)
    return _bytes(_config(content), "reveal", 32)


def read_round(
    content: RecordDict, form: ModelForm, *, most_sealed: int, most_envelope: int = 0
) -> RoundReply:
    """Read an answer to a round, a confirmation or a release.

    Args:
        content: of the message.
        form: of a released model.
        most_sealed: bytes that a sealed vector cannot exceed.
        most_envelope: bytes that an envelope with a share of its key cannot exceed.
    """
    arrays, config = _arrays(content), _config(content)
    sealed, header = _raw(arrays, "sealed", most_sealed), _raw(arrays, "header", MAX_HEADER_BYTES)
    return RoundReply(
        sealed=sealed,
        envelopes={
            name: _raw(arrays, _ENVELOPE + name, most_envelope)
            for name in named_bytes(arrays, _ENVELOPE)
        },
        header=header,
        model=form.read(arrays),
        model_round=_number(config, "model-round"),
        snapshot=_raw(arrays, "snapshot", _most_snapshot(form)),
        snapshot_round=_number(config, "snapshot-round"),
        phases=_phases(content),
    )


def read_shares(content: RecordDict, size: int, seeds: int) -> SharesReply:
    """Read a holder's answer to a roster: exactly so many bytes, and of shares of seeds as well."""
    config = _config(content)
    reply = SharesReply(answer=_bytes(config, "answer", size), seeds=_bytes(config, "seeds", seeds))
    if (len(reply.answer), len(reply.seeds)) != (size, seeds):
        raise BadReply
    return reply


def read_visit(content: RecordDict, form: ModelForm) -> VisitReply:
    """Read an answer to a visit."""
    arrays = _arrays(content)
    envelope = _raw(arrays, "envelope", 4 * form.values + _MOST_PREFACE)
    header = _raw(arrays, "header", MAX_HEADER_BYTES)
    if bool(envelope) != bool(header):
        raise BadReply
    return VisitReply(model=Carried(envelope=envelope, header=header), released=form.read(arrays))


def read_figures(content: RecordDict) -> dict[str, float]:
    """Read a hospital's figures on its own test records; one that is not defined is left out."""
    metrics = content.metric_records[METRICS]
    names = set(metrics) - {NUM_EXAMPLES}
    if not names <= MEASURES:
        raise BadReply
    defined = [name for name in sorted(names) if metrics[name] == metrics[name]]
    return {name: _figure(metrics[name]) for name in defined}


def read_layer(
    content: RecordDict,
    name: str,
    shape: tuple[int, ...],
    *,
    most_rows: int,
    kinds: str = "f",
) -> NDArray[np.float64] | NDArray[np.int64] | None:
    """Read one named array of a turn; None where it is not there.

    Args:
        content: of the message.
        name: of the array.
        shape: that it must have; -1 in the first place for any number of rows.
        most_rows: the most there may be then.
        kinds: NumPy's letters for the kinds of number that it may hold.

    Raises:
        BadReply: another shape or kind, or a number that is not finite.
    """
    array = _arrays(content).get(_LAYERS + name)
    if array is None:
        return None
    rows = most_rows if shape and shape[0] == -1 else (shape[0] if shape else 1)
    if len(array.data) > 8 * rows * math.prod(shape[1:]) + _MOST_PREFACE:
        raise BadReply
    values = numbers_in(array)
    if values.dtype.kind not in kinds or values.ndim != len(shape):
        raise BadReply
    if values.shape[1:] != shape[1:] or (shape and shape[0] not in (-1, len(values))):
        raise BadReply
    if shape and len(values) > most_rows:
        raise BadReply
    if not np.isfinite(values).all():
        raise BadReply
    if values.dtype.kind == "f":
        return np.asarray(values, dtype=np.float64)
    return np.asarray(values, dtype=np.int64)


def _most_snapshot(form: ModelForm) -> int:
    """Bytes that a model, its optimizer's state and an average in double precision stay below."""
    frozen = sum(tensor.numel() * tensor.element_size() for tensor in form.frozen.values())
    return 40 * form.values + 4 * frozen + 4096 * (len(form.order) + 64) + (1 << 20)


def _phases(content: RecordDict) -> dict[str, float]:
    record = content.metric_records.get(PHASES)
    if record is None:
        return {}
    if len(record) > _MOST_PHASES or any(not _PHASE.fullmatch(str(name)) for name in record):
        raise BadReply
    seconds = {str(name): _figure(value) for name, value in record.items()}
    if any(not 0.0 <= value < 1e9 for value in seconds.values()):
        raise BadReply
    return seconds


def _figure(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise BadReply
    return float(value)  # type: ignore[arg-type]


def _config(content: RecordDict) -> ConfigRecord:
    return content.config_records[CONFIG]


def _arrays(content: RecordDict) -> ArrayRecord:
    return content.array_records[ARRAYS]


def _text(config: ConfigRecord, key: str) -> str:
    value = _typed(config, key, str)
    if len(value) > MAX_LABEL:
        raise BadReply
    return value


def _bytes(config: ConfigRecord, key: str, most: int) -> bytes:
    value = _typed(config, key, bytes)
    if len(value) > most:
        raise BadReply
    return value


def _number(config: ConfigRecord, key: str) -> int:
    value = _typed(config, key, int)
    if not 0 <= value < 2**31:
        raise BadReply
    return value


def _typed(config: ConfigRecord, key: str, kind: type[T]) -> T:
    value = config[key]
    if type(value) is not kind:
        raise BadReply
    return value


def _raw(arrays: ArrayRecord, name: str, most: int) -> bytes:
    if name not in arrays:
        return b""
    data = arrays[name].data
    if not isinstance(data, bytes) or len(data) > most:
        raise BadReply
    return data


def _values(array: Array, shape: tuple[int, ...], dtype: str) -> NDArray[np.generic]:
    """Return an array's numbers, its size seen to first."""
    kind = np.dtype(_KINDS[dtype])
    size = math.prod(shape) * kind.itemsize
    if not size <= len(array.data) <= size + _MOST_PREFACE:
        raise BadReply
    values = numbers_in(array)
    if values.shape != shape or values.dtype != kind or not np.isfinite(values).all():
        raise BadReply
    return values
