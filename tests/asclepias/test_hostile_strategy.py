"""What a server that deviates, or one patient's record, can do to an app of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.message import make_message
from flwr.supercore.task_identity import TaskIdentity
from torch.nn import functional

from asclepias import Patients, beginnings, hospital_mod
from asclepias.beginnings import Beginnings
from asclepias.told import RECORD, NotTold
from clients.contract.kinds import Kind
from clients.contract.own_task import OwnTask
from clients.data.own_info import OwnInfo
from clients.models import ModelError
from clients.models.own_model import check_loss
from tests.asclepias.own_apps import FEATURES, net
from tests.asclepias.test_face import private_app
from tests.door.faults import failing, full


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 5


def context(**node: str | int) -> Context:
    return Context(run_id=1, node_id=1, node_config=node, state=RecordDict(), run_config={})  # type: ignore[arg-type]


class Rows(torch.utils.data.Dataset):
    """Records as they are handed to it."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        return self._rows[number]


@pytest.mark.parametrize(
    "odd",
    [
        (np.zeros((1, 6, 6)), 1, "z"),
        (np.zeros((1, 4, 4)), 0.5, "z"),
        (np.zeros((1, 4, 4)), np.array([1, 0]), "z"),
        (np.zeros((1, 4, 4)), 1, None),
    ],
    ids=["shape", "kind of target", "shape of target", "no patient"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_no_record_decides_on_all_others(odd: tuple[Any, ...], first: bool) -> None:
    """Were the first one's form taken, that patient would bring everybody's gradients, or none."""
    rows = [(np.full((1, 4, 4), float(number)), number % 2, f"p{number}") for number in range(5)]
    assert len(Patients.gathered(Rows(rows)).inputs) == 5
    with pytest.raises(ValueError, match="two forms"):
        Patients.gathered(Rows([odd, *rows] if first else [*rows, odd]))


class Remembering:
    """A loss over the mean of those before it: each record's gradient depends on others."""

    def __init__(self) -> None:
        self.mean = 1.0

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = functional.cross_entropy(outputs, targets)
        self.mean = 0.9 * self.mean + 0.1 * float(loss.detach())
        return loss / self.mean


@pytest.mark.parametrize("loss", [Remembering(), lambda o, t: o.sum() * torch.rand(())])
def test_a_loss_that_remembers_records_is_refused(loss: Any) -> None:
    info = OwnInfo(
        name="a",
        title="",
        task="own",
        shape=(FEATURES,),
        classes=(),
        brought=OwnTask(module=net, loss=loss),
    )
    with pytest.raises(ModelError, match="when it comes again"):
        check_loss(info.own, net(), info.shape)
    check_loss(OwnTask(module=net, loss=functional.cross_entropy), net(), info.shape)


def asking(**changes: Any) -> Message:
    record = {
        "kind": Kind.JOIN.value,
        "settings": json.dumps({"model.name": "own"}),
        "initial": b"",
    }
    return Message(RecordDict({RECORD: ConfigRecord({**record, **changes})}), 1, "train")


@pytest.mark.parametrize(
    "settings", ["[" * 100_000, "1" * 5000, "{}", "null", '{"model.name": [1]}', '{"a": NaN}']
)
def test_hostile_words_get_a_code(settings: str) -> None:
    reply = private_app()(asking(settings=settings), context(**{"partition-id": 0}))
    assert reply.error.reason in ("malformed", "settings-refused")


def test_no_exceptions_text_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    error = make_message(metadata=asking().metadata, error=Error(1, "none"))
    assert private_app()(error, context()).error.reason == "malformed"

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", "/home/klinik/.cache")

    monkeypatch.setattr(Beginnings, "keep", broken)
    initial = b"tensors"
    digest = beginnings.digest_of(initial)
    told = json.dumps({"model.name": "own", "model.weights-digest": digest})
    reply = private_app()(asking(settings=told, initial=initial), context(**{"partition-id": 0}))
    assert reply.error.reason == "internal"


def test_what_servers_send_to_begin_with_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "MOST_BYTES", 1000)
    kept = Beginnings()
    for number in range(9):
        kept.keep(bytes([number]) * 300)
        kept.write_down(beginnings.digest_of(bytes([number]) * 300))
    files = list((tmp_path / "cache").rglob("*.safetensors"))
    assert 1 <= len(files) <= 3
    with pytest.raises(NotTold, match="at most 1000"):
        kept.keep(bytes(1001))
    with failing(0, full):
        kept.keep(b"while the disk is full")
        kept.write_down(beginnings.digest_of(b"while the disk is full"))


@pytest.mark.parametrize("kind", ["evaluate", "query", "evaluate.other", "train"])
def test_at_a_real_hospital_nothing_passes_by_the_door(kind: str) -> None:
    asked = Message(RecordDict(), 1, kind)
    passed: list[str] = []

    def app(message: Message, _: Context) -> Message:
        passed.append(message.metadata.message_type)
        return Message(RecordDict(), reply_to=message)

    for node in ({"site": "/etc/asclepias/site.toml"}, {"site": "/s.toml", "partition-id": 0}, {}):
        assert hospital_mod(asked, context(**node), app).error.reason == "malformed"
    assert not passed
    simulated = hospital_mod(asked, context(**{"partition-id": 0}), app)
    assert simulated.has_content() == bool(passed) == (kind != "train")


def test_weights_by_a_batchs_own_shares_are_found_whatever_the_batch() -> None:
    def evened(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        shares = torch.bincount(targets, minlength=2).float() / len(targets)
        return functional.cross_entropy(outputs, targets, weight=1.1 - shares)

    task = OwnTask(module=lambda _: torch.nn.Linear(5, 2), loss=evened)
    with pytest.raises(ModelError, match="the loss mixes patients"):
        check_loss(task, torch.nn.Linear(5, 2), (5,))
