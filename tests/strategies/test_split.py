"""Split learning: the pooled step without noise, and what the server sees with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

from accounting.accountants import epsilon
from accounting.events import GaussianEvent
from accounting.ledger import read_ledger
from clients.contract.kinds import Kind
from clients.contract.layer_messages import (
    ACTIVATIONS,
    FEATURE_GRADIENTS,
    FEATURES,
    arrays_of,
    with_arrays,
)
from clients.contract.messages import message_bytes
from clients.contract.settings import Settings, SettingsError
from clients.data import Records
from clients.learning.split_ends import clip_rows
from clients.site.own_draws import OwnDraws
from strategies.errors import TrainingStopped
from tests.exchange_runs import (
    ALONE,
    distance,
    model_of,
    read_json,
    recorded,
    run_app,
    trained,
)
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SPLIT = {"exchange__name": "layers"}
#: Two hospitals whose single messages are noised.
NOISED = {
    **SPLIT,
    "privacy__regime": "FPDP",
    "model__name": "mlp",
    "partition__hospitals": 2,
    "training__sampling_rate": 0.5,
    "training__rounds": 3,
}


@pytest.mark.parametrize(
    ("cut", "labels"),
    [
        *[(cut, "home") for cut in ("", "centre", "flatten", "hidden", "act")],
        *[(cut, "server") for cut in ("hidden", "act")],
    ],
)
def test_a_model_cut_anywhere_is_the_model_of_shared_gradients(
    tmp_path: Path, plainest: dict[str, np.ndarray], cut: str, labels: str
) -> None:
    changes = {**ALONE, **SPLIT, "exchange__cut": cut, "exchange__labels": labels}
    assert distance(trained(tmp_path, **changes), plainest) < 1e-6


def test_a_convolutional_net_cut_in_its_middle_is_the_same_one(tmp_path: Path) -> None:
    pictures = {"data__name": "digits", "model__name": "cnn", "training__rounds": 1}
    whole = trained(tmp_path / "whole", **{**ALONE, **pictures})
    cut = trained(tmp_path / "cut", **{**ALONE, **pictures, **SPLIT, "exchange__cut": "norm2"})
    assert distance(whole, cut) < 1e-5


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_both_sides_step_by_the_same_optimizer(tmp_path: Path, optimizer: str) -> None:
    changes = {**ALONE, "exchange__optimizer": optimizer, "training__learning_rate": 0.01}
    whole = trained(tmp_path / "whole", **changes)
    cut = trained(tmp_path / "cut", **{**changes, **SPLIT, "exchange__cut": "flatten"})
    assert distance(whole, cut) < 1e-5


def test_several_hospitals_sealed_end_in_the_model_of_shared_gradients(tmp_path: Path) -> None:
    changes = {
        **ALONE,
        "partition__hospitals": 3,
        "sealing__scheme": "bfv",
        "training__release_every": 1,
    }
    whole = small_settings(tmp_path / "whole", **changes)
    run_app(whole)
    cut = small_settings(tmp_path / "cut", **{**changes, **SPLIT, "exchange__cut": "flatten"})
    run_app(cut)
    assert distance(model_of(whole), model_of(cut)) < 1e-3
    # Released on the way, too, the model's parts are of one round.
    for one, other in zip(recorded(whole, "release"), recorded(cut, "release"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"exchange__cut": "hiden"}, "centre, flatten, hidden, act"),
        ({"exchange__cut": "head"}, "centre, flatten, hidden, act"),
        ({"exchange__cut": "flatten", "exchange__labels": "server"}, "those are hidden, act"),
        ({"model__name": "logistic", "exchange__cut": "hidden"}, "those are centre, flatten"),
        ({"model__name": "logistic", "exchange__labels": "server"}, "none to learn"),
    ],
)
def test_an_unknown_cut_lists_the_layers_that_there_are(
    tmp_path: Path, changes: dict[str, object], names: str
) -> None:
    with pytest.raises(SettingsError, match=names):
        run_app(small_settings(tmp_path, **{**ALONE, **SPLIT, **changes}))


def test_labels_that_leave_a_hospital_are_refused_where_privacy_is_promised() -> None:
    with pytest.raises(SettingsError, match="a label that is sent"):
        Settings.from_config(
            {"exchange.name": "layers", "exchange.labels": "server", "privacy.regime": "FPDP"}
        )


def test_three_messages_a_pass_are_paid_for_without_amplification(tmp_path: Path) -> None:
    """q = 0.5 deals patients to two batches: three rounds are two passes."""
    settings = small_settings(tmp_path, **NOISED)
    run_app(settings)
    expected = epsilon(
        [GaussianEvent(sampling_rate=1.0, noise_multiplier=2.0, count=6)], 1e-4, "rdp"
    )
    privacy = read_json(settings, "privacy.json")
    server = next(row for row in privacy["observers"] if row["observer"] == "server")
    assert server["epsilon"]["rdp"] == pytest.approx(expected, rel=5e-3)
    for name in ("hospital-00", "hospital-01"):
        entries = read_ledger(tmp_path / "sites" / name / "ledger.jsonl").entries
        assert [entry.round for entry in entries] == [1, 3]
        assert sum(entry.event.count for entry in entries) == 6


def noise_seen(path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> dict[str, float]:
    """Standard deviations of what the server sees when there is nothing but padding."""
    everybody = OwnDraws.records

    def nobody(self: OwnDraws) -> Records:
        return everybody(self).take(np.zeros(0, dtype=np.int64))

    monkeypatch.setattr(OwnDraws, "records", nobody)
    settings = small_settings(path, **{**NOISED, **changes})
    grid = run_app(settings)
    seen: dict[str, list[np.ndarray]] = {ACTIVATIONS: [], FEATURE_GRADIENTS: []}
    for reply in grid.replies:
        if reply.metadata.message_type in (Kind.FORWARD, Kind.HEAD):
            for name, values in arrays_of(reply.content).items():
                seen[name].append(values.ravel())
    return {name: float(np.std(np.concatenate(values))) for name, values in seen.items()}


def test_every_message_carries_the_whole_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = noise_seen(tmp_path, monkeypatch, privacy__l2_clip=1.0)
    # Thousands of values: the standard error of a standard deviation is below one per cent.
    assert seen[ACTIVATIONS] == pytest.approx(2.0, rel=0.03)
    assert seen[FEATURE_GRADIENTS] == pytest.approx(2.0, rel=0.03)


def test_messages_have_a_public_size_and_say_nothing_else(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **{**NOISED, "data__public": False})
    grid = run_app(settings)
    by_hospital: dict[tuple[str, int], set] = {}
    for reply in grid.replies:
        if reply.metadata.message_type in (Kind.FORWARD, Kind.HEAD, Kind.BACKWARD):
            arrays = arrays_of(reply.content)
            assert arrays.keys() <= {ACTIVATIONS, FEATURE_GRADIENTS}
            key = (reply.metadata.message_type, reply.metadata.src_node_id)
            shapes = {(name, value.shape) for name, value in arrays.items()}
            by_hospital.setdefault(key, set()).update(shapes)
    assert len(by_hospital) == 6
    assert all(len(shapes) <= 1 for shapes in by_hospital.values())


def test_a_row_is_clipped_whatever_it_holds() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [float("nan"), 1.0], [float("inf"), 0.0]])
    clipped = clip_rows(rows, 1.0).norm(dim=1)
    assert clipped.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=2e-5)
    assert bool((clipped <= 1.0).all())


def test_a_turn_is_not_taken_twice(tmp_path: Path) -> None:
    """A server that asks for a second noised answer about one batch gets the first once more."""
    asked: list[Message] = []

    def ask_again(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.HEAD and reply is not None and not asked:
            asked.append(message)
            changed = arrays_of(message.content)
            changed[FEATURES] = changed[FEATURES] + 1
            other = Message(
                with_arrays(RecordDict(dict(message.content)), changed),
                message.metadata.dst_node_id,
                message.metadata.message_type,
            )
            again = run_app.grid.answer_of_hospital(other)  # type: ignore[attr-defined]
            first, second = (arrays_of(one.content) for one in (reply, again))
            assert np.array_equal(first[FEATURE_GRADIENTS], second[FEATURE_GRADIENTS])
        return reply or message

    settings = small_settings(tmp_path, **NOISED)
    run_app(settings, ask_again)
    assert asked
    entries = read_ledger(tmp_path / "sites" / "hospital-00" / "ledger.jsonl").entries
    assert sum(entry.event.count for entry in entries) == 6


def test_a_hospital_that_is_gone_between_turns_leaves_the_rest(tmp_path: Path) -> None:
    def gone_at_its_head(message: Message, reply: Message | None) -> Message | None:
        gone = message.metadata.message_type == Kind.HEAD and message.metadata.dst_node_id == 1007
        return None if gone and reply is None else (reply or message)

    changes = {**NOISED, "partition__hospitals": 3, "privacy__dropouts": 1}
    settings = small_settings(tmp_path, **changes)
    run_app(settings, gone_at_its_head)
    assert [row["contributions"] for row in recorded(settings, "round")] == [2, 2, 2]
    strict = small_settings(tmp_path / "strict", **{**changes, "privacy__dropouts": 0})
    with pytest.raises(TrainingStopped, match="hospital-01: unreachable"):
        run_app(strict, gone_at_its_head)


def test_a_stopped_run_goes_on_with_both_parts(tmp_path: Path) -> None:
    changes = {**NOISED, "run__attempts": 2, "exchange__optimizer": "adam"}
    whole = small_settings(tmp_path / "whole", **changes)
    run_app(whole)

    def gone_in_round_two(message: Message, reply: Message | None) -> Message | None:
        config = message.content.config_records["config"]
        gone = message.metadata.message_type == Kind.BACKWARD and config["server-round"] == 2
        return None if gone and reply is None else (reply or message)

    settings = small_settings(tmp_path / "halves", **changes)
    with pytest.raises(TrainingStopped):
        run_app(settings, gone_in_round_two)
    run_app(settings)
    assert distance(model_of(settings), model_of(whole)) == 0


def test_bytes_are_those_really_sent(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **NOISED)
    grid = run_app(settings)
    summary = read_json(settings, "summary.json")
    # What says that the results are on disk comes after them.
    up, down = (
        sum(message_bytes(one.content) for one in sent if one.metadata.message_type != Kind.END)
        for sent in (grid.replies, grid.requests)
    )
    assert (summary["uplink_bytes_total"], summary["downlink_bytes_total"]) == (up, down)
