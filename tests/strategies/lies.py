"""What a hospital may make of its replies: each change is a function of a reply's content."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict

from clients.contract.faults import FLOWER_ERROR_CODE
from clients.contract.messages import ARRAYS
from clients.contract.words import CONFIG
from crypto.identity import Identity
from crypto.offers import Offer

Change = Callable[[RecordDict], RecordDict | Error | None]

HUGE = 2**45


def with_config(**values: object) -> Change:
    """Say other words under some keys; None takes a key away."""

    def change(content: RecordDict) -> RecordDict:
        words = {**content.config_records.get(CONFIG, ConfigRecord()), **values}
        content[CONFIG] = ConfigRecord({k: v for k, v in words.items() if v is not None})  # type: ignore[misc]
        return content

    return change


def every_word(value: object) -> Change:
    """Say the same under every key."""

    def change(content: RecordDict) -> RecordDict:
        words = content.config_records.get(CONFIG, ConfigRecord({"name": ""}))
        content[CONFIG] = ConfigRecord(dict.fromkeys(words, value))  # type: ignore[arg-type]
        return content

    return change


def with_arrays(**values: Array | None) -> Change:
    """Send other arrays under some names; None takes one away. `__` stands for a dot."""

    def change(content: RecordDict) -> RecordDict:
        arrays = dict(content.array_records.get(ARRAYS, ArrayRecord()))
        arrays |= {name.replace("__", "."): array for name, array in values.items()}  # type: ignore[misc]
        content[ARRAYS] = ArrayRecord({k: v for k, v in arrays.items() if v is not None})
        return content

    return change


def every_array(make: Callable[[Array], Array | None], prefix: str = "") -> Change:
    """Put something else in the place of each array whose name begins so."""

    def change(content: RecordDict) -> RecordDict:
        arrays = content.array_records[ARRAYS]
        made = {n: make(a) if n.startswith(prefix) else a for n, a in arrays.items()}
        content[ARRAYS] = ArrayRecord({n: a for n, a in made.items() if a is not None})
        return content

    return change


def every_value(number: float, prefix: str) -> Change:
    """Fill arrays of numbers with one number."""
    return every_array(lambda a: Array(np.full_like(a.numpy(), number)), prefix)


def other_shape(array: Array) -> Array:
    return Array(np.zeros((3, *array.numpy().shape), dtype=array.numpy().dtype))


def lying_header(array: Array) -> Array:
    """A NumPy file that says it holds 2**45 numbers."""
    data = array.data.replace(b"'shape': (", f"'shape': ({HUGE}, ".encode(), 1)
    return Array(array.dtype, array.shape, array.stype, data)


def as_objects(array: Array) -> Array:
    data = array.data.replace(b"<f4", b"|O8").replace(b"<f8", b"|O8")
    return Array("object", array.shape, array.stype, data)


def with_metrics(record: str, **values: object) -> Change:
    def change(content: RecordDict) -> RecordDict:
        content[record] = MetricRecord(values)  # type: ignore[arg-type]
        return content

    return change


def empty(_: RecordDict) -> RecordDict:
    return RecordDict()


def only_config(_: RecordDict) -> RecordDict:
    return RecordDict({CONFIG: ConfigRecord({"model-round": 1, "snapshot-round": 1})})


def wordy_error(_: RecordDict) -> Error:
    return Error(FLOWER_ERROR_CODE, "a patient with a tumour " + "x" * 100_000)


def silent(_: RecordDict) -> None:
    return None


def saying(code: str) -> Change:
    return lambda _: Error(FLOWER_ERROR_CODE, code)


def offer_of_a_stranger(content: RecordDict) -> RecordDict:
    offer = Offer.from_bytes(content.config_records[CONFIG]["offer"])  # type: ignore[arg-type]
    forged = Offer(
        training=offer.training,
        name=offer.name,
        identity=Identity.generate().public,
        ephemeral=offer.ephemeral,
        commitment=offer.commitment,
        public=offer.public,
        signature=offer.signature,
    )
    return with_config(offer=forged.to_bytes())(content)  # type: ignore[return-value]


def flipped(array: Array) -> Array:
    data = bytearray(array.data)
    data[len(data) // 2] ^= 1
    return Array(array.dtype, array.shape, array.stype, bytes(data))


def with_whole(name: str, number: float, dtype: np.dtype) -> Change:
    """Fill one array with one number of a kind."""
    return every_array(lambda a: Array(np.full(a.numpy().shape, number, dtype=dtype)), name)
