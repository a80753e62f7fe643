"""One signed bad update does not end a training, and its hospital is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.contract.kinds import Kind
from clients.contract.phases import Phases
from clients.contract.terms import Terms
from clients.site import session
from clients.site.hospital import Hospital
from clients.site.opening import Behind, Openings
from clients.site.unsealing import SealedSum, Unsealed
from crypto.errors import SealingError
from crypto.headers import Header, HeaderKind
from crypto.roles import Place
from strategies.culprits import RETURNED, SUSPECTED, Culprits, Verdict, judge
from strategies.errors import TrainingStopped
from strategies.run.journal import Journal
from tests.exchange_runs import model_bytes, read_json, recorded, run_app
from tests.in_process import hospital_of
from tests.strategies.spoiled_sums import Spoils, by, failures, places, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.mark.parametrize(
    ("since", "culprit"),
    [
        (2, 0),
        (5, 3),
        *(
            pytest.param(*one, marks=pytest.mark.exhaustive)
            for one in ((2, 2), (2, 3), (5, 0), (5, 2))
        ),
    ],
)
def test_a_signed_update_that_spoils_the_sum_does_not_end_the_training(
    tmp_path: Path, spoil: Callable[[Spoils], None], culprit: int, since: int
) -> None:
    name = f"hospital-0{culprit}"
    spoil(by(name, since=since))
    settings = settings_of(tmp_path)
    run_app(settings, apart=True)
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    assert [row["hospital"] for row in summary["left_out"]] == [name]
    assert (tmp_path / "model.safetensors").exists()
    searched = [row for row in recorded(settings, "round") if row["round"] == since]
    attempts = {row["attempt"] for row in searched if row["contributions"]}
    assert len(attempts) <= 1 + math.ceil(4 / 1)
    named = [row for row in recorded(settings, "left-out") if "returned" in row["why"]]
    assert [row["hospital"] for row in named] == ([name] if since < 4 else [])
    for honest in {f"hospital-0{k}" for k in range(4)} - {name}:
        # What it was asked for is in its own book, and it is far from giving up the training.
        assert len(places(settings, honest)) >= 5
        assert failures(settings, honest) < 6
    answered = {
        (hospital_of(reply_to), reply_to.content.config_records["config"]["attempt"])
        for reply_to in requests_of(since)
    }
    for honest in {f"hospital-0{k}" for k in range(4)} - {name}:
        paid = {attempt for round_, attempt in places(settings, honest) if round_ == since}
        assert paid == {attempt for who, attempt in answered if who == honest}


def requests_of(round_: int) -> list[Message]:
    grid = run_app.grid  # type: ignore[attr-defined]
    return [
        message
        for message in grid.requests
        if message.metadata.message_type == Kind.TRAIN
        and message.content.config_records["config"]["server-round"] == round_
    ]


def test_whoever_spoiled_one_sum_only_is_asked_again(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    spoil(by("hospital-01", since=2, until=2))
    settings = settings_of(tmp_path)
    run_app(settings)
    assert read_json(settings, "summary.json")["left_out"] == []
    assert [row["hospital"] for row in recorded(settings, "returned")] == ["hospital-01"]
    last = [row for row in recorded(settings, "round") if row["closed"]][-1]
    assert (last["round"], last["contributions"]) == (5, 4)


def test_without_the_search_one_bad_update_stops_the_run(
    tmp_path: Path, spoil: Callable[[Spoils], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(by("hospital-01", since=2))
    monkeypatch.setattr(
        "strategies.federation.judge",
        lambda opened, _, least: Verdict.STANDS if len(opened) >= least else Verdict.AWAY,
    )
    settings = settings_of(tmp_path)
    with pytest.raises(TrainingStopped, match=r"round 3 closed with 0 of 4.*opened by nobody"):
        run_app(settings)


def test_where_nobody_may_be_missing_the_training_stops_and_says_so(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    spoil(by("hospital-01", since=2))
    settings = settings_of(tmp_path, privacy__dropouts=0)
    with pytest.raises(TrainingStopped, match=r"spoils the sum of round 2.*dropouts = 0.*nobody"):
        run_app(settings)
    assert read_json(settings, "summary.json")["rounds"] == 1


def test_two_culprits_that_cannot_be_left_out_together_stop_it(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    spoil(by("hospital-00", "hospital-02", since=2))
    settings = settings_of(tmp_path)
    with pytest.raises(TrainingStopped, match="two or more hospitals in different sets"):
        run_app(settings, apart=True)
    assert read_json(settings, "summary.json")["rounds"] == 1


def test_a_second_culprit_after_the_first_stops_it_by_name(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    later = by("hospital-02", since=4)
    spoil(lambda name, place: by("hospital-00")(name, place) or later(name, place))
    settings = settings_of(tmp_path, training__rounds=6)
    with pytest.raises(TrainingStopped, match=r"no more than 1 .* left out: hospital-00"):
        run_app(settings)


def test_two_culprits_in_one_set_are_both_named(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    spoil(by("hospital-02", "hospital-03", since=2))
    settings = settings_of(tmp_path, partition__hospitals=7, privacy__dropouts=2, run__attempts=4)
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    assert [row["hospital"] for row in summary["left_out"]] == ["hospital-02", "hospital-03"]


def test_only_one_of_a_set_stays_out(tmp_path: Path, spoil: Callable[[Spoils], None]) -> None:
    spoil(by("hospital-03", since=2))
    settings = settings_of(
        tmp_path, partition__hospitals=7, privacy__dropouts=2, training__rounds=8
    )
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert [row["hospital"] for row in summary["left_out"]] == ["hospital-03"]
    assert [row["hospital"] for row in recorded(settings, "returned")] == ["hospital-02"]


def test_without_spare_attempts_the_model_before_the_bad_sum_is_released(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    spoil(by("hospital-03", since=3))
    settings = settings_of(tmp_path, privacy__spare_attempts=2)
    run_app(settings)
    assert read_json(settings, "summary.json")["rounds"] == 2
    assert "spare-attempts" in recorded(settings, "end")[0]["message"]
    assert (tmp_path / "model.safetensors").exists()


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> str:
    """A hospital that says of every sum that it opens."""
    name, opening = "hospital-00", [""]
    follow, opened = Openings.follow, session.unseal

    def followed(self: Openings, request: Behind, phases: Phases) -> object:
        opening[0] = self._name
        return follow(self, request, phases)

    def credulous(sealed: SealedSum, terms: Terms, *about: Any) -> Unsealed:
        """Take whatever does not open for a sum of nothing."""
        try:
            return opened(sealed, terms, *about)
        except SealingError:
            if opening[0] != name:
                raise
            return Unsealed(np.zeros(terms.dimensions), (), ())

    monkeypatch.setattr(Openings, "follow", followed)
    monkeypatch.setattr(session, "unseal", credulous)
    return name


@pytest.mark.parametrize("since", [2, 5])
def test_a_hospital_that_opens_what_the_others_refuse_is_named(
    tmp_path: Path, spoil: Callable[[Spoils], None], liar: str, since: int
) -> None:
    """It spoils a sum and says that it opens: with its own signature."""
    spoil(by(liar, since=since, until=since))
    settings = settings_of(tmp_path)
    run_app(settings, apart=True)
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    [row] = summary["left_out"]
    assert (row["hospital"], row["round"]) == (liar, since)
    assert "the others refused" in row["why"]


def test_a_liar_does_not_hide_whose_update_it_is(
    tmp_path: Path, spoil: Callable[[Spoils], None], liar: str
) -> None:
    spoil(by("hospital-03", since=2))
    settings = settings_of(tmp_path, partition__hospitals=7, privacy__dropouts=2, run__attempts=4)
    run_app(settings, apart=True)
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    assert [row["hospital"] for row in summary["left_out"]] == [liar, "hospital-03"]
    assert max(failures(settings, f"hospital-0{k}") for k in range(7)) < 6


def test_a_wrong_previous_in_a_header_is_named_on_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a roster it would make every hospital refuse the sum."""
    real = Hospital.header

    def wrong(self: Hospital, kind: HeaderKind, place: Place, **fields: object) -> Header:
        header = real(self, kind, place, **fields)  # type: ignore[arg-type]
        mine = self.site.name == "hospital-02" and place.round == 3 and kind is HeaderKind.SUM
        return replace(header, previous="ab" * 32) if mine else header

    monkeypatch.setattr(Hospital, "header", wrong)
    settings = settings_of(tmp_path)
    run_app(settings)
    [fault] = recorded(settings, "fault")
    assert (fault["round"], fault["hospital"]) == (3, "hospital-02")
    assert fault["code"] == "previous-mismatch"
    assert recorded(settings, "void") == []
    assert {row["attempt"] for row in recorded(settings, "round")} == {1}


def test_the_middle_of_a_split_model_steps_back_with_a_void_sum(
    tmp_path: Path, spoil: Callable[[Spoils], None]
) -> None:
    """A culprit that is found and returns leaves a run as one where it was away that round."""
    spoil(by("hospital-03", since=2, until=2))
    options = {
        "exchange__name": "layers",
        "model__name": "mlp",
        "privacy__regime": "F",
        "privacy__noise_multiplier": 0.0,
        "training__rounds": 3,
    }
    settings = settings_of(tmp_path / "spoiled", **options)
    run_app(settings)

    def away(message: Message, reply: Message | None) -> Message | None:
        config = message.content.config_records["config"]
        out = hospital_of(message) == "hospital-03" and config.get("server-round") in (2, 3)
        return None if reply is None and out else (reply or message)

    spoil(by())
    other = settings_of(tmp_path / "away", **options)
    run_app(other, away)
    assert model_bytes(settings) == model_bytes(other)


@pytest.mark.parametrize(
    ("opened", "refused", "least", "verdict"),
    [
        (3, 1, 3, Verdict.STANDS),
        (1, 3, 3, Verdict.VOID),
        (2, 2, 2, Verdict.TIE),
        (3, 2, 2, Verdict.STANDS),
        (2, 3, 2, Verdict.VOID),
        (2, 1, 3, Verdict.AWAY),
        (0, 0, 3, Verdict.AWAY),
    ],
)
def test_most_hospitals_decide_what_a_sum_is(
    opened: int, refused: int, least: int, verdict: Verdict
) -> None:
    assert judge(["a"] * opened, ["b"] * refused, least) is verdict


def test_few_hospitals_are_shown_a_sum_of_a_search(tmp_path: Path) -> None:
    names = [f"h{k}" for k in range(6)]
    culprits = Culprits(names, 2, Journal(tmp_path))
    culprits.void(3, 1, names=names, ahead=1)
    asked: list[str] = []

    def refuse(name: str) -> str:
        asked.append(name)
        return "opening-refused"

    assert culprits.show_first(refuse, 3)[0] is Verdict.VOID
    assert asked == ["h2", "h3", "h4"]
    assert culprits.show_first(lambda _: "unreachable", 2)[0] is Verdict.AWAY
    assert culprits.show_first(lambda name: "" if name == "h3" else "behind:1", 1)[0] is (
        Verdict.STANDS
    )


@pytest.mark.parametrize(
    ("contributors", "out"), [(6, {"h0", "h1"}), (5, {"h0"}), (4, {"h0", "h1"})]
)
def test_a_hospital_that_is_away_counts_among_those_left_out(
    tmp_path: Path, contributors: int, out: set[str]
) -> None:
    """With two away there is no room for a search, so it is hoped that they come back."""
    names = [f"h{k}" for k in range(6)]
    culprits = Culprits(names, 2, Journal(tmp_path))
    culprits.void(3, 1, names=names[:contributors], ahead=1)
    assert set(names) - set(culprits.asked) == out


def test_who_has_returned_is_not_blamed_for_shares_of_another(tmp_path: Path) -> None:
    """A dealer that waits for a suspect's return, to have it left out for good in its place."""
    culprits = Culprits([f"h{k}" for k in range(5)], 1, Journal(tmp_path))
    culprits.void(1, 1, names=culprits.asked, first=("h3",))
    culprits.stands(1, culprits.asked)
    assert culprits.bring_back(2) == "h3"
    culprits.void(2, 1, names=culprits.asked, first=("h4",))
    assert culprits.left_out == [] and culprits.asked == ("h0", "h1", "h2", "h3")
    assert culprits.stands(2, culprits.asked) == ("h3",)
    assert [(one.hospital, one.why) for one in culprits.left_out] == [("h4", SUSPECTED)]
    # The control: whose own shares are refused once more is left out for good.
    assert culprits.bring_back(3) == "h4"
    culprits.void(3, 1, names=culprits.asked, first=("h4",))
    assert [(one.hospital, one.why) for one in culprits.left_out] == [("h4", RETURNED)]


def test_who_is_left_out_for_good_is_not_suspected_beside(tmp_path: Path) -> None:
    """A return that began with a round after the one whose sum shows that it was in vain."""
    names = [f"h{k}" for k in range(8)]
    culprits = Culprits(names, 2, Journal(tmp_path))
    culprits.void(2, 1, names=names, ahead=1)
    culprits.stands(2, culprits.asked)
    assert culprits.bring_back(4) == "h0"
    culprits.void(3, 1, names=names[2:])
    assert "h0" in culprits.asked
    culprits.void(3, 2, names=culprits.asked)
    with pytest.raises(TrainingStopped, match="left out: h0, h1"):
        culprits.void(4, 1, names=culprits.asked)
    assert [(one.hospital, one.why) for one in culprits.left_out] == [
        ("h0", RETURNED),
        ("h1", SUSPECTED),
    ]
