"""An array in a message is what its bytes are, whatever it says of itself."""

from __future__ import annotations

import ast
import io
import time

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from clients.contract.messages import ARRAYS, OpenedRound, RoundRequest, bytes_to_array
from clients.contract.tensors import numbers_in, pack_arrays, unpack_arrays, unpack_tensors
from clients.contract.visit_messages import JudgeRequest

SENT = Array("float32", (1,), "numpy.ndarray", b"")


def said(descr: object, shape: object, data: bytes = b"", version: int = 1) -> Array:
    """An array that says this of itself, and holds these bytes."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    preface = b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2, "little")
    return Array("float32", (1,), "numpy.ndarray", preface + head + data)


ODD = {
    "nothing, a million times": said("|V0", (2 * 10**9,)),
    "no letters": said("|S0", (2**60,)),
    "more than there are": said("<f4", (2**33,)),
    "more than can be counted": said("<f4", (2**62, 2**62)),
    "fewer": said("<f4", (1,), bytes(8)),
    "of a negative length": said("<f4", (-1, -1), bytes(4)),
    "pairs": said([("a", "<f4"), ("b", "<f4")], (1,), bytes(8)),
    "rows of numbers": said(("<f4", (2**20,)), (8,)),
    "letters": said("<U2", (1,), bytes(8)),
    "dates": said("<M8[s]", (1,), bytes(8)),
    "imaginary numbers": said("<c8", (1,), bytes(8)),
    "objects": said("|O", (1,), b"\x80\x04N."),
    "no such size": said("<f3", (1,), bytes(3)),
    "more dimensions than there are": said("<f4", (1,) * 65, bytes(4)),
    "a shape of words": said("<f4", ("1",), bytes(4)),
    "a shape that is none": said("<f4", 1, bytes(4)),
    "another version": said("<f4", (1,), bytes(4), version=9),
    "no head": SENT,
    "a deep head": Array("float32", (1,), "numpy.ndarray", b"\x93NUMPY\1\0(#" + b"(" * 9000),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_array_of_numbers_is_refused_at_once(odd: str) -> None:
    assert torch.__version__  # imported before the time is taken
    start = time.process_time()
    for read in (
        lambda: numbers_in(ODD[odd]),
        lambda: unpack_tensors("0.", ArrayRecord({"0.weight": ODD[odd]})),
    ):
        with pytest.raises(ValueError, match="array of"):
            read()
    assert time.process_time() - start < 1.0


def test_so_is_a_model_to_be_judged_before_anything_else_is_looked_at() -> None:
    content = JudgeRequest(training="t", bind="", models=({},)).content()
    content[ARRAYS] = ArrayRecord({"0.weight": ODD["nothing, a million times"]})
    start = time.process_time()
    with pytest.raises(ValueError, match="no array of numbers"):
        JudgeRequest.read(content)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "values",
    [
        np.float32(1.5),
        np.zeros((0, 3), dtype=np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.arange(3, dtype=">f4"),
        np.arange(3, dtype=np.float16),
    ],
    ids=["one", "none", "whole", "by column", "whether", "the other order", "half"],
)
def test_numbers_come_as_they_were_sent(values: np.ndarray) -> None:
    packed = ArrayRecord(pack_arrays("a.", {"x": values}))
    found = unpack_arrays("a.", packed)["x"]
    assert np.array_equal(found, values)
    assert found.shape == np.asarray(values).shape
    file = io.BytesIO()
    np.save(file, values)
    sent = Array("float32", (1,), "numpy.ndarray", file.getvalue())
    assert np.array_equal(numbers_in(sent), values)


def test_what_a_stranger_sent_is_not_given_to_the_parser_of_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    sent = pack_arrays("", {"x": np.arange(6.0).reshape(2, 3)})["x"]
    monkeypatch.setattr(ast, "parse", parse)
    assert np.array_equal(numbers_in(sent), np.arange(6.0).reshape(2, 3))


@pytest.mark.exhaustive
def test_many_sums_and_many_models_are_read_in_as_many_steps() -> None:
    """What is read before anything is checked takes time in proportion to what came."""
    many, start = 6000, time.process_time()
    closed = {
        n: OpenedRound(total=b"t", roster=b"r", answers={"a.b": b"%d" % n, "": b"x"})
        for n in range(1, many)
    }
    request = RoundRequest(training="t", bind="", round=1, closed=closed)
    assert RoundRequest.read(request.content()).closed == closed
    content = JudgeRequest(training="t", bind="", models=({},) * many).content()
    values = pack_arrays("", {"w.0": np.ones(1, dtype=np.float32)})["w.0"]
    content[ARRAYS] = ArrayRecord({f"{n}.w.0": values for n in range(many)})
    models = JudgeRequest.read(content).models
    assert [list(one) for one in models] == [["w.0"]] * many
    assert time.process_time() - start < 5.0
    short = ArrayRecord({"0.w.0": values, "x": bytes_to_array(b"")})
    content[ARRAYS] = short
    with pytest.raises(ValueError, match="6000 models in 2 arrays"):
        JudgeRequest.read(content)
