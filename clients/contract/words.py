"""The words of a message: its fields, by name with dashes, in the record that Flower calls config.

Names and types stand once, in the message's own class. They are read strictly, for the other end
may send anything: a word is there, of exactly its type, and no text is longer than a label::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Greeting(Words):
        sender: str

    Greeting.read(Greeting(sender="north").content())
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from flwr.app import ConfigRecord, ConfigRecordValues, RecordDict

from crypto.roles import MAX_LABEL

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG = "config"
#: Mark of a field that travels in another way.
NO_WORD = {"word": ""}
#: Mark of the round, under the name that Flower's own strategies give it.
SERVER_ROUND = {"word": "server-round"}

#: A field's type -> its type in a record, where lists are of bytes.
_TYPES: dict[str, type] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "bytes": bytes,
    "tuple[bytes, ...]": list,
}


class Words:
    """A message that is made of words alone."""

    __slots__ = ()

    def content(self) -> RecordDict:
        """Return it as a message content."""
        return RecordDict({CONFIG: ConfigRecord(words_of(self))})  # type: ignore[arg-type]

    @classmethod
    def read(cls, content: RecordDict) -> Self:
        """Read it at the other end.

        Raises:
            ValueError: it is no such message.
        """
        return cls(**read_words(cls, config_of(content)))  # type: ignore[arg-type]


def config_of(content: RecordDict) -> ConfigRecord:
    """Return the record of a message's words."""
    return content.config_records[CONFIG]


def words_of(message: DataclassInstance) -> dict[str, ConfigRecordValues]:
    """Return the words of a message."""
    words: dict[str, ConfigRecordValues] = {}
    for name, word, kind in _fields(type(message)):
        value = getattr(message, name)
        words[word] = _TYPES[kind](value) if kind in ("float", "tuple[bytes, ...]") else value
    return words


def read_words(message: type[DataclassInstance], config: ConfigRecord) -> dict[str, Any]:
    """Return the fields of a message that are words, as its class takes them.

    Raises:
        ValueError: a word is missing, of another type, or longer than a label.
    """
    return {name: read_word(config, word, kind) for name, word, kind in _fields(message)}


def read_word(config: ConfigRecord, word: str, kind: str) -> Any:
    """Return one word, of a type such as ``str`` or ``tuple[bytes, ...]``.

    Raises:
        ValueError: it is missing, of another type, or longer than a label.
    """
    if word not in config:
        raise ValueError(f"{word} is missing")
    value = config[word]
    if type(value) is not _TYPES[kind]:
        raise ValueError(f"{word} is of type {type(value).__name__}, expected {kind}")
    if isinstance(value, str) and len(value) > MAX_LABEL:
        raise ValueError(f"{word} has {len(value)} characters, expected at most {MAX_LABEL}")
    if not isinstance(value, list):
        return value
    if not all(type(one) is bytes for one in value):
        raise ValueError(f"{word} is no list of bytes")
    return tuple(value)


@cache
def _fields(message: type[DataclassInstance]) -> tuple[tuple[str, str, str], ...]:
    """Name, word and type of each field that is a word."""
    found = []
    for one in dataclasses.fields(message):
        word = one.metadata.get("word", one.name.replace("_", "-"))
        if word and one.type not in _TYPES:
            raise TypeError(f"{message.__name__}.{one.name}: mark it NO_WORD, a {one.type} is none")
        if word:
            found.append((one.name, word, str(one.type)))
    return tuple(found)
