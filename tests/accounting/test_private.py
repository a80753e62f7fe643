import copy
import io
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from accounting.private import Made, Maker, Private, Unreleased


class Plain(Unreleased):
    def __init__(self):
        self.secret = 7.0

    def __repr__(self):
        return f"Plain({self.secret})"


@dataclass(frozen=True)
class Frozen(Unreleased):
    secret: float = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted(Unreleased):
    secret: float = 7.0


class Below(Frozen):
    pass


UNRELEASED = [Private(7.0), Private(np.full(3, 7.0)), Plain(), Frozen(), Slotted(), Below()]

WAYS_OUT = {
    "asarray": np.asarray,
    "array of several": lambda thing: np.array([thing, thing]),
    "arithmetic": lambda thing: np.ones(3) + thing,
    "savez": lambda thing: np.savez(io.BytesIO(), thing),
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy inside": lambda thing: copy.deepcopy({"a": [thing]}),
    "as_tensor": torch.as_tensor,
    "torch.save": lambda thing: torch.save(thing, io.BytesIO()),
    "list": list,
    "in": lambda thing: 7.0 in thing,
    "format": lambda thing: f"{thing}",
    "json": json.dumps,
    "bool": bool,
    "float": float,
    "int": int,
    "index": lambda thing: [1][thing],
    "equal": lambda thing: thing == 7.0,
    "unequal": lambda thing: thing != 7.0,
    "equal to another": lambda thing: Private(7.0) == thing,
    "less": lambda thing: thing < 7.0,
}


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("thing", UNRELEASED, ids=lambda thing: type(thing).__name__)
def test_what_is_not_released_comes_out_in_no_usual_way(thing, way):
    with pytest.raises((TypeError, RuntimeError)) as refused:
        WAYS_OUT[way](thing)
    assert "7." not in str(refused.value)


@pytest.mark.parametrize("thing", UNRELEASED, ids=lambda thing: type(thing).__name__)
def test_its_texts_are_the_name_of_its_class(thing):
    name = type(thing).__name__
    assert repr(thing) == str(thing) == "%s" % thing == f"{thing!r}" == name  # noqa: UP031


def test_the_same_ways_are_open_for_a_class_without_the_mixin():
    @dataclass(frozen=True)
    class Open:
        secret: float = 7.0

    assert np.asarray(Open()).dtype == object
    assert "7.0" in f"{Open()}" and copy.deepcopy(Open()) == Open()


def test_what_follows_from_a_private_value_is_private():
    seen = []
    doubled = Private(3.0).map(lambda value: 2 * value)
    assert type(doubled) is Private
    doubled.map(seen.append)
    assert seen == [6.0]


def test_private_objects_can_be_kept_in_sets_by_identity():
    one, other = Frozen(), Frozen()
    assert len({one, other, one}) == 2 and one in {one}


class Token(Made):
    __slots__ = ("worth",)


TOKENS = Maker(Token)


def test_only_its_maker_makes_an_object():
    made = TOKENS.make(worth=3)
    assert made.worth == 3 and TOKENS.knows(made)
    with pytest.raises(TypeError, match="made by its maker"):
        Token()
    with pytest.raises(TypeError, match="subclassed"):
        type("Other", (Token,), {})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_made_object_cannot_be_copied(copied):
    with pytest.raises(TypeError, match="a Token cannot be"):
        copied(TOKENS.make(worth=3))


def test_a_made_object_cannot_be_changed():
    made = TOKENS.make(worth=3)
    with pytest.raises(TypeError):
        made.worth = 4
    with pytest.raises(TypeError):
        del made.worth
    with pytest.raises(TypeError):
        made.more = 1
    assert made.worth == 3


def test_a_conjured_object_is_a_stranger():
    conjured = object.__new__(Token)
    object.__setattr__(conjured, "worth", 3)
    claims = type("Claims", (), {"__eq__": lambda *_: True, "__hash__": lambda _: 0})()
    for stranger in (conjured, claims, Maker(Token).make(worth=3)):
        assert not TOKENS.knows(stranger)
        with pytest.raises(TypeError, match="not made by its maker"):
            TOKENS.take(stranger)


def test_an_object_is_taken_once():
    made = TOKENS.make(worth=3)
    assert TOKENS.take(made) is made
    with pytest.raises(TypeError, match="used before"):
        TOKENS.take(made)


def test_a_maker_keeps_nothing_alive_and_is_not_fooled_by_a_reused_address():
    for _ in range(100):
        TOKENS.make(worth=1)
        assert not TOKENS.knows(object.__new__(Token))
