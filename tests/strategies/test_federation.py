"""The whole round in one process: what is sent, added, opened and refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict

from accounting.ledger import read_ledger
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, RoundReply, bytes_to_array
from clients.contract.settings import Settings
from clients.site.own_draws import OwnDraws
from crypto.keys import Keys
from strategies.errors import TrainingStopped
from tests.exchange_runs import model_bytes, read_json, recorded, run_app, terms_of
from tests.in_process import (
    FIRST_NODE,
    NODE_STEP,
    InProcessGrid,
    hospital_of,
    server_app,
    small_settings,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing:UserWarning",
)


def test_encrypted_and_unencrypted_sums_end_in_the_same_model(tmp_path: Path) -> None:
    models = []
    for scheme in ("bfv", "modular", "one-time"):
        settings = small_settings(tmp_path / scheme, sealing__scheme=scheme, privacy__dropouts=0)
        run_app(settings)
        models.append(model_bytes(settings))
    assert models[0] == models[1] == models[2]


def test_another_seed_ends_in_another_model(tmp_path: Path) -> None:
    models = []
    for seed in (7, 8):
        settings = small_settings(tmp_path / str(seed), run__seed=seed)
        run_app(settings)
        models.append(model_bytes(settings))
    assert models[0] != models[1]


def test_a_run_without_a_seed_never_repeats(tmp_path: Path) -> None:
    models = []
    for name in ("a", "b"):
        settings = small_settings(tmp_path / name, run__seed=-1, training__rounds=1)
        run_app(settings)
        models.append(model_bytes(settings))
    assert models[0] != models[1]


def test_the_server_sees_no_update_and_no_secret(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    grid = run_app(settings)
    sites = tmp_path / "sites"
    keys = [Keys.from_bytes(path.read_bytes()) for path in sites.glob("*/keys-*.bin")]
    assert len(keys) == 4
    secrets = {key.secret for key in keys} | {key.group_key for key in keys}
    secrets |= {path.read_bytes()[-32:] for path in sites.glob("*/identity.key")}
    assert len(secrets) == 1 + 1 + 4
    seen = b"".join(
        data
        for reply in [*grid.replies, *grid.requests]
        if reply.has_content()
        for record in reply.content.values()
        for data in _bytes_of(record)
    )
    assert len(seen) > 1e5
    for secret in secrets:
        pieces = [secret[i : i + 16] for i in range(0, len(secret) - 15, 16)]
        assert pieces
        assert not [piece for piece in pieces if any(piece) and piece in seen]


def _bytes_of(record: object) -> list[bytes]:
    if isinstance(record, ArrayRecord):
        return [array.data for array in record.values()]
    found: list[bytes] = []
    for value in record.values():  # type: ignore[attr-defined]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bytes):
                found.append(item)
    return found


def test_replies_carry_nothing_of_a_batch_where_data_are_not_public(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__public=False)
    grid = run_app(settings)
    replies = [r for r in grid.replies if r.metadata.message_type == Kind.TRAIN]
    assert len(replies) == 12
    sizes = set()
    for reply in replies:
        assert {k: dict(v) for k, v in reply.content.metric_records.items()} == {
            "metrics": {"num-examples": 1}
        }
        sizes.add(len(RoundReply.read(reply.content).sealed))
    assert len(sizes) == 1
    assert not any(m.metadata.message_type == "evaluate" for m in grid.requests)


def test_a_missing_hospital_stops_the_run_where_none_is_tolerated(tmp_path: Path) -> None:
    def silent_from_round_two(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.TRAIN and reply is None:
            round_ = message.content.config_records["config"]["server-round"]
            if round_ == 2 and hospital_of(message) == "hospital-02":
                return None
        return reply or message

    settings = small_settings(tmp_path, run__attempts=2)
    with pytest.raises(TrainingStopped, match=r"round 2 closed with 3 of 4.*hospital-02: unreach"):
        run_app(settings, silent_from_round_two)
    assert read_json(settings, "summary.json")["status"] == "stopped"
    assert read_json(settings, "summary.json")["rounds"] == 1
    privacy = read_json(settings, "privacy.json")
    # Both attempts of round 2 were paid for, though neither was opened.
    assert [(e["round"], e["attempt"]) for e in privacy["ledger"]] == [(1, 1), (2, 1), (2, 2)]
    # Its noise multiplier was given, so that no target is promised to anybody.
    assert settings.privacy.target_epsilon == 0 and len(privacy["observers"]) > 2
    assert not any(row["binds_target"] for row in privacy["observers"])


def test_a_tolerated_dropout_leaves_the_claim_at_the_floor(tmp_path: Path) -> None:
    def one_silent(message: Message, reply: Message | None) -> Message | None:
        silent = (
            message.metadata.message_type == Kind.TRAIN and hospital_of(message) == "hospital-01"
        )
        return None if silent and reply is None else (reply or message)

    settings = small_settings(tmp_path, privacy__dropouts=1)
    run_app(settings, one_silent)
    assert read_json(settings, "summary.json")["status"] == "finished"
    assert [row["contributions"] for row in recorded(settings, "round")] == [3, 3, 3]
    undisturbed = small_settings(tmp_path / "all", privacy__dropouts=1)
    run_app(undisturbed)
    assert (
        read_json(settings, "summary.json")["epsilon"]
        == read_json(undisturbed, "summary.json")["epsilon"]
    )


def test_an_exception_at_a_hospital_reaches_the_server_as_a_code_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: object, *_: object) -> None:
        raise RuntimeError("patient 4711 has a tumour of 3.2 cm")

    monkeypatch.setattr(OwnDraws, "_sample", explode)
    settings = small_settings(tmp_path, run__attempts=1)
    with pytest.raises(TrainingStopped, match="hospital-00: internal"):
        run_app(settings)
    grid = run_app.grid  # type: ignore[attr-defined]
    for reply in grid.replies:
        assert "tumour" not in repr(reply)
    for file in tmp_path.glob("*.json*"):
        assert "tumour" not in file.read_text()
    assert "tumour" in (tmp_path / "sites" / "hospital-00" / "hospital.log").read_text()


def test_a_hospital_spends_before_it_touches_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: object, *_: object) -> None:
        raise RuntimeError("died while reading")

    monkeypatch.setattr(OwnDraws, "_sample", explode)
    settings = small_settings(tmp_path, run__attempts=2)
    with pytest.raises(TrainingStopped):
        run_app(settings)
    paid = read_ledger(tmp_path / "sites" / "hospital-03" / "ledger.jsonl").entries
    assert [(entry.round, entry.attempt) for entry in paid] == [(1, 1), (1, 2)]


def hospital_of_reply(reply: Message) -> str:
    """The simulated hospital that a reply is from."""
    return f"hospital-{(reply.metadata.src_node_id - FIRST_NODE) // NODE_STEP:02d}"


def test_the_server_refuses_to_start_an_attempt_beyond_the_target(tmp_path: Path) -> None:
    def one_silent(message: Message, reply: Message | None) -> Message | None:
        silent = (
            message.metadata.message_type == Kind.TRAIN and hospital_of(message) == "hospital-01"
        )
        return None if silent and reply is None else (reply or message)

    settings = small_settings(
        tmp_path,
        privacy__noise_multiplier=0.0,
        privacy__target_epsilon=1.0,
        training__rounds=1,
        run__attempts=5,
        run__seed=-1,
    )
    with pytest.raises(TrainingStopped, match=r"beyond privacy.target-epsilon = 1"):
        run_app(settings, one_silent)
    assert read_json(settings, "summary.json")["epsilon"]["prv"] <= 1.0


def test_spare_attempts_are_planned_for_and_no_more_are_made(tmp_path: Path) -> None:
    """A retry that the noise was planned for stays within the target; the next is not made."""
    lost = [2]

    def silent_twice(message: Message, reply: Message | None) -> Message | None:
        asked = message.metadata.message_type == Kind.TRAIN and reply is None
        if asked and hospital_of(message) == "hospital-01" and lost[0] > 0:
            lost[0] -= 1
            return None
        return reply or message

    target = {"privacy__noise_multiplier": 0.0, "privacy__target_epsilon": 1.0}
    spare = {**target, "privacy__spare_attempts": 1, "training__rounds": 2, "run__seed": -1}
    settings = small_settings(tmp_path / "spare", **spare)
    run_app(settings, silent_twice)
    found = read_json(settings, "summary.json")
    assert (found["status"], found["rounds"]) == ("finished", 2)
    assert found["epsilon"]["prv"] <= 1.0
    assert read_json(settings, "privacy.json")["rounds_spent"] == 3
    plain = small_settings(tmp_path / "plain", **{**spare, "privacy__spare_attempts": -1})
    run_app(plain)
    # Negative control: what is planned for is paid for with noise.
    assert read_json(plain, "summary.json")["noise_multiplier"] < found["noise_multiplier"]
    lost[0] = 4
    again = small_settings(tmp_path / "again", **spare)
    run_app(again, silent_twice)
    assert read_json(again, "summary.json")["rounds"] == 1
    assert "beyond privacy.target-epsilon" in recorded(again, "end")[0]["message"]


def test_a_lost_reply_is_sent_again_and_costs_nothing(tmp_path: Path) -> None:
    lost = []

    def lose_one(message: Message, reply: Message | None) -> Message | None:
        answered = message.metadata.message_type == Kind.TRAIN and reply is not None
        if answered and hospital_of(message) == "hospital-02" and not lost:
            lost.append(RoundReply.read(reply.content).sealed)
            return None
        return reply or message

    whole, settings = small_settings(tmp_path / "whole"), small_settings(tmp_path / "lost")
    run_app(whole)
    grid = run_app(settings, lose_one)
    [first, *_] = [
        RoundReply.read(r.content).sealed
        for r in grid.replies
        if r.metadata.message_type == Kind.TRAIN and hospital_of_reply(r) == "hospital-02"
    ]
    assert lost == [first]
    assert model_bytes(settings) == model_bytes(whole)
    assert read_json(settings, "privacy.json")["rounds_spent"] == 3
    assert len(read_ledger(tmp_path / "lost/sites/hospital-02/ledger.jsonl").entries) == 3


def test_a_leader_that_dies_in_the_ceremony_is_replaced(tmp_path: Path) -> None:
    def first_leader_is_dead(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.LEAD and hospital_of(message) == "hospital-00":
            return None
        return reply or message

    settings = small_settings(tmp_path)
    run_app(settings, first_leader_is_dead)
    assert read_json(settings, "summary.json")["status"] == "finished"


def test_a_hospital_whose_process_lost_everything_catches_up(tmp_path: Path) -> None:
    """The replica of every process is dropped before round 3: snapshot and sums bring it back."""
    reference = small_settings(tmp_path / "reference", training__rounds=5, run__snapshot_every=2)
    run_app(reference)

    def forget(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.TRAIN and reply is None:
            round_ = message.content.config_records["config"]["server-round"]
            if round_ == 4 and hospital_of(message) == "hospital-02":
                run_app.grid.start_processes()  # type: ignore[attr-defined]
        return reply or message

    settings = small_settings(tmp_path / "lossy", training__rounds=5, run__snapshot_every=2)
    run_app(settings, forget)
    assert model_bytes(settings) == model_bytes(reference)


def test_a_tampered_update_is_refused_by_name_and_not_added(tmp_path: Path) -> None:
    def flip_a_bit(message: Message, reply: Message | None) -> Message | None:
        if reply is None:
            return message
        if message.metadata.message_type == Kind.TRAIN and hospital_of(message) == "hospital-03":
            arrays = reply.content.array_records[ARRAYS]
            data = bytearray(arrays["sealed"].data)
            data[len(data) // 2] ^= 1
            arrays["sealed"] = bytes_to_array(bytes(data))
        return reply

    settings = small_settings(tmp_path, run__attempts=1)
    with pytest.raises(TrainingStopped, match="hospital-03: payload-mismatch"):
        run_app(settings, flip_a_bit)


def test_too_few_nodes_is_said_at_once(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    config = settings.to_config()
    grid = InProcessGrid(config, nodes=3)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with pytest.raises(TrainingStopped, match="3 of 4 hospitals joined"):
        server_app(grid, context)


def opened_sums(settings: Settings, grid: InProcessGrid) -> list[np.ndarray]:
    """What was opened in each round but the last two, by the steps between released models."""
    assert settings.training.momentum == 0
    assert settings.training.release_every == 1
    replies = [r for r in grid.replies if r.metadata.message_type == Kind.TRAIN]
    released = [RoundReply.read(reply.content).model for reply in replies]
    models = [
        np.concatenate([tensor.numpy().ravel().astype(np.float64) for tensor in model.values()])
        for model in released
        if model
    ]
    start = np.zeros_like(models[0])  # where logistic regression begins
    scale = terms_of(settings).denominator / settings.training.learning_rate
    return [(before - after) * scale for before, after in pairwise([start, *models])]


def test_shares_of_noise_add_up_to_the_central_noise(tmp_path: Path) -> None:
    """With q so small that batches are empty, an opened sum is noise alone."""
    stds = {}
    for regime in ("FSCDP", "FPDP"):
        settings = small_settings(
            tmp_path / regime,
            privacy__regime=regime,
            privacy__noise_multiplier=3.0,
            training__sampling_rate=1e-9,
            training__rounds=42,
            training__momentum=0.0,
            training__learning_rate=1e-9 * 455,
            training__release_every=1,
            sealing__scheme="modular",
        )
        opened = opened_sums(settings, run_app(settings))
        assert len(opened) == 40
        stds[regime] = np.std(np.concatenate(opened))
    # 40 rounds of 62 values: the standard error of a standard deviation is 1.4 per cent.
    assert stds["FSCDP"] == pytest.approx(3.0, rel=0.06)
    # Negative control: local noise is sqrt(K) = 2 times as much, so the test can fail.
    assert stds["FPDP"] == pytest.approx(6.0, rel=0.06)


def test_a_model_without_noise_is_released_after_the_last_round_only(tmp_path: Path) -> None:
    """Sealed, exact sums: a server that asks for the model on the way gets none."""

    def impatient(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.TRAIN and reply is None:
            message.content.config_records["config"]["release-from"] = hospital_of(message)
        return reply or message

    def models(**changes: object) -> set[str]:
        name = "".join(map(str, changes.values())) or "exact"
        settings = small_settings(tmp_path / name, training__rounds=5, **changes)
        grid = run_app(settings, impatient)
        assert (tmp_path / name / "model.safetensors").exists()
        answers = [r for r in grid.replies if r.metadata.message_type in (Kind.TRAIN, Kind.RELEASE)]
        with_model = [r for r in answers if RoundReply.read(r.content).model]
        return {r.metadata.message_type for r in with_model}

    exact = {"privacy__regime": "F", "data__public": False}
    assert models(**exact) == {Kind.RELEASE}
    # Negative control: with noise, or public data, the very same server gets them.
    assert models(data__public=False) == {Kind.TRAIN, Kind.RELEASE}


def test_a_model_opened_from_ckks_stays_at_the_hospitals(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, privacy__regime="F", sealing__scheme="ckks")
    run_app(settings)
    assert not (tmp_path / "model.safetensors").exists()
    assert "leaks" in recorded(settings, "end")[-1]["message"]
