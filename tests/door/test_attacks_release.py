"""What leaves of a model is its parameters, and of test records nothing unless these are public."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from accounting.book import read_spent
from clients.contract.kinds import Kind
from clients.contract.messages import METRICS
from clients.contract.visit_messages import JudgeRequest
from clients.contract.witness_messages import head_in
from clients.models import build_model
from tests.door.sites import Answer, Sites
from tests.door.world import EXACT, LOCAL, Play, door_settings, started
from tests.in_process import COHORTS

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A, B = "hospital-00", "hospital-01"
PRIVATE = {"data": {"name": "breast-cancer", "public": False}}


def private(folder: Path, **changes: object) -> Play:
    play = Play.of(Sites(folder / "c", 3, **PRIVATE), door_settings(**changes, data__public=False))
    play.begin()
    return play


def test_released_names_are_those_of_the_parameters(tmp_path: Path) -> None:
    play = started(tmp_path, model__name="mlp")
    play.run()
    model = play.release(A, play.confirm(3)).round.model
    settings = play.settings
    module = build_model(settings, COHORTS.of(settings).info, settings.public_seed)
    assert set(model) == {name for name, _ in module.named_parameters()}


def test_an_exact_model_leaves_only_when_it_was_confirmed(tmp_path: Path) -> None:
    play = private(tmp_path, **EXACT, training__rounds=4)
    for round in range(1, 5):
        replies = play.train(round, release_from=A)
        play.close(round)
        assert not replies[A].model
    headers = play.confirm(4)
    assert play.release(A, headers).round.model_round == 4
    # The control: with noise it leaves on the way.
    noisy = private(tmp_path / "noisy", training__rounds=4)
    for round in range(1, 4):
        replies = noisy.train(round, release_from=A)
        noisy.close(round)
    assert replies[A].model_round == 1


def test_figures_of_private_records_are_not_given_whatever_the_run_says(tmp_path: Path) -> None:
    sites = Sites(tmp_path / "c", 3, **PRIVATE)
    for declared in (False, True):
        play = Play.of(sites, door_settings(data__public=declared))
        play.begin()
        play.run(1)
        request = play.releasing(play.confirm(1))
        before = sites.book_bytes(A)
        assert play.ask(A, Kind.EVALUATE, request).code == "not-public"
        assert sites.book_bytes(A) == before
    public = started(tmp_path / "public")
    public.run(2)
    answer = public.ask(A, Kind.EVALUATE, public.releasing(public.confirm(2)))
    figures = answer.records.metric_records[METRICS]
    assert figures["num-examples"] == 1 and 0.0 <= figures["accuracy"] <= 1.0


def test_an_answer_about_public_records_has_its_line_and_costs_nothing(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.run()
    request = play.releasing(play.confirm(3))
    before = play.sites.lines(A)
    first = play.ask(A, Kind.EVALUATE, request)
    [line] = play.sites.lines(A)[len(before) :]
    assert (line["kind"], line["purpose"]) == ("public", "evaluate")
    assert line["event"] == {"kind": "public", "count": 1}
    assert line["about"] == [one for one in before if one["kind"] == "close"][-1]["chain"]
    spent, _ = read_spent(play.sites.folder(A) / "ledger.jsonl")
    assert sum(one.event.count for one in spent) == 3  # the rounds alone
    # Asked again, the same figures come, and there is nothing new to write or to sign.
    again = play.ask(A, Kind.EVALUATE, request).records
    assert again.metric_records[METRICS] == first.records.metric_records[METRICS]
    assert head_in(first.records) and not head_in(again)
    assert len(play.sites.lines(A)) == len(before) + 1


def test_figures_of_brought_models_have_lines_and_fill_no_book(tmp_path: Path) -> None:
    play = started(tmp_path, **LOCAL, exchange__name="ensemble", privacy__spare_attempts=1)
    module = build_model(play.settings, COHORTS.of(play.settings).info, play.settings.public_seed)
    model = {name: p.detach() for name, p in module.named_parameters()}
    plain = {"training": play.training, "bind": play.bind}

    def judged(*models: object) -> Answer:
        return play.ask(A, Kind.EVALUATE_MODELS, JudgeRequest(**plain, models=models))  # type: ignore[arg-type]

    before = play.sites.book_bytes(A)
    for junk in (
        (),
        ({},),
        ({**model, "more": torch.zeros(1)},),
        (model, {"bias": torch.zeros(9)}),
    ):
        assert judged(*junk).code == "malformed"
    assert play.sites.book_bytes(A) == before
    codes = [judged({n: t + k for n, t in model.items()}).code for k in range(6)]
    # As many answers as there are places: one visit a hospital, and one spare attempt.
    assert codes == [""] * 4 + ["stale-place"] * 2
    assert play.sites.kinds(A).count("public") == 4
    assert "spend" not in play.sites.kinds(A)


def test_figures_of_a_fork_are_not_given(tmp_path: Path) -> None:
    """A figure tells of the sum behind it: two sums must not be told apart by their accuracy."""
    play = started(tmp_path, training__rounds=1)
    play.train(1)
    headers = {}
    for name, members in ((A, play.names), (B, play.names[:2])):
        play.closed[1] = play.sum(1, 1, members)
        headers[name] = play.confirm(1, [name])[0]
    for name in (A, B):
        before = play.sites.book_bytes(name)
        for shown in ((), (headers[name],), tuple(headers.values())):
            answer = play.ask(name, Kind.EVALUATE, play.releasing(shown))
            assert answer.code == "release-refused"
        assert play.sites.book_bytes(name) == before


def test_seconds_of_a_hospital_do_not_leave_where_data_are_private(tmp_path: Path) -> None:
    play = private(tmp_path)
    assert play.ask(A, Kind.TRAIN, play.request(1)).round.phases == {}
    public = started(tmp_path / "public")
    assert public.ask(A, Kind.TRAIN, public.request(1)).round.phases


def test_an_evaluation_opens_nothing(tmp_path: Path) -> None:
    play = started(tmp_path)
    play.run(2)
    before = play.sites.book_bytes(A)
    others = play.confirm(2, ["hospital-01", "hospital-02"])
    request = play.releasing(others, closed={2: play.closed[2]})
    assert play.ask(A, Kind.EVALUATE, request).code == "release-refused"
    assert play.sites.book_bytes(A) == before
