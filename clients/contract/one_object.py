"""A message content as one object on its way.

Flower's SuperLink stores, announces, sends and acknowledges every record, array and piece of an
array by itself: each is a request with its own authentication and database writes, and a round's
message has eight to twenty. So between two processes a content travels as one value in one record,
unless it is large: then Flower's pieces, which travel side by side, serve better.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict

from clients.contract.messages import content_from_bytes, content_to_bytes, message_bytes

_RECORD, _VALUE = "one-object", "content"
#: Contents above so many bytes travel in Flower's pieces.
MOST_BYTES = 2**23


def as_one_object(content: RecordDict) -> RecordDict:
    """Return the content as one object, or itself if it is large."""
    if message_bytes(content) > MOST_BYTES:
        return content
    return RecordDict({_RECORD: ConfigRecord({_VALUE: content_to_bytes(content)})})


def is_one_object(content: RecordDict) -> bool:
    """Return whether a content came as one object."""
    return list(content) == [_RECORD]


def from_one_object(content: RecordDict) -> RecordDict:
    """Return the content that came as one object, or what came if it did not.

    Raises:
        ValueError: it cannot be read.
    """
    if not is_one_object(content):
        return content
    # Of another kind of record it is none of these, and so holds nothing.
    value = content.config_records.get(_RECORD, ConfigRecord()).get(_VALUE)
    if type(value) is not bytes:
        raise ValueError(f"a message of one object holds {type(value).__name__}, expected bytes")
    try:
        return content_from_bytes(value)
    except Exception as error:
        raise ValueError(f"a message of one object cannot be read: {error}") from error
