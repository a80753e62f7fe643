"""A content as one object: it comes back as it was, and what is none is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from clients.contract import one_object
from clients.contract.messages import content_to_bytes
from clients.contract.one_object import as_one_object, from_one_object, is_one_object


def content(values: int = 3) -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({f"a{k}": Array(np.arange(values) + k) for k in range(4)}),
            "config": ConfigRecord({"word": "w", "bytes": b"\0\xff", "list": [b"", b"x"]}),
            "metrics": MetricRecord({"num-examples": 1, "seconds": [0.5, 1.5]}),
        }
    )


def test_it_comes_back_as_it_was_and_is_two_objects_on_its_way() -> None:
    """Three with the message around it."""
    made = as_one_object(content())
    assert is_one_object(made)
    assert len(get_all_nested_objects(made)) == 2
    assert content_to_bytes(from_one_object(made)) == content_to_bytes(content())


def test_what_is_large_travels_in_flowers_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_object, "MOST_BYTES", 1000)
    large = content(values=100)
    assert as_one_object(large) is large
    assert from_one_object(large) is large


@pytest.mark.parametrize(
    "record",
    [ConfigRecord(), ConfigRecord({"content": "text"}), ConfigRecord({"content": b"\xff\xff"})],
    ids=["empty", "text", "no content"],
)
def test_what_cannot_be_read_is_refused(record: ConfigRecord) -> None:
    with pytest.raises(ValueError, match="one object"):
        from_one_object(RecordDict({"one-object": record}))


def test_a_record_of_another_kind_under_the_name_is_refused() -> None:
    with pytest.raises(ValueError, match="one object"):
        from_one_object(RecordDict({"one-object": MetricRecord({"content": 1})}))
