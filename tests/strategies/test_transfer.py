"""Weight transfer and ensembles: who is visited, what the server sees, what it costs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message

from accounting.accountants import epsilon
from accounting.events import GaussianEvent
from accounting.ledger import read_ledger
from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS, bytes_to_array, message_bytes
from clients.contract.visit_messages import Carried
from clients.data import Cohorts
from clients.learning.visits import send_on, take_over
from clients.learning.votes import decide_together
from clients.models import build_model
from clients.tasks.evaluation import evaluate
from crypto.errors import SealingError
from crypto.identity import Identity
from crypto.keys import Keys
from crypto.roles import Place
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
from tests.in_process import Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: Three hospitals that a model visits with local noise.
VISITED = {
    "privacy__regime": "FPDP",
    "exchange__name": "cyclic",
    "partition__hospitals": 3,
    "training__rounds": 4,
    "training__release_every": 100,
}


def silent(hospital: str, times: int = 10**9) -> Meddle:
    """A hospital whose node does not answer the first so many visits."""
    left = [times]

    def meddle(message: Message, reply: Message | None) -> Message | None:
        asked = message.metadata.message_type == Kind.VISIT and hospital_of(message) == hospital
        if asked and reply is None and left[0] > 0:
            left[0] -= 1
            return None
        return reply or message

    return meddle


def visits_of(grid) -> list[str]:
    return [hospital_of(m) for m in grid.requests if m.metadata.message_type == Kind.VISIT]


def test_one_cycle_is_a_single_transfer(tmp_path: Path) -> None:
    cyclic = trained(tmp_path / "cyclic", **VISITED)
    single = trained(tmp_path / "single", **{**VISITED, "exchange__name": "single"})
    twice = trained(tmp_path / "twice", **{**VISITED, "exchange__cycles": 2})
    assert distance(cyclic, single) == 0
    assert distance(cyclic, twice) > 1e-3


@pytest.mark.parametrize("exchange", ["single", "ensemble"])
def test_one_hospital_alone_gets_the_model_of_shared_gradients(
    tmp_path: Path, exchange: str
) -> None:
    gradients = trained(tmp_path / "gradients", **ALONE)
    model = trained(tmp_path / exchange, **{**ALONE, "exchange__name": exchange})
    model = {name.removeprefix("hospital-00/"): tensor for name, tensor in model.items()}
    assert distance(model, gradients) < 1e-5


def test_cycles_share_the_rounds_and_a_patient_pays_for_all_steps_at_home(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **{**VISITED, "exchange__cycles": 3})
    grid = run_app(settings)
    assert visits_of(grid) == [f"hospital-{k:02d}" for k in (0, 1, 2)] * 3
    steps = [
        m.content.config_records["config"]["steps"]
        for m in grid.requests
        if m.metadata.message_type == Kind.VISIT
    ]
    assert steps == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    expected = epsilon(
        [GaussianEvent(sampling_rate=0.2, noise_multiplier=2.0, count=4)], 1e-4, "rdp"
    )
    privacy = read_json(settings, "privacy.json")
    server = next(row for row in privacy["observers"] if row["observer"] == "server")
    assert server["epsilon"]["rdp"] == pytest.approx(expected, rel=1e-3)
    assert privacy["rounds_spent"] == 4
    for name in ("hospital-00", "hospital-01", "hospital-02"):
        entries = read_ledger(tmp_path / "sites" / name / "ledger.jsonl").entries
        assert sum(entry.event.count for entry in entries) == 4
    assert read_json(settings, "summary.json")["rounds"] == 9


def test_a_random_order_visits_everybody_once_a_cycle(tmp_path: Path) -> None:
    changes = {**VISITED, "exchange__cycles": 4, "exchange__order": "random"}
    grid = run_app(small_settings(tmp_path, **changes))
    order = visits_of(grid)
    cycles = [tuple(order[k : k + 3]) for k in range(0, 12, 3)]
    assert all(len(set(cycle)) == 3 for cycle in cycles)
    assert len(set(cycles)) > 1


def test_an_absent_hospital_is_skipped_and_said(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)
    run_app(settings, silent("hospital-01"))
    assert read_json(settings, "summary.json")["status"] == "finished"
    [fault] = recorded(settings, "fault")
    assert (fault["hospital"], fault["code"]) == ("hospital-01", "unreachable")
    assert "hospital-01 at visit 2 (unreachable)" in recorded(settings, "end")[0]["message"]
    assert model_of(settings)


def test_a_model_is_released_by_another_when_the_last_hospital_is_absent(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)
    run_app(settings, silent("hospital-02"))
    assert recorded(settings, "release")[-1]["round"] == 2


@pytest.mark.parametrize(("times", "paid"), [(1, 4), (2, 8)])
def test_an_absent_hospital_is_waited_for_where_that_is_set(
    tmp_path: Path, times: int, paid: int
) -> None:
    """It is asked once more at the same place, for nothing, before another attempt is paid for."""
    changes = {**VISITED, "exchange__absent": "wait", "run__seed": -1}
    settings = small_settings(tmp_path, **changes)
    grid = run_app(settings, silent("hospital-01", times=times))
    assert visits_of(grid) == [
        "hospital-00",
        *["hospital-01"] * (times + 1),
        "hospital-02",
    ]
    # A lost attempt stays paid: the hospital may have trained before its reply was lost.
    assert read_json(settings, "privacy.json")["rounds_spent"] == paid


def test_waiting_ends_with_a_message_that_names_the_way_out(tmp_path: Path) -> None:
    settings = small_settings(
        tmp_path, **{**VISITED, "exchange__absent": "wait", "run__attempts": 2}
    )
    with pytest.raises(TrainingStopped, match=r"visit 2: hospital-01 .*exchange.absent = skip"):
        run_app(settings, silent("hospital-01"))
    assert read_json(settings, "summary.json")["rounds"] == 1


def test_a_run_goes_on_at_the_visit_that_comes_next(tmp_path: Path) -> None:
    whole = small_settings(tmp_path / "whole", **VISITED)
    run_app(whole)
    settings = small_settings(
        tmp_path / "halves", **{**VISITED, "exchange__absent": "wait", "run__attempts": 1}
    )
    with pytest.raises(TrainingStopped):
        run_app(settings, silent("hospital-01"))
    grid = run_app(settings)
    assert visits_of(grid) == ["hospital-01", "hospital-02"]
    assert distance(model_of(settings), model_of(whole)) == 0


def test_the_server_carries_a_model_that_it_cannot_read(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **VISITED)
    grid = run_app(settings)
    released = np.concatenate([t.ravel() for t in model_of(settings).values()])
    replies = [r for r in grid.replies if r.metadata.message_type == Kind.VISIT]
    arrays = [dict(reply.content.array_records[ARRAYS]) for reply in replies]
    assert [sorted(a) for a in arrays[:2]] == [["envelope", "header"]] * 2
    values = [np.frombuffer(a["envelope"].data[36:-16], dtype=np.float32) for a in arrays]
    assert {len(v) for v in values} == {len(released)}
    # Weights of this model are of order one; ciphertext read as floats is of every order.
    assert all(np.nanmax(np.abs(v[np.isfinite(v)])) > 1e20 for v in values)
    groups = {
        Keys.from_bytes(path.read_bytes()).group_key
        for path in (tmp_path / "sites").glob("*/keys-*.bin")
    }
    assert len(groups) == 1
    seen = b"".join(
        array.data
        for message in [*grid.requests, *grid.replies]
        for record in message.content.array_records.values()
        for array in record.values()
    )
    assert groups.pop() not in seen


@pytest.mark.parametrize(("exchange", "visit"), [("cyclic", 2), ("single", 1)])
def test_an_exact_model_is_released_at_the_end_only(
    tmp_path: Path, exchange: str, visit: int
) -> None:
    """Without noise it would show what a single hospital taught it."""

    def impatient(message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.VISIT and reply is None:
            config = message.content.config_records["config"]
            config["release"] = config["release"] or config["visit"] == visit
        return reply or message

    exact = {"privacy__regime": "F", "privacy__noise_multiplier": 0.0, "data__public": False}
    changes = {**VISITED, **exact, "exchange__name": exchange, "exchange__absent": "wait"}
    changes |= {"run__attempts": 1}
    settings = small_settings(tmp_path / "impatient", **changes)
    with pytest.raises(TrainingStopped, match=rf"visit {visit}: .*release-refused"):
        run_app(settings, impatient)
    assert not (tmp_path / "impatient" / "model.safetensors").exists()
    assert trained(tmp_path / "patient", **changes)


def test_a_changed_model_is_refused_by_name(tmp_path: Path) -> None:
    def change(message: Message, reply: Message | None) -> Message | None:
        if reply is not None and message.metadata.message_type == Kind.VISIT:
            arrays = reply.content.array_records[ARRAYS]
            if hospital_of(message) == "hospital-01":
                data = bytearray(arrays["envelope"].data)
                data[50] ^= 1
                reply.content[ARRAYS] = ArrayRecord(
                    {**arrays, "envelope": bytes_to_array(bytes(data))}
                )
        return reply or message

    settings = small_settings(tmp_path, **VISITED)
    run_app(settings, change)
    [fault] = recorded(settings, "fault")
    assert (fault["hospital"], fault["code"]) == ("hospital-01", "payload-mismatch")


def test_a_model_opens_only_for_its_training_and_a_later_visit() -> None:
    identity, key = Identity.generate(), bytes(32)
    place = Place(training="t", round=3, attempt=1)
    vector = np.arange(5.0)
    carried = send_on(
        vector,
        place=place,
        previous=Carried(),
        parameter_id="0" * 64,
        group_key=key,
        sender="a",
        identity=identity,
        bind=bytes(32),
        witness={},
    )
    whole = {
        "training": "t",
        "before": 4,
        "dimensions": 5,
        "group_key": key,
        "public_keys": {"a": identity.public},
        "bind": bytes(32),
    }
    assert np.array_equal(take_over(carried, **whole), vector)  # type: ignore[arg-type]
    stranger = {"a": Identity.generate().public}
    for wrong in (
        {"training": "u"},
        {"before": 3},
        {"dimensions": 6},
        {"bind": bytes([1] * 32)},
        {"group_key": bytes([1] * 32)},
        {"public_keys": stranger},
    ):
        with pytest.raises(Exception, match=r".") as caught:
            take_over(carried, **{**whole, **wrong})  # type: ignore[arg-type]
        assert isinstance(caught.value, SealingError) or hasattr(caught.value, "code")


@pytest.mark.parametrize(
    ("exchange", "scheme"),
    [("gradients", "bfv"), ("weights", "bfv"), ("cyclic", "aead"), ("single", "aead"),
     ("ensemble", "none")],
)  # fmt: skip
def test_the_summary_says_how_much_was_really_sent_and_how_it_was_sealed(
    tmp_path: Path, exchange: str, scheme: str
) -> None:
    settings = small_settings(tmp_path, **{**VISITED, "exchange__name": exchange})
    grid = run_app(settings)
    summary = read_json(settings, "summary.json")
    assert summary["scheme"] == recorded(settings, "start")[0]["scheme"] == scheme
    # All but the word that it is over, which comes when the summary is written.
    down, up = (
        sum(message_bytes(m.content) for m in sent if m.metadata.message_type != Kind.END)
        for sent in (grid.requests, grid.replies)
    )
    assert (summary["downlink_bytes_total"], summary["uplink_bytes_total"]) == (down, up)
    last = recorded(settings, "round")[-1]
    assert 0 < last["uplink_bytes_total"] <= summary["uplink_bytes_total"]


@pytest.mark.parametrize("vote", ["probabilities", "majority"])
def test_an_ensemble_decides_by_all_its_models(tmp_path: Path, vote: str) -> None:
    changes = {**VISITED, "exchange__name": "ensemble", "exchange__vote": vote}
    settings = small_settings(tmp_path, **changes)
    run_app(settings)
    tensors = model_of(settings)
    cohort = Cohorts().of(settings)
    module = build_model(settings, cohort.info, 7)
    logits = []
    for name in cohort.names:
        own = {
            key.removeprefix(f"{name}/"): torch.tensor(value)
            for key, value in tensors.items()
            if key.startswith(f"{name}/")
        }
        module.load_state_dict(own)
        with torch.no_grad():
            logits.append(module(torch.as_tensor(np.asarray(cohort.holdout.inputs))).numpy())
    assert len(logits) == 3
    shares = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
    if vote == "majority":
        shares = [np.eye(2)[share.argmax(axis=1)] for share in shares]
    decided = np.mean(shares, axis=0).argmax(axis=1)
    accuracy = float((decided == cohort.holdout.labels).mean())
    summary = read_json(settings, "summary.json")
    assert summary["accuracy"] == pytest.approx(accuracy)
    assert summary["hospital_accuracy"].keys() == set(cohort.names)
    assert read_json(settings, "privacy.json")["rounds_spent"] == 4


def test_an_ensemble_goes_on_without_a_hospital_and_says_so(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, **{**VISITED, "exchange__name": "ensemble"})
    run_app(settings, silent("hospital-02"))
    assert re.search("hospital-02: unreachable", recorded(settings, "end")[0]["message"])
    assert {name.split("/")[0] for name in model_of(settings)} == {"hospital-00", "hospital-01"}


def test_an_ensemble_waits_where_that_is_set(tmp_path: Path) -> None:
    changes = {**VISITED, "exchange__name": "ensemble", "exchange__absent": "wait"}
    settings = small_settings(tmp_path, **changes)
    grid = run_app(settings, silent("hospital-02", times=1))
    assert visits_of(grid).count("hospital-02") == 2
    assert visits_of(grid).count("hospital-00") == 1


def test_an_ensemble_that_goes_on_asks_for_the_missing_models_only(tmp_path: Path) -> None:
    changes = {**VISITED, "exchange__name": "ensemble", "exchange__absent": "wait"}
    whole = small_settings(tmp_path / "whole", **changes)
    run_app(whole)
    settings = small_settings(tmp_path / "halves", **changes, run__attempts=1)
    with pytest.raises(TrainingStopped, match="2 of 3 hospitals trained a model"):
        run_app(settings, silent("hospital-01"))
    grid = run_app(settings)
    assert visits_of(grid) == ["hospital-01"]
    assert distance(model_of(settings), model_of(whole)) == 0
    summaries = [read_json(one, "summary.json") for one in (settings, whole)]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    for name in ("hospital-00", "hospital-02"):
        entries = read_ledger(tmp_path / "halves" / "sites" / name / "ledger.jsonl").entries
        assert sum(entry.event.count for entry in entries) == 4
    with pytest.raises(TrainingStopped, match="training-retired"):
        run_app(settings)  # it is over, for ever


def test_a_majority_outvotes_the_sure_one() -> None:
    sure, unsure = np.array([[9.0, 0.0]]), np.array([[0.0, 0.1]])
    labels = np.array([1])
    logits = [sure, unsure, unsure]
    assert evaluate(decide_together(logits, "majority"), labels)["accuracy"] == 1.0
    assert evaluate(decide_together(logits, "probabilities"), labels)["accuracy"] == 0.0
    assert np.isfinite(decide_together(logits, "majority")).all()
