"""A training that was stopped goes on where it was: the same model, and nothing paid twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from flwr.app import Message

from clients.contract.kinds import Kind
from clients.contract.settings import Settings
from clients.prediction.artefact import read_artefact
from clients.site.contributing import Contributing
from clients.site.door import TURNS
from strategies.errors import TrainingStopped
from strategies.predictors import ITERATES
from strategies.run.events import is_finished
from strategies.run.journal import Journal
from strategies.run.state import state_so_far
from tests.exchange_runs import model_bytes, read_json, recorded, run_app
from tests.in_process import hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class KilledAt:
    """Ends the server in the middle of a round, as a signal would."""

    def __init__(self, round_: int) -> None:
        self._round = round_

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type == Kind.TRAIN and reply is not None:
            config = message.content.config_records["config"]
            if config["server-round"] == self._round and hospital_of(message) == "hospital-01":
                raise KeyboardInterrupt
        return reply or message


@pytest.mark.parametrize("snapshot_every", [2, 50])
def test_a_resumed_seeded_run_ends_in_the_model_of_an_uninterrupted_one(
    tmp_path: Path, snapshot_every: int
) -> None:
    options = {"training__rounds": 6, "training__release_every": 2}
    options["run__snapshot_every"] = snapshot_every
    reference = small_settings(tmp_path / "reference", **options)
    run_app(reference)
    settings = small_settings(tmp_path / "killed", **options)
    for round_ in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            run_app(settings, KilledAt(round_))
        assert read_json(settings, "summary.json")["status"] == "interrupted"
        assert not is_finished(tmp_path / "killed")
    run_app(settings)
    assert is_finished(tmp_path / "killed")
    assert model_bytes(settings) == model_bytes(reference)
    assert read_json(settings, "summary.json")["rounds"] == 6
    # Rounds 3 and 4 were begun twice; what follows from a seed is no other attempt.
    rounds = [e["round"] for e in read_json(settings, "privacy.json")["ledger"]]
    assert rounds == [1, 2, 3, 4, 5, 6]
    assert not recorded(settings, "fault")
    # What it took in all is counted over all processes that led it.
    found, whole = (read_json(one, "summary.json") for one in (settings, reference))
    assert found["uplink_bytes_total"] > 0.99 * whole["uplink_bytes_total"]
    assert found["seconds"]["total"] > sum(row["seconds"] for row in recorded(settings, "round"))
    # What was released before it was stopped is averaged with what came after.
    ours, theirs = (
        read_artefact(Path(one.run.out) / ITERATES).members for one in (settings, reference)
    )
    assert list(ours) == list(theirs) == [f"round-{number:06d}" for number in (2, 4, 6)]
    for member, state in theirs.items():
        assert all(torch.equal(ours[member][name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("step", ["keep_snapshot", "keep_release"])
def test_a_release_on_the_way_is_never_lost_between_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    options = CYCLIC | {"training__release_every": 4}
    reference = small_settings(tmp_path / "reference", **options)
    run_app(reference)
    settings = small_settings(tmp_path / "killed", **options)
    real = getattr(Journal, step)

    def kept_and_killed(self: Journal, number: int, *rest: object) -> None:
        real(self, number, *rest)
        if number == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, step, kept_and_killed)
        run_app(settings)
    run_app(settings)
    ours, theirs = (
        Journal(Path(one.run.out, "server")).read_releases() for one in (settings, reference)
    )
    assert list(theirs) == [4, 8, 12]
    assert ours == theirs
    assert model_bytes(settings) == model_bytes(reference)


class KilledAfter:
    """Ends the server after so many answers at places, or of one kind."""

    def __init__(self, answers: int, kind: Kind | None = None) -> None:
        self._left = answers
        self._kinds = set(TURNS) if kind is None else {kind}

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        if message.metadata.message_type in self._kinds and reply is not None:
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt
        return reply or message


LAYERS = {"exchange__name": "layers", "model__name": "mlp", "training__sampling_rate": 0.5}
CYCLIC = {"exchange__name": "cyclic", "exchange__cycles": 3, "privacy__regime": "FPDP"}


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (
            {"exchange__name": "weights", "exchange__local_steps": 2, "privacy__regime": "FPDP"},
            (6, 3),
        ),
        ({"sealing__scheme": "one-time"}, (6, 3)),
        (LAYERS | {"privacy__regime": "FPDP"}, (2, 7, 16)),
        (CYCLIC, (6, 2)),
    ],
    ids=["weights", "one-time", "layers", "cyclic"],
)
def test_places_whose_answers_were_lost_are_computed_again_and_cost_nothing(
    tmp_path: Path, options: dict[str, object], answers: tuple[int, ...]
) -> None:
    options = options | {"privacy__spare_attempts": 0}
    reference = small_settings(tmp_path / "reference", **options)
    run_app(reference)
    settings = small_settings(tmp_path / "killed", **options)
    for number in answers:
        with pytest.raises(KeyboardInterrupt):
            run_app(settings, KilledAfter(number))
    run_app(settings)
    assert model_bytes(settings) == model_bytes(reference)
    assert not recorded(settings, "fault")
    assert costs(settings) == costs(reference)


def test_so_is_a_place_that_was_paid_for_and_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process dies over a gradient: most of a long round is that."""
    options = {"privacy__spare_attempts": 0}
    reference = small_settings(tmp_path / "reference", **options)
    run_app(reference)
    settings = small_settings(tmp_path / "killed", **options)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Contributing, "seal", dies)
        run_app(settings)
    assert [count for one in costs(settings).values() for count in one] == [1]
    run_app(settings)
    assert model_bytes(settings) == model_bytes(reference)
    assert costs(settings) == costs(reference)


@pytest.mark.parametrize("answers", [1, 5])
def test_what_holders_are_bound_to_is_not_sealed_again(tmp_path: Path, answers: int) -> None:
    """The roster that was fixed names what was sealed first, and is asked for again."""
    options = {"sealing__scheme": "one-time", "privacy__dropouts": 1, "partition__hospitals": 6}
    options |= {"privacy__spare_attempts": 0}
    reference = small_settings(tmp_path / "reference", **options)
    run_app(reference)
    settings = small_settings(tmp_path / "killed", **options)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAfter(answers, Kind.ANSWER))
    run_app(settings)
    assert model_bytes(settings) == model_bytes(reference)
    assert not recorded(settings, "fault")
    assert costs(settings) == costs(reference)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"seconds": 3}', None])
def test_a_training_goes_on_whatever_is_left_of_its_figures(
    tmp_path: Path, damage: str | None
) -> None:
    settings = small_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(2))
    before = read_json(settings, "summary.json")
    if damage is not None:
        (tmp_path / "summary.json").write_text(damage)
    run_app(settings)
    after = read_json(settings, "summary.json")
    assert after["rounds"] == 3
    assert after["seconds"]["total"] > sum(row["seconds"] for row in recorded(settings, "round"))
    if damage is None:
        assert after["seconds"]["total"] > before["seconds"]["total"]
        assert after["uplink_bytes_total"] > before["uplink_bytes_total"] > 0


def test_seconds_and_bytes_of_a_process_that_was_killed_are_those_of_its_rounds(
    tmp_path: Path,
) -> None:
    def round_line(seconds: float, total: int) -> str:
        row = {"kind": "round", "seconds": seconds, "uplink_bytes": 3, "downlink_bytes": 4}
        return json.dumps(row | {"uplink_bytes_total": total, "downlink_bytes_total": 2 * total})

    # An orderly end after 10 seconds, 4 of them in rounds, and then rounds up to a kill.
    lines = [round_line(4.0, 100), json.dumps({"kind": "end"}), round_line(5.0, 160)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "rou']))
    totals = {"uplink_bytes_total": 130, "downlink_bytes_total": 330}
    (tmp_path / "summary.json").write_text(json.dumps(totals | {"seconds": {"total": 10.0}}))
    state = state_so_far(tmp_path)
    assert (state.seconds, state.carried) == (15.0, (160, 330))
    assert (state.round_seconds, state.uplink_bytes) == ([4.0, 5.0], [3, 3])
    # Without what the orderly end left.
    (tmp_path / "summary.json").unlink()
    assert state_so_far(tmp_path).seconds == 9.0


def costs(settings: Settings) -> dict[str, list[int]]:
    """How many events each hospital's book holds, spending by spending."""
    found: dict[str, list[int]] = {}
    for path in sorted(Path(settings.run.out).glob("sites/*/ledger*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        spent = [row["event"]["count"] for row in rows if row.get("kind") == "spend"]
        if spent:
            found[path.parent.name] = spent
    assert found
    return found


def test_an_unseeded_round_that_is_run_again_is_a_new_attempt(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, run__seed=-1)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(2))
    run_app(settings)
    ledger = read_json(settings, "privacy.json")["ledger"]
    assert [(e["round"], e["attempt"]) for e in ledger] == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert read_json(settings, "privacy.json")["rounds_spent"] == 4


def test_an_attempt_that_was_paid_for_and_not_asked_for_is_in_the_ledger_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, keep = small_settings(tmp_path, run__seed=-1), Journal.keep_attempt

    def dies(journal: Journal, number: int, attempt: int, purpose: str) -> None:
        if number == 2:
            raise KeyboardInterrupt
        keep(journal, number, attempt, purpose)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "keep_attempt", dies)
        run_app(settings)
    run_app(settings)
    ledger = read_json(settings, "privacy.json")["ledger"]
    assert [(e["round"], e["attempt"]) for e in ledger] == [(1, 1), (2, 1), (3, 1)]
    assert read_json(settings, "privacy.json")["rounds_spent"] == 3
    assert all(sum(counts) == 3 for counts in costs(settings).values())


def test_a_ledger_of_another_training_of_the_same_id_is_not_taken_for_its_own(
    tmp_path: Path,
) -> None:
    options = {"run__seed": -1, "run__training_id": "word"}
    run_app(small_settings(tmp_path, **options))
    for folder in ("server", "sites"):
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(TrainingStopped, match="ledger is of another training of the same id"):
        run_app(small_settings(tmp_path, **options, privacy__noise_multiplier=1.0))


def test_a_run_stops_with_its_model_before_the_round_that_would_exceed_the_target(
    tmp_path: Path,
) -> None:
    options = {"privacy__noise_multiplier": 0.0, "privacy__target_epsilon": 1.0}
    settings = small_settings(tmp_path, run__seed=-1, **options)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(2))
    run_app(settings)
    found = read_json(settings, "summary.json")
    assert (found["status"], found["rounds"]) == ("finished", 2)
    assert found["epsilon"]["prv"] <= 1.0
    assert "beyond privacy.target-epsilon" in recorded(settings, "end")[-1]["message"]
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    "lie",
    [
        "junk",
        "an old signature",
        *(pytest.param(lie, marks=pytest.mark.exhaustive) for lie in ("nothing", "an offer")),
    ],
)
def test_whoever_cannot_sign_that_it_is_there_is_not_taken_for_a_hospital(
    tmp_path: Path, lie: str
) -> None:
    """The challenge is fresh at each start, so what was signed at an earlier one proves nothing."""
    signed: list[bytes] = []

    def present(message: Message, reply: Message | None) -> Message | None:
        mine = message.metadata.message_type == Kind.JOIN and hospital_of(message) == "hospital-03"
        if reply is None or not mine:
            return reply or message
        words = reply.content.config_records["config"]
        if not words["presence"]:
            return reply
        signed.append(words["presence"])
        if len(signed) > 1:
            lies = {"junk": b"junk", "an old signature": signed[0], "nothing": b"", "an offer": b""}
            words["presence"] = lies[lie]
            words["offer"] = b"{}" if lie == "an offer" else b""
        return reply

    settings = small_settings(tmp_path, training__rounds=5, privacy__dropouts=1)
    killed = [KilledAt(2), KilledAt(3)]

    def both(message: Message, reply: Message | None) -> Message | None:
        answer = present(message, reply)
        return killed[0](message, answer) if killed and answer is reply else answer

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_app(settings, both)
        killed.pop(0)
    run_app(settings, both)
    assert len(signed) == 2
    assert read_json(settings, "summary.json")["status"] == "finished"
    named = {row["hospital"] for row in recorded(settings, "fault") if row["round"] == 0}
    assert named == {"node 1021"}
    assert [row["contributions"] for row in recorded(settings, "round")][-1] == 3


def test_a_training_with_other_terms_does_not_go_on(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(2))
    other = settings.with_config({"training.learning-rate": 0.5, "privacy.delta": 1e-5})
    with pytest.raises(TrainingStopped, match=r"differs: .*settings.training.learning-rate"):
        run_app(other)
    # What is a server's own patience may change.
    run_app(settings.with_config({"run.timeout": 1.0, "run.attempts": 7}))
    assert read_json(settings, "summary.json")["rounds"] == 3


def test_a_training_that_another_process_leads_is_left_alone(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with (
        Journal(tmp_path / "server").held(),
        pytest.raises(TrainingStopped, match="another process leads the training"),
    ):
        run_app(settings)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not run_app.grid.requests
