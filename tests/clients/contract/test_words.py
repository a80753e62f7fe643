"""Words of a message are there, of exactly their type, or the message is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from flwr.app import ConfigRecord, RecordDict

from clients.contract.messages import content_from_bytes, content_to_bytes
from clients.contract.words import CONFIG, NO_WORD, Words, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything(Words):
    a_text: str
    number: int = field(metadata={"word": "other-name"})
    sigma: float
    wanted: bool
    data: bytes
    parts: tuple[bytes, ...]
    apart: object = field(default=None, metadata=NO_WORD)


ONE = Everything(
    a_text="north", number=3, sigma=2, wanted=True, data=b"\x00", parts=(b"", b"x"), apart=[]
)
WORDS = {"a-text", "other-name", "sigma", "wanted", "data", "parts"}


def test_a_message_is_read_as_it_was_written():
    assert set(words_of(ONE)) == WORDS
    assert Everything.read(content_from_bytes(content_to_bytes(ONE.content()))) == Everything(
        a_text="north", number=3, sigma=2.0, wanted=True, data=b"\x00", parts=(b"", b"x")
    )


@pytest.mark.parametrize("word", sorted(WORDS))
@pytest.mark.parametrize("value", [None, "x", "x" * 257, 1, 1.0, True, b"x", [b"x"], [1], ["x"]])
def test_a_word_that_is_missing_or_of_another_type_is_refused(word, value):
    config = ConfigRecord(words_of(ONE))
    del config[word]
    if value is not None:
        config[word] = value
    kinds = {
        "a-text": str, "other-name": int, "sigma": float, "wanted": bool, "data": bytes
    }  # fmt: skip
    fits = value == [b"x"] if word == "parts" else type(value) is kinds[word] and value != "x" * 257
    if fits:
        Everything.read(RecordDict({CONFIG: config}))
        return
    with pytest.raises(ValueError, match=word):
        Everything.read(RecordDict({CONFIG: config}))


def test_a_field_that_is_no_word_has_to_be_marked():
    @dataclass(frozen=True, kw_only=True)
    class Unmarked(Words):
        model: dict[str, int]

    with pytest.raises(TypeError, match="mark it NO_WORD"):
        Unmarked(model={}).content()
