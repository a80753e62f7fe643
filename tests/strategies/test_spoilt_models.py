"""A hospital that sends on a visiting model that nobody can use does not end the training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message

from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS
from clients.contract.visit_messages import Carried
from clients.learning import visits
from strategies.cyclic import _from_bytes, _to_bytes
from strategies.errors import TrainingStopped
from tests.exchange_runs import recorded, run_app
from tests.in_process import Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

B, LAST = "hospital-01", "hospital-03"
VISITED = {
    "privacy__regime": "FPDP",
    "exchange__name": "cyclic",
    "partition__hospitals": 4,
    "training__rounds": 2,
    "training__release_every": 100,
}
Spoil = Callable[[dict[str, Any]], dict[str, Any]]
SPOILT: dict[str, Spoil] = {
    "under another key": lambda sent: {**sent, "group_key": os.urandom(32)},
    "no numbers": lambda sent: {**sent, "vector": np.full_like(sent["vector"], np.nan)},
    "too few": lambda sent: {**sent, "vector": sent["vector"][:-1]},
}


@contextmanager
def spoiling(liar: str, how: Spoil) -> Iterator[None]:
    """One hospital signs what it sends on, and sends something else than a model."""
    send_on = visits.send_on

    def sent(vector: Any, **given: Any) -> Any:
        if given["sender"] == liar:
            given = how({"vector": vector, **given})
            vector = given.pop("vector")
        return send_on(vector, **given)

    with mock.patch.object(visits, "send_on", sent):
        yield


def keeps_its_release(hospital: str) -> Meddle:
    """A hospital that sends its model on, and never releases it."""

    def meddle(message: Message, reply: Message | None) -> Message | None:
        if reply is not None and reply.has_content() and hospital_of(message) == hospital:
            kept = reply.content.array_records.get(ARRAYS, ArrayRecord()).items()
            if message.metadata.message_type == Kind.VISIT:
                named = {k: v for k, v in kept if not k.startswith("model.")}
                reply.content[ARRAYS] = ArrayRecord(named)
        return reply or message

    return meddle


@pytest.mark.parametrize(
    "how", ["no numbers", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in SPOILT)]
)
def test_the_model_before_it_goes_on_and_its_maker_is_named(tmp_path: Path, how: str) -> None:
    settings = small_settings(tmp_path, **VISITED)
    with spoiling(B, SPOILT[how]):
        run_app(settings)
    [warning] = recorded(settings, "warning")
    said = f"{B} at visit 2 (its model was refused by hospital-02, hospital-03)"
    assert warning["hospital"] == B and said in warning["message"]
    assert (tmp_path / "model.safetensors").is_file()


def test_so_it_does_after_the_last_visit(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)
    with spoiling(LAST, SPOILT["under another key"]):
        run_app(settings, keeps_its_release(LAST))
    [warning] = recorded(settings, "warning")
    said = f"{LAST} at visit 4 (its model was refused by hospital-00, hospital-01)"
    assert said in warning["message"]
    assert (tmp_path / "model.safetensors").is_file()


def test_one_hospital_alone_accuses_nobody(tmp_path: Path) -> None:
    """Who refuses every model is skipped, and nobody loses a visit by it."""
    take_over = visits.take_over
    refused = []

    def refusing(carried: Any, **given: Any) -> Any:
        if given["before"] == 3:  # its own visit
            refused.append(given["before"])
            given["group_key"] = os.urandom(32)
        return take_over(carried, **given)

    settings = small_settings(tmp_path, **VISITED)
    with mock.patch.object(visits, "take_over", refusing):
        run_app(settings)
    assert refused
    [fault] = recorded(settings, "fault")
    assert (fault["hospital"], fault["code"]) == ("hospital-02", "opening-refused")
    assert not recorded(settings, "warning")


def test_where_nobody_sends_on_a_model_the_training_stops(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)
    send_on = visits.send_on

    def sent(vector: Any, **given: Any) -> Any:
        return send_on(vector, **{**given, "group_key": os.urandom(32)})

    with mock.patch.object(visits, "send_on", sent), pytest.raises(TrainingStopped):
        run_app(settings, keeps_its_release(LAST))


def test_a_server_that_is_started_again_has_the_models_before(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)

    def interrupted(message: Message, reply: Message | None) -> Message | None:
        visit = message.metadata.message_type == Kind.VISIT
        if visit and hospital_of(message) == "hospital-02":
            raise KeyboardInterrupt
        return reply or message

    with spoiling(B, SPOILT["no numbers"]):
        with pytest.raises(KeyboardInterrupt):
            run_app(settings, interrupted)
        run_app(settings)
    [warning] = recorded(settings, "warning")
    assert f"{B} at visit 2 (its model was refused by" in warning["message"]
    assert (tmp_path / "model.safetensors").is_file()


def test_kept_models_come_back_as_they_were() -> None:
    first = Carried(), tuple[bytes, ...]()
    one = Carried(envelope=b"envelope", header=b"header"), (b"first", b"header")
    two = Carried(envelope=b"", header=b"h"), (b"first", b"header", b"h")
    for models in ([], [first], [one], [first, one, two]):
        assert _from_bytes(_to_bytes(models)) == models
    assert _from_bytes(b"") == []
