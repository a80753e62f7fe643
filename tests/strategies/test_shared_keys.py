"""Trainings in which hospitals may be missing under one-time keys: the model of `modular`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import Message

from accounting.chain import read_chain
from clients.contract.kinds import Kind
from clients.contract.settings import Settings, SettingsError
from crypto import key_shares, one_time
from crypto.pairs import PairKeys
from strategies.errors import TrainingStopped
from tests.exchange_runs import model_bytes, read_json, recorded, run_app
from tests.in_process import Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SHARED: dict[str, object] = {
    "sealing__scheme": "one-time",
    "partition__hospitals": 5,
    "privacy__dropouts": 1,
    # Noise that no scheme takes a part of: what differs would be the sum.
    "privacy__regime": "FPDP",
}
UPDATE, ANSWER = frozenset({Kind.TRAIN, Kind.FORWARD, Kind.BACKWARD}), frozenset({Kind.ANSWER})
#: Round -> hospital -> the kinds of messages that it leaves without an answer there.
Silence = Mapping[int, Mapping[str, frozenset[Kind]]]
NAMES = [f"hospital-{k:02}" for k in range(5)]


class Silent:
    """Swallows messages as a plan says."""

    def __init__(self, plan: Silence) -> None:
        self._plan = plan

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        words = message.content.config_records.get("config", {})
        kinds = self._plan.get(words.get("server-round", 0), {}).get(hospital_of(message), ())
        return None if message.metadata.message_type in kinds else reply or message


def shared_settings(out: Path, **changes: object) -> Settings:
    return small_settings(out, **{**SHARED, **changes})


def run(out: Path, meddle: Meddle | None = None, **changes: object) -> Settings:
    settings = shared_settings(out, **changes)
    run_app(settings, meddle)
    return settings


def same_model(out: Path, plan: Silence, **changes: object) -> None:
    """Whoever is missing, the model is the one of sums in the clear that lack the same."""
    updates = {n: {h: kinds & UPDATE for h, kinds in one.items()} for n, one in plan.items()}
    shared = run(out / "shared", Silent(plan), **changes)
    others = {key: value for key, value in changes.items() if not key.startswith("sealing")}
    open_sums = run(out / "modular", Silent(updates), **{**others, "sealing__scheme": "modular"})
    assert model_bytes(shared) == model_bytes(open_sums)
    assert read_json(shared, "summary.json")["status"] == "finished"


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ({1: {NAMES[2]: UPDATE}, 3: {NAMES[0]: UPDATE}}, {}),
        pytest.param(
            {2: {NAMES[1]: ANSWER}},
            {"exchange__name": "weights", "exchange__local_steps": 2},
            marks=pytest.mark.exhaustive,
        ),
        (
            {2: {NAMES[4]: UPDATE | ANSWER}},
            {"exchange__name": "layers", "model__name": "mlp", "training__sampling_rate": 0.5},
        ),
        pytest.param({}, {}, marks=pytest.mark.exhaustive),
        pytest.param(
            {1: {NAMES[0]: UPDATE}, 2: {NAMES[1]: UPDATE, NAMES[5 - 1]: ANSWER}},
            {"partition__hospitals": 8, "privacy__dropouts": 2},
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            {1: {NAMES[3]: UPDATE}},
            {"sealing__committee": "hospital-00,hospital-01,hospital-02,hospital-03,hospital-04"}
            | {"partition__hospitals": 9},
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["gradients", "weights", "layers", "all there", "two of eight", "a committee"],
)
def test_the_model_is_the_one_of_modular_whoever_is_missing(
    tmp_path: Path, plan: Silence, changes: dict[str, object]
) -> None:
    same_model(tmp_path, plan, **changes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(12))
def test_the_model_is_the_one_of_modular_under_silence_at_random(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    plan = {
        number: {dice.choice(NAMES): dice.choice([UPDATE, ANSWER, UPDATE | ANSWER])}
        for number in (1, 2, 3)
    }
    same_model(tmp_path, plan, run__seed=seed)


def test_a_round_with_too_few_answers_is_done_again(tmp_path: Path) -> None:
    """Its roster was answered by some: it is void for ever, and the next attempt has another."""
    told: list[int] = []

    def lose(message: Message, reply: Message | None) -> Message | None:
        words = message.content.config_records.get("config", {})
        first = (words.get("server-round"), words.get("attempt")) == (2, 1)
        if message.metadata.message_type == Kind.ANSWER and first and reply is not None:
            told.append(1)
            return reply if hospital_of(message) in NAMES[:3] else None
        return reply or message

    settings = run(tmp_path, lose, privacy__spare_attempts=2)
    assert len(told) == 7  # five holders, and the two silent ones once more
    attempts = [
        (row["round"], row["attempt"], row["closed"]) for row in recorded(settings, "round")
    ]
    assert attempts == [(1, 1, True), (2, 1, False), (2, 2, True), (3, 1, True)]
    for name in NAMES:
        lines = read_chain(tmp_path / "sites" / name / "ledger.jsonl").records
        answered = [(one["round"], one["attempt"]) for one in lines if one["kind"] == "answer"]
        assert answered == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert read_json(settings, "summary.json")["status"] == "finished"


@pytest.mark.exhaustive
def test_a_round_that_holders_never_answer_stops_the_run_and_says_so(tmp_path: Path) -> None:
    plan = {2: dict.fromkeys(NAMES[:2], ANSWER)}
    with pytest.raises(TrainingStopped, match="round 2 found too few answers of holders"):
        run(tmp_path, Silent(plan), privacy__spare_attempts=4, run__attempts=2)
    rounds = [(row["round"], row["closed"]) for row in recorded(shared_settings(tmp_path), "round")]
    assert rounds == [(1, True), (2, False), (2, False)]


def spoil_shares(monkeypatch: pytest.MonkeyPatch, dealer: str) -> None:
    """One hospital signs envelopes that hold no shares."""
    deal = one_time.deal

    def spoilt(
        secret: object, seeds: object, plan: object, pairs: PairKeys, *rest: object
    ) -> dict[str, bytes]:
        dealt = deal(secret, seeds, plan, pairs, *rest)  # type: ignore[arg-type]
        if pairs.hospital != dealer:
            return dealt
        return {holder: bytes(len(one)) for holder, one in dealt.items()}

    monkeypatch.setattr(one_time, "deal", spoilt)


def test_whose_shares_are_none_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dealer = NAMES[3]
    spoil_shares(monkeypatch, dealer)
    settings = run(tmp_path, privacy__spare_attempts=4)
    faults = {row["code"] for row in recorded(settings, "fault")}
    assert faults == {"share-refused:4"}
    assert [row["asked"] for row in recorded(settings, "void")] == [
        [name for name in NAMES if name != dealer]
    ] * len(recorded(settings, "void"))
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 3)
    assert {row["hospital"] for row in summary["left_out"]} == {dealer}


def test_a_wrong_answer_is_corrected_and_stands_in_the_hospitals_own_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar, sums = NAMES[1], key_shares._shares_for

    def wrong(request: object, plan: object, pairs: PairKeys, *rest: object) -> object:
        total, seeds = sums(request, plan, pairs, *rest)  # type: ignore[arg-type]
        return ((total + 1) % 65521 if pairs.hospital == liar else total), seeds

    monkeypatch.setattr(key_shares, "_shares_for", wrong)
    settings = run(tmp_path / "lied")
    logs = [(tmp_path / "lied" / "sites" / name / "hospital.log") for name in NAMES]
    said = "".join(log.read_text() for log in logs if log.exists())
    assert f"the shares that {liar} answered do not fit" in said
    assert liar not in str(recorded(settings, "fault"))
    monkeypatch.undo()
    assert model_bytes(settings) == model_bytes(run(tmp_path / "honest"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partition__hospitals": 4}, "have 5 hospitals at least"),
        ({"privacy__dropouts": 2}, "have 8 hospitals at least"),
        ({"privacy__colluders": 2}, "have 6 hospitals at least"),
        (
            {
                "partition__hospitals": 30,
                "sealing__committee": ",".join("abcdefghijklmnopqrstu"),
            },
            "21 holders of 30 hospitals, expected 1 to 20",
        ),
        ({"sealing__silent_holders": 2}, "lower the dropouts"),
        ({"sealing__committee": "a,b,c"}, "wanted 1"),
        (
            {"sealing__committee": "x", "partition__sites": "a,b,c,d,e"},
            "names x, who are not in partition.sites",
        ),
        ({"privacy__dropouts": 0, "sealing__committee": "a"}, "leave them out"),
        ({"sealing__scheme": "bfv", "sealing__silent_holders": 1}, "leave them out"),
    ],
)
def test_shares_that_hold_against_too_few_are_refused_before_the_start(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        shared_settings(tmp_path, **changes)
