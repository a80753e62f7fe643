"""There is one way out of a hospital: what is listed is what is there, and no more."""

from __future__ import annotations

import ast
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accounting import lines
from accounting.book import Book
from accounting.chain import Flush
from accounting.events import ExactEvent
from accounting.lines import Line
from accounting.private import Made, Private
from accounting.receipts import Receipt, Use, is_redeemed, taken_out
from clients.client_app import HANDLERS, READERS, make_client_app
from clients.contract.kinds import KINDS, Kind
from clients.contract.messages import RoundReply, RoundRequest
from clients.site.door import Door, Passage, Release, let_go
from clients.site.leave import leave
from clients.site.proofs import (
    Committed,
    Confirmed,
    check_committed,
    is_confirmed,
    make_committed,
    make_confirmed,
)
from clients.site.worker import Worker
from crypto.errors import KeysError
from crypto.roles import Place

CLIENTS = Path(__file__).parents[2] / "clients"
#: Modules that speak Flower's language: the app, the door's edge, what is read and written there,
#: and, for types alone, where a node's config is read and an answer is kept.
SPEAK_FLOWER = {
    "client_app.py",
    "contract/ceremony_messages.py",
    "contract/layer_messages.py",
    "contract/messages.py",
    "contract/one_object.py",
    "contract/share_messages.py",
    "contract/tensors.py",
    "contract/visit_messages.py",
    "contract/witness_messages.py",
    "contract/words.py",
    "site/answers.py",
    "site/leave.py",
    "site/worker.py",
}
TYPES_ONLY = {"site/answers.py", "site/worker.py"}


def test_what_is_answered_is_what_is_listed_read_and_registered() -> None:
    listed = set().union(*KINDS.values())
    assert listed == set(Kind)
    assert set(HANDLERS) == set(READERS) == listed
    registered = make_client_app(Worker())._registered_funcs
    assert {key.removesuffix(".default") for key in registered} == {str(kind) for kind in HANDLERS}


def trees() -> list[tuple[str, ast.Module]]:
    return [
        (str(path.relative_to(CLIENTS)), ast.parse(path.read_text()))
        for path in sorted(CLIENTS.rglob("*.py"))
    ]


def test_a_reply_is_made_at_one_place() -> None:
    found = set()
    for name, tree in trees():
        for node in ast.walk(tree):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if called and node.func.id in ("Message", "Error"):  # type: ignore[attr-defined]
                found.add(name)
            if isinstance(node, ast.keyword) and node.arg == "reply_to":
                found.add(name)
            if isinstance(node, ast.Attribute) and node.attr == "reply_to":
                found.add(name)
    assert found == {"site/leave.py"}


def test_only_the_edge_of_a_hospital_speaks_flower() -> None:
    found, at_run_time = set(), set()
    for name, tree in trees():
        typed = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if any(module.split(".")[0] == "flwr" for module in modules):
                found.add(name)
                if id(node) not in typed:
                    at_run_time.add(name)
    assert found == SPEAK_FLOWER
    assert at_run_time == SPEAK_FLOWER - TYPES_ONLY


def test_proofs_are_made_where_they_are_earned() -> None:
    makers = {
        "make_committed": {"site/opening.py"},
        "make_confirmed": {"site/opening.py"},
        "let_go": {"site/leave.py"},
        "noised_unpaid": set(),
        "issue_receipt": set(),
        "taken_out": set(),
    }
    found: dict[str, set[str]] = {name: set() for name in makers}
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name in found:
                        found[alias.name].add(name)
    assert found == makers


PLACE = Place(training="t", round=1, attempt=1)


def receipt(folder: Path) -> Receipt:
    folder.mkdir(exist_ok=True)
    book = Book(folder / "ledger.jsonl", site="s", cohort="c", flush=Flush.WRITE)
    bind: Line = lines.bind(
        "t", terms="t", own="o", members="m", code="", rounds=1, spare=0, failures=3
    )
    book.append(bind, lines.keyed("t", keys="k"))
    made = book.spend(PLACE, ExactEvent(), purpose="test")
    book.close()
    return made


@pytest.fixture
def made(tmp_path: Path) -> dict[type[Made], Made]:
    paid = receipt(tmp_path)
    return {
        Receipt: paid,
        Use: paid.use(1, 1),
        Committed: make_committed(round=1, attempt=1, opened="00"),
        Confirmed: make_confirmed(round=1),
    }


@pytest.mark.parametrize("kind", [Release, Receipt, Use, Committed, Confirmed])
def test_what_proves_something_cannot_be_made_by_just_anybody(kind: type[Made]) -> None:
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        type("Mine", (kind,), {})


@pytest.mark.parametrize("kind", [Receipt, Use, Committed, Confirmed])
@pytest.mark.parametrize(
    "how", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
def test_what_proves_something_cannot_be_copied_or_changed(
    made: dict[type[Made], Made], kind: type[Made], how: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError):
        how(made[kind])
    with pytest.raises(TypeError):
        made[kind].round = 7  # type: ignore[attr-defined]


def conjured(kind: type[Made], **fields: object) -> object:
    stranger = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(stranger, name, value)
    return stranger


def test_a_conjured_proof_is_a_stranger() -> None:
    use = conjured(Use, place=PLACE, round=1, turn=1, event=ExactEvent())
    with pytest.raises(TypeError):
        taken_out(Private(1), use)  # type: ignore[arg-type]
    assert not is_redeemed(use)
    assert not is_confirmed(conjured(Confirmed, round=1))
    with pytest.raises(TypeError):
        check_committed(conjured(Committed, round=1, attempt=1, opened=""))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        let_go(conjured(Release, reply=RoundReply()))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        leave(conjured(Release, reply=RoundReply()), None)  # type: ignore[arg-type]
    stranger = conjured(Receipt, place=PLACE, event=ExactEvent(), rounds=1, uses=1, _asked=set())
    with pytest.raises(TypeError):
        stranger.use(1, 1)  # type: ignore[attr-defined]


def test_a_use_is_good_once(made: dict[type[Made], Made]) -> None:
    use = made[Use]
    assert isinstance(use, Use)
    assert taken_out(Private(3), use) == 3
    with pytest.raises(TypeError):
        taken_out(Private(3), use)


def held_at_a_hospital() -> dict[str, object]:
    """One object of each kind that holds records, keys, or what follows from them."""
    import torch

    from clients.data import Records
    from clients.learning.batch import Batch
    from clients.learning.dp_sgd import GradientSum
    from clients.learning.replica import Replica
    from clients.site.membership import Membership
    from clients.site.split_hospital import Slots
    from crypto.packing import Quantiser
    from crypto.planning import plan_sealing
    from crypto.schemes import make_keys
    from tests.door.world import door_settings

    rows, two = torch.full((2, 3), 7.0), torch.zeros(2, dtype=torch.int64)
    slots = {"inputs": rows, "places": two, "labels": two, "owners": two, "weights": rows[:, 0]}
    grid = Quantiser(step=1.0, bound=7.0)
    keys = make_keys(plan_sealing(values=4, hospitals=2, grid=grid, scheme="modular"))
    numbers = np.zeros(2, dtype=np.int64)
    return {
        "Records": Records(inputs=np.asarray(rows), labels=numbers, patients=numbers),
        "Batch": Batch(inputs=rows, labels=two, patients=two),
        "GradientSum": GradientSum(total=np.full(3, 7.0), patients=7, discarded=0),
        "Slots": Slots(**slots, patients=2),
        "Replica": Replica(torch.nn.Linear(3, 2), door_settings()),
        "Membership": Membership(keys=keys, public_keys={}, bind=bytes(32), noise_multiplier=7.0),
        "Keys": keys,
    }


@pytest.mark.parametrize(
    "name", ["Records", "Batch", "GradientSum", "Slots", "Replica", "Membership"]
)
def test_what_a_hospital_holds_comes_out_in_no_usual_way(name: str) -> None:
    from tests.accounting.test_private import WAYS_OUT

    thing = held_at_a_hospital()[name]
    assert f"{thing!r}" == name
    for way in WAYS_OUT.values():
        with pytest.raises((TypeError, RuntimeError)):
            way(thing)


def test_keys_come_out_by_name_only() -> None:
    keys = held_at_a_hospital()["Keys"]
    for way in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, list, float, bytes):
        with pytest.raises((TypeError, KeysError)):
            way(keys)  # type: ignore[arg-type]
    assert keys.group_key.hex() not in f"{keys} {keys!r} {np.asarray(keys)}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.RELEASE, Kind.EVALUATE, Kind.EVALUATE_MODELS])
def test_an_answer_without_what_pays_for_it_is_not_made(tmp_path: Path, kind: Kind) -> None:
    book = Book(tmp_path / "ledger.jsonl", site="s", cohort="c", flush=Flush.WRITE)
    gate = Door(book=book, answers=None, exchange="gradients")  # type: ignore[arg-type]
    request = RoundRequest(training="t", bind="", round=1)
    passage = Passage(gate, kind, request, book.state("t"))
    with pytest.raises(TypeError):
        passage.answer(RoundReply())
    paid = receipt(tmp_path / "other").use(1, 1)
    taken_out(Private(1), paid)
    if kind is not Kind.TRAIN:
        with pytest.raises(TypeError):
            passage.answer(RoundReply(), uses=[paid])
    book.close()
