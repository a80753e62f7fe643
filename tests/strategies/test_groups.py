"""Groups whose sums are opened apart: who is in one, what it costs, and who refuses what."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from accounting.accountants import epsilon
from accounting.against import views_of_spend
from accounting.errors import AuditFailed
from accounting.events import GaussianEvent
from accounting.ledger import read_ledger
from clients.contract import terms as terms_module
from clients.contract.groups import Groups, groups_of, parted
from clients.contract.kinds import Kind
from clients.contract.messages import RoundReply
from clients.contract.settings import Settings
from clients.models import build_model
from crypto.errors import RosterError
from crypto.frames import Content, read_frame
from crypto.headers import SignedHeader
from crypto.roles import Sealed
from simulations.attacks.lies import POISONS, lying
from simulations.run_audit import attack, planned_run
from strategies.errors import TrainingStopped
from strategies.group_adders import GroupAdders
from tests.exchange_runs import model_bytes, model_of, read_json, recorded, run_app, terms_of
from tests.in_process import COHORTS, InProcessGrid, hospital_of, server_app, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SIX = {"partition__hospitals": 6, "exchange__group_size": 2, "exchange__robust": "median"}


def settings_of(out: Path, **changes: object) -> Settings:
    return small_settings(out, **{**SIX, **changes})


def updates_of(settings: Settings, number: int) -> dict[str, np.ndarray]:
    """What each hospital sent in a round, where nothing is sealed."""
    plan, found = terms_of(settings).sealing, {}
    for reply in run_app.grid.replies:
        if reply.metadata.message_type != Kind.TRAIN:
            continue
        read = RoundReply.read(reply.content)
        header = SignedHeader.from_bytes(read.header).header
        if header.round == number:
            frame = read_frame(
                Sealed(payload=read.sealed), plan, content=Content.SINGLE, key_id=None
            )
            found[header.sender] = frame.body.view("<f8")
    return found


def test_hospitals_are_dealt_out_in_turn_whoever_deals() -> None:
    groups = Groups(hospitals=6, size=3, rule="median", liars=1)
    names = ["oslo", "bern", "turin", "lyon", "graz", "pisa"]
    dealt = groups.dealt(names)
    assert dealt == (("bern", "lyon", "pisa"), ("graz", "oslo", "turin"))
    assert groups.dealt(reversed(names)) == dealt
    assert groups.group_of("oslo", names) == dealt[1]
    with pytest.raises(RosterError, match="5 members"):
        groups.dealt(names[1:])
    with pytest.raises(RosterError, match="'rome' is in no group"):
        groups.group_of("rome", names)


def test_a_group_without_the_noise_that_was_promised_is_refused() -> None:
    groups = Groups(hospitals=9, size=3, rule="median", liars=1)
    names = list("abcdefghi")
    assert groups.present(names, set(names) - {"a"}, least=8)[0] == ("d", "g")
    with pytest.raises(RosterError, match="1 contributors of the group a, d, g, expected at least"):
        groups.present(names, set(names) - {"a", "d"}, least=8)


def test_too_few_groups_to_outvote_liars_are_refused() -> None:
    groups = Groups(hospitals=5, size=1, rule="trimmed-mean", liars=2)
    with pytest.raises(RosterError, match="sums of 4 groups, trimmed-mean needs 5"):
        groups.present("abcde", set("abcd"), least=3)
    with pytest.raises(RosterError, match="no totals of 3 groups"):
        parted(b"1234", 3)


@pytest.mark.parametrize("size", [1, 2])
def test_hospitals_step_on_what_the_groups_sums_make_of_the_sum_of_all(
    tmp_path: Path, size: int
) -> None:
    settings = settings_of(
        tmp_path,
        exchange__group_size=size,
        privacy__regime="F",
        privacy__noise_multiplier=0.0,
        sealing__scheme="plain",
        training__rounds=1,
        training__momentum=0.0,
    )
    run_app(settings)
    sent, groups = updates_of(settings, 1), groups_of(settings)
    assert groups is not None and len(sent) == 6
    sums = np.stack([sum(sent[name] for name in group) for group in groups.dealt(sent)])
    step = np.median(sums, axis=0) * groups.count / terms_of(settings).denominator
    module = build_model(settings, COHORTS.of(settings).info, settings.public_seed)
    before = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
    released = model_of(settings)
    after = np.concatenate([released[name].ravel() for name, _ in module.named_parameters()])
    assert np.allclose(before - settings.training.learning_rate * step, after, atol=1e-6)
    assert not np.allclose(sums.sum(axis=0), np.median(sums, axis=0) * groups.count, rtol=0.05)


def test_groups_end_in_the_same_model_under_every_scheme(tmp_path: Path) -> None:
    models = {}
    for scheme in ("bfv", "modular", "one-time"):
        settings = settings_of(tmp_path / scheme, sealing__scheme=scheme, training__rounds=2)
        run_app(settings)
        models[scheme] = model_bytes(settings)
        assert recorded(settings, "round")[-1]["closed"] is True
    assert models["bfv"] == models["modular"] == models["one-time"]
    alone = small_settings(tmp_path / "one-sum", partition__hospitals=6, training__rounds=2)
    run_app(alone)
    assert model_bytes(alone) != models["bfv"]


def test_hospitals_with_a_process_each_agree(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, sealing__scheme="one-time", training__rounds=2)
    run_app(settings, apart=True)
    assert read_json(settings, "summary.json")["rounds"] == 2


@pytest.mark.parametrize("scheme", ["bfv", "one-time"])
def test_a_server_that_counts_hospitals_to_other_groups_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    made = GroupAdders.__init__

    def swapped(self: GroupAdders, *given: object) -> None:
        made(self, *given)
        one, other = "hospital-00", "hospital-01"
        self._home[one], self._home[other] = self._home[other], self._home[one]

    monkeypatch.setattr(GroupAdders, "__init__", swapped)
    settings = settings_of(tmp_path, sealing__scheme=scheme, run__attempts=1)
    with pytest.raises(TrainingStopped):
        run_app(settings)
    logs = [path.read_text() for path in tmp_path.glob("sites/*/hospital.log")]
    assert logs and all("did not open" in log for log in logs)
    assert not (tmp_path / "model.safetensors").is_file()


def test_totals_of_groups_in_another_order_open_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = GroupAdders.total
    monkeypatch.setattr(
        GroupAdders, "total", lambda self: b"".join(reversed(parted(made(self), 3)))
    )
    with pytest.raises(TrainingStopped):
        run_app(settings_of(tmp_path, run__attempts=1, sealing__scheme="modular"))
    assert not (tmp_path / "model.safetensors").is_file()


def test_a_training_keeps_its_groups_to_its_end(tmp_path: Path) -> None:
    told = {"sealing__scheme": "modular", "training__rounds": 1}
    run_app(settings_of(tmp_path, **told))
    for change in ({"exchange__robust": "trimmed-mean"}, {"exchange__group_size": 1}):
        settings = settings_of(tmp_path, **told, privacy__regime="FPDP", **change)
        with pytest.raises(TrainingStopped, match="began with other terms"):
            run_app(settings)
    asked: list[str] = []

    def meddle(message: object, reply: object) -> object:
        if reply is not None and reply.has_error():  # type: ignore[attr-defined]
            asked.append(reply.error.reason)  # type: ignore[attr-defined]
        return reply or message

    # The server's side of the run is told of other groups than the hospitals' side.
    settings = settings_of(tmp_path / "other", **told, run__attempts=1)
    config = {**settings.to_config(), "exchange.robust": "trimmed-mean"}
    grid = InProcessGrid(config, 6, meddle)  # type: ignore[arg-type]
    context = Context(
        run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=settings.to_config()
    )
    Path(settings.run.out).mkdir(parents=True)
    with pytest.raises(TrainingStopped):
        server_app(grid, context)
    assert asked and set(asked) == {"training-bound"}


def test_what_groups_are_is_in_the_terms_and_nothing_else_is(tmp_path: Path) -> None:
    from clients.contract.binding import bound_settings

    keys = {"exchange.group-size", "exchange.robust", "exchange.liars"}
    assert not keys & bound_settings(small_settings(tmp_path)).keys()
    bound = bound_settings(settings_of(tmp_path, partition__hospitals=10, exchange__liars=2))
    assert {key: bound[key] for key in keys} == {
        "exchange.group-size": 2,
        "exchange.robust": "median",
        "exchange.liars": 2,
    }


def test_noise_is_planned_for_a_group_and_every_account_says_so(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, exchange__group_size=2, training__rounds=2)
    run_app(settings)
    sigma, terms = 2.0, terms_of(settings)
    assert terms.noise_stddev == pytest.approx(sigma * 1.0 / math.sqrt(2))
    assert (terms.noise.hospitals, terms.sealing.hospitals, terms.least) == (2, 2, 6)
    book = read_ledger(next(tmp_path.glob("sites/hospital-00/ledger*.jsonl")))
    assert [one.event.noise_multiplier for one in book.entries] == [sigma, sigma]
    other = terms.noise.stddev_per_hospital(1.0)
    views = views_of_spend(terms.noise, regime="FSCDP", exchange="gradients", scheme="bfv")
    assert views["hospital"] == pytest.approx(other) == views["server+hospitals:1"]
    rows = {row["observer"]: row for row in read_json(settings, "privacy.json")["observers"]}
    rate = settings.training.sampling_rate
    for observer, noise in (("server", sigma), ("any one other hospital", other)):
        event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=2)
        expected = epsilon([event], settings.privacy.delta, "prv")
        assert rows[observer]["epsilon"]["prv"] == pytest.approx(expected, rel=0.01)
    assert "the noise of that group alone" in rows["any one other hospital"]["why"]


@pytest.mark.parametrize("scheme", ["bfv", "one-time"])
def test_an_audit_finds_a_groups_sum_as_noisy_as_claimed(tmp_path: Path, scheme: str) -> None:
    settings = settings_of(tmp_path, sealing__scheme=scheme, audit__canaries=400)
    found = attack(settings, planned_run(settings), lambda *told: None)
    found.audit.require()
    assert {name for one in found.audit.findings for name in one.observers} >= {"server"}


def test_an_audit_sees_noise_that_was_planned_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, sealing__scheme="modular", audit__canaries=400)
    run = planned_run(settings)
    monkeypatch.setattr(terms_module, "sharing_noise", lambda settings: 6)
    with pytest.raises(AuditFailed):
        attack(settings, run, lambda *told: None).audit.require()


def test_one_hospital_may_be_missing_from_its_group_and_no_more(tmp_path: Path) -> None:
    told = {
        "exchange__group_size": 3,
        "partition__hospitals": 9,
        "privacy__dropouts": 1,
        "sealing__scheme": "modular",
        "training__rounds": 2,
    }
    away: set[str] = {"hospital-04"}

    def meddle(message: object, reply: object) -> object:
        kind = message.metadata.message_type  # type: ignore[attr-defined]
        gone = kind in (Kind.TRAIN, Kind.CONFIRM) and hospital_of(message) in away  # type: ignore[arg-type]
        return None if gone else reply or message

    settings = settings_of(tmp_path / "one", **told)
    run_app(settings, meddle)  # type: ignore[arg-type]
    assert read_json(settings, "summary.json")["rounds"] == 2
    away |= {"hospital-05"}
    settings = settings_of(tmp_path / "two", **told, run__attempts=1)
    with pytest.raises(TrainingStopped, match="with 7 of 9 hospitals"):
        run_app(settings, meddle)  # type: ignore[arg-type]


def test_a_liar_moves_the_mean_of_groups_little_and_a_plain_sum_far(tmp_path: Path) -> None:
    def moved(**changes: object) -> float:
        told = {
            "privacy__regime": "F",
            "privacy__noise_multiplier": 0.0,
            "sealing__scheme": "modular",
            "partition__name": "iid",
            **changes,
        }
        models = []
        for name, liars in (("honest", []), ("lie", ["hospital-02"])):
            settings = small_settings(
                tmp_path / f"{changes.get('exchange__robust')}-{name}",
                partition__hospitals=6,
                **told,
            )
            with lying(liars, POISONS["scaling"], 0):
                run_app(settings)
            models.append(np.concatenate([one.ravel() for one in model_of(settings).values()]))
        return float(np.linalg.norm(models[0] - models[1]) / np.linalg.norm(models[0]))

    plain = moved()
    assert plain > 1.0
    for rule in ("median", "trimmed-mean"):
        grouped = moved(exchange__group_size=2, exchange__robust=rule)
        assert grouped < plain / 4
