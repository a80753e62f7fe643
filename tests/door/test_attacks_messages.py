"""Whatever a message holds, the answer is a code of a list, or what was paid for."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.app.message import make_message
from flwr.supercore.task_identity import TaskIdentity

from clients.client_app import HANDLERS, make_client_app
from clients.contract.faults import read_code
from clients.contract.kinds import Kind
from clients.contract.messages import (
    ARRAYS,
    bytes_to_array,
    content_from_bytes,
    content_to_bytes,
)
from clients.contract.settings import DEFAULTS, SettingsError
from clients.contract.witness_messages import WitnessReply, WitnessRequest
from clients.contract.words import CONFIG
from clients.site.worker import Worker
from tests.door.sites import Answer, Sites
from tests.door.split_play import LAYERS
from tests.door.test_attacks_binding import one_of
from tests.door.world import LOCAL, Play, door_settings, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"
VALUES = (
    0,
    -1,
    1,
    2,
    3,
    2**31,
    2**62,
    -(2**62),
    0.0,
    -1.5,
    1e308,
    "",
    "x",
    "é" * 70,
    b"",
    b"x",
    True,
)


def mutated(content: RecordDict, draw: random.Random) -> RecordDict:
    """A request with one to three things wrong."""
    result = content_from_bytes(content_to_bytes(content))
    for _ in range(draw.randint(1, 3)):
        what = draw.randrange(6)
        config = dict(result.config_records.get(CONFIG, ConfigRecord()).items())
        arrays = dict(result.array_records.get(ARRAYS, ArrayRecord()).items())
        if what == 0 and config:
            del config[draw.choice(sorted(config))]
        elif what == 1 and config:
            key = draw.choice(sorted(config))
            if key not in ("bind", "training") or draw.random() < 0.2:
                value = draw.choice(VALUES)
                config[key] = [value] * draw.randint(0, 3) if draw.random() < 0.3 else value
        elif what == 2:
            name = draw.choice(
                ["sum.1", "roster.1", "sum.-1", "sum.x", "snapshot", "layers.features"]
            )
            arrays[name] = bytes_to_array(draw.randbytes(draw.choice([0, 1, 64, 4096])))
        elif what == 3 and arrays:
            key = draw.choice(sorted(arrays))
            data = bytearray(arrays[key].data)
            if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            arrays[key] = Array(
                arrays[key].dtype, arrays[key].shape, arrays[key].stype, bytes(data)
            )
        elif what == 4:
            result["metrics"] = MetricRecord({"n": 1})
        elif what == 5 and draw.random() < 0.3:
            return RecordDict()
        result[CONFIG], result[ARRAYS] = ConfigRecord(config), ArrayRecord(arrays)
    return result


def check_answer(answer: Answer) -> None:
    assert answer or read_code(answer.code) is not None, answer


def bombard(folder: Path, changes: dict[str, object], count: int, seed: int) -> None:
    play = started(folder, **changes)
    if "exchange__name" not in changes:
        play.train(1)
        play.close(1)
    play.sites.keep(A)
    draw = random.Random(seed)
    paid = {Kind.TRAIN, Kind.FORWARD, Kind.HEAD, Kind.BACKWARD, Kind.VISIT}
    left: dict[tuple[Kind, bytes], int] = {}
    before = set(play.sites.folder(A).parent.rglob("*"))
    for _ in range(count):
        kind = draw.choice(sorted(HANDLERS.keys() - {Kind.END}))  # the rest would be refused
        asked = play.leading() if kind is Kind.KEYS else one_of(play, kind)
        answer = play.ask(A, kind, mutated(asked.content(), draw))
        check_answer(answer)
        if answer and kind in paid:
            left[kind, answer.payload] = 1
    assert all(len(state) == 0 for state in play.sites.states)
    lines = play.sites.kinds(A)
    assert len(left) <= sum(1 for kind in lines if kind in ("seal", "show"))
    assert lines.count("seal") <= lines.count("spend") + lines.count("show")
    grown = {
        path.name.partition("-")[0] for path in set(play.sites.folder(A).parent.rglob("*")) - before
    }
    own = {"peers.json", ".peers.json.lock", "witness.json"}
    assert grown <= {"reply", "replica", "slots", "turns", "ceremony"} | own
    # It still answers an honest server.
    play.sites.close()


@pytest.mark.parametrize("changes", [{}, LAYERS, {**LOCAL, "exchange__name": "cyclic"}])
def test_mutated_messages_get_a_code_or_what_was_paid_for(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    bombard(tmp_path, changes, 150, seed=1)


def test_a_message_that_is_an_error_is_answered_with_a_code() -> None:
    """It has no content to be read, and asks for nothing."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 5
    metadata = Message(RecordDict(), 1, Kind.TRAIN).metadata
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config={})
    for kind in HANDLERS:
        metadata.message_type = str(kind)
        asked = make_message(metadata=metadata, error=Error(1, "no message"))
        reply = make_client_app(Worker())(asked, context)
        assert reply.error.reason == "malformed"


def test_an_answer_that_cannot_be_written_is_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it holds, no exception's text leaves by way of Flower."""
    play = started(tmp_path)

    def secret(_: object) -> RecordDict:
        raise RuntimeError("of a patient")

    monkeypatch.setattr(WitnessReply, "content", secret)
    asked = WitnessRequest(training=play.training, bind=play.bind)
    assert play.ask(A, Kind.WITNESS, asked).code == "internal"


@pytest.mark.exhaustive
@pytest.mark.parametrize("changes", [{}, LAYERS, {**LOCAL, "exchange__name": "cyclic"}])
def test_ten_thousand_mutated_messages_get_a_code_or_what_was_paid_for(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    bombard(tmp_path, changes, 3400, seed=2)


@pytest.mark.parametrize("sigma", [0.0, 1e-300, 1e6, 1e300, float("inf"), float("nan"), -1.0])
def test_a_noise_multiplier_of_any_size_is_answered_at_once(tmp_path: Path, sigma: float) -> None:
    play = Play.of(Sites(tmp_path / "c"), door_settings())
    play.ask(A, Kind.JOIN, play.joining())
    began = time.monotonic()
    answer = play.ask(A, Kind.JOIN, play.joining(noise_multiplier=sigma))
    assert answer.code in ("malformed", "settings-refused", "training-bound")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "changes",
    [
        {"training__rounds": 10**15},
        {"training__rounds": 100_000},
        {"partition__hospitals": 10**9},
        {"training__sampling_rate": 1e-300},
        {"training__sampling_rate": 1e-9},
        {"privacy__l2_clip": 1e-30},
        {"privacy__l2_clip": 1e6},
        {"privacy__spare_attempts": 10**15},
        {"training__learning_rate": float("nan")},
        {"exchange__name": "weights", "exchange__local_steps": 10_000},
        {**LAYERS, "training__sampling_rate": 1e-9},
        {"data__largest_hospital": 10**15},
    ],
    ids=str,
)
def test_settings_of_any_size_are_answered_at_once(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    sites = Sites(tmp_path / "c")
    play = Play.of(sites, door_settings())
    config = door_settings().to_config()
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config[f"{group}.{name.replace('_', '-')}"] = value  # type: ignore[assignment]
    assert config.keys() == DEFAULTS.keys()

    class Raw:
        """What a submitter sends, which no `Settings` has checked."""

        def to_config(self) -> dict[str, object]:
            return dict(config)

    began = time.monotonic()
    answer = sites.ask(A, Kind.JOIN, play.joining(), Raw())  # type: ignore[arg-type]
    assert answer.code in ("settings-refused", "training-bound"), answer
    assert time.monotonic() - began < 10


def test_a_setting_that_is_none_is_refused_as_a_whole() -> None:
    with pytest.raises(SettingsError):
        door_settings(privacy__l2_clip=1e-30)


def test_weights_at_a_path_of_a_run_tell_nothing_of_what_is_there(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    sites = Sites(tmp_path / "c")
    play = Play.of(sites, door_settings())
    (tmp_path / "text").write_text("a patient's name")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
    head = {"head.weight": torch.zeros(2, 30), "head.bias": torch.zeros(2)}
    save_file(head, tmp_path / "fits.safetensors")
    torch.save({"state_dict": 3}, tmp_path / "three.pt")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "vast").open("wb") as vast:
        vast.truncate(2**40)
    paths = [
        tmp_path / "text",
        tmp_path / "secret",
        tmp_path / "other.safetensors",
        tmp_path / "fits.safetensors",
        tmp_path / "three.pt",
        tmp_path / "missing",
        tmp_path,
        Path("/dev/zero"),
        Path("/proc/self/status"),
        tmp_path / "pipe",
        tmp_path / "vast",
        sites.folder(A) / "identity.key",
        Path("~nobody-has-this-name/file"),
        Path("x" * 300),
    ]
    asked = play.joining()
    # No grid fits such noise, which shows once a model was made.
    for request in (asked, replace(asked, noise_multiplier=1e-6)):
        codes = {
            path.name: sites.ask(
                A, Kind.JOIN, request, door_settings(model__weights=str(path))
            ).code
            for path in paths
        }
        assert set(codes.values()) == {"training-bound"}, codes


def test_a_turn_with_rows_of_another_shape_or_value_pays_at_most_once(tmp_path: Path) -> None:
    from tests.door.split_play import SplitPlay

    play = started(tmp_path, **LAYERS)
    split = SplitPlay(play)
    assert split.forward(A, 1)
    size, width = split.shown[A, 1, 1, Kind.FORWARD]["activations"].shape
    codes = set()
    for rows in (
        np.zeros((0, 0), np.float32),
        np.zeros((size, 3), np.float32),
        np.zeros((size + 1, width), np.float32),
        np.full((size, width), "x"),
        np.zeros((size,), np.float32),
    ):
        answer = play.ask(A, Kind.HEAD, split.turn(1, features=rows))
        check_answer(answer)
        codes.add(answer.code)
    assert codes == {"malformed"}
    assert split.head(A, 1)
    assert play.sites.kinds(A).count("spend") == 1


def test_a_count_of_models_is_held_against_the_models_that_came(tmp_path: Path) -> None:
    play = started(tmp_path)
    content = one_of(play, Kind.EVALUATE_MODELS).content()
    content.config_records["config"]["models"] = 2**40
    began = time.monotonic()
    assert play.ask(A, Kind.EVALUATE_MODELS, content).code == "malformed"
    assert time.monotonic() - began < 10
