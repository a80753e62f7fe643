"""Every way of training together, held against the plainest one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from accounting.accountants import epsilon
from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from accounting.runs import RunDescription
from accounting.vocabulary import EXCHANGES, SCHEMES
from clients.contract.settings import ConfigValue, Settings, SettingsError
from clients.contract.soundness import REFUSED, SOUND, check_sound
from clients.data import Cohorts
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.optimizers import OPTIMIZERS
from clients.learning.replica import Replica
from tests.exchange_runs import ALONE, distance, read_json, run_app, terms_of, trained
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

NOISES = {"F": "none", "FPDP": "local", "FSCDP": "semi-central", "CDP": "central"}


@pytest.mark.parametrize("changes", [{"exchange__name": "weights"}, {"privacy__regime": "C"}])
def test_one_hospital_alone_gets_the_same_model_another_way(
    tmp_path: Path, plainest: dict[str, np.ndarray], changes: dict[str, object]
) -> None:
    assert distance(trained(tmp_path, **{**ALONE, **changes}), plainest) < 1e-6


def test_two_local_steps_end_elsewhere(tmp_path: Path, plainest: dict[str, np.ndarray]) -> None:
    """The negative control of the equalities: they do not hold by accident."""
    model = trained(tmp_path, **{**ALONE, "exchange__name": "weights", "exchange__local_steps": 2})
    assert distance(model, plainest) > 1e-3


def test_local_steps_without_momentum_are_sgd_steps(tmp_path: Path) -> None:
    """One hospital, full batches: three rounds of two local steps are six rounds of one."""
    common = {**ALONE, "training__momentum": 0.0}
    local = {"exchange__name": "weights", "exchange__local_steps": 2}
    fedavg = trained(tmp_path / "a", **{**common, **local})
    sgd = trained(tmp_path / "b", **{**common, "training__rounds": 6})
    assert distance(fedavg, sgd) < 1e-5


def test_a_strong_pull_keeps_local_steps_near_the_shared_model(tmp_path: Path) -> None:
    """FedProx with proximal*rate = 1 undoes every local step but the last."""
    common = {**ALONE, "training__momentum": 0.0, "training__rounds": 1}
    local = {"exchange__name": "weights", "exchange__local_steps": 3}
    start = trained(tmp_path / "start", **{**common, "training__learning_rate": 1e-12})
    moved = [
        distance(trained(tmp_path / str(pull), **{**common, **local, **extra}), start)
        for pull, extra in enumerate(({}, {"exchange__proximal": 0.5}, {"exchange__proximal": 1.0}))
    ]
    assert moved[0] > moved[1] > moved[2] > 0


@pytest.mark.parametrize("exchange", ["gradients", "weights"])
def test_the_opened_sum_is_the_pooled_gradient_to_half_a_step_a_hospital(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: str
) -> None:
    settings = small_settings(
        tmp_path,
        privacy__regime="F",
        privacy__noise_multiplier=0.0,
        training__sampling_rate=1.0,
        training__rounds=1,
        exchange__name=exchange,
    )
    opened: list[np.ndarray] = []
    step = Replica.step

    def spy(self: Replica, mean: np.ndarray, digest: str) -> None:
        opened.append(mean)
        step(self, mean, digest)

    monkeypatch.setattr(Replica, "step", spy)
    run_app(settings)
    terms = terms_of(settings)
    total = opened[0] * terms.denominator
    assert total == pytest.approx(
        pooled_gradient(settings), abs=4 * terms.grid.step / 2 * 1.001, rel=0
    )


def pooled_gradient(settings: Settings) -> np.ndarray:
    """The clipped gradient sum over all hospitals' patients, at the initial model."""
    from clients.learning.batch import Batch
    from clients.models import build_model

    cohort = Cohorts().of(settings)
    replica = Replica(build_model(settings, cohort.info, 7), settings)
    total = np.zeros(replica.dimensions)
    for name in cohort.names:
        records = cohort.hospital(name)
        batch = Batch(
            inputs=torch.as_tensor(np.asarray(records.inputs)),
            labels=torch.as_tensor(records.labels),
            patients=torch.as_tensor(records.patients),
        )
        total += clipped_gradient_sum(
            replica.per_sample, batch, l2_clip=settings.privacy.l2_clip
        ).total
    return total


def test_every_local_step_is_paid_for_at_the_server_and_at_the_hospital(tmp_path: Path) -> None:
    settings = small_settings(
        tmp_path,
        privacy__regime="FPDP",
        exchange__name="weights",
        exchange__local_steps=3,
        training__rounds=2,
        partition__hospitals=2,
    )
    run_app(settings)
    expected = epsilon(
        [GaussianEvent(sampling_rate=0.2, noise_multiplier=2.0, count=6)], 1e-4, "rdp"
    )
    privacy = read_json(settings, "privacy.json")
    server = next(row for row in privacy["observers"] if row["observer"] == "server")
    assert server["epsilon"]["rdp"] == pytest.approx(expected, rel=1e-3)
    assert read_json(settings, "summary.json")["epsilon"]["rdp"] == pytest.approx(expected, rel=0.1)
    from accounting.ledger import read_ledger

    for name in ("hospital-00", "hospital-01"):
        entries = read_ledger(tmp_path / "sites" / name / "ledger.jsonl").entries
        assert sum(entry.event.count for entry in entries) == 6


def test_the_noise_of_local_steps_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With empty batches an update is the noise of its steps: std sigma*C*sqrt(L*K)."""
    settings = small_settings(
        tmp_path,
        privacy__regime="FPDP",
        exchange__name="weights",
        exchange__local_steps=9,
        training__sampling_rate=1e-9,
        training__learning_rate=1e-9,
        training__momentum=0.0,
        training__rounds=20,
        sealing__scheme="modular",
        partition__hospitals=2,
        privacy__l2_clip=1.0,
    )
    opened: list[np.ndarray] = []
    step = Replica.step

    def spy(self: Replica, mean: np.ndarray, digest: str) -> None:
        opened.append(mean)
        step(self, mean, digest)

    monkeypatch.setattr(Replica, "step", spy)
    run_app(settings)
    terms = terms_of(settings)
    values = np.concatenate(opened) * terms.denominator
    # 20 rounds of 62 values: the standard error of a standard deviation is 2 per cent.
    assert np.std(values) == pytest.approx(2.0 * np.sqrt(9 * 2), rel=0.08)
    assert np.std(values) != pytest.approx(2.0 * np.sqrt(2), rel=0.5)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_learns_from_opened_sums(tmp_path: Path, optimizer: str) -> None:
    """A quadratic bowl: each optimizer comes nearer to its bottom from summed gradients alone."""
    settings = small_settings(tmp_path, exchange__optimizer=optimizer, training__learning_rate=0.1)
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    replica = Replica(module, settings)
    start = np.linalg.norm(replica.vector())
    for _ in range(50):
        replica.step(replica.vector(), "")
    assert np.linalg.norm(replica.vector()) < 0.6 * start


def test_optimizers_agree_with_their_papers_on_the_first_step(tmp_path: Path) -> None:
    """On the first step Adagrad moves by rate*sign; Adam and RMSprop by rate*sign/sqrt(1-decay)."""
    gradient = np.array([0.5, -2.0, 3.0, 0.25])
    moves = {}
    for optimizer in OPTIMIZERS:
        settings = small_settings(
            tmp_path, exchange__optimizer=optimizer, training__learning_rate=0.01
        )
        replica = Replica(torch.nn.Linear(3, 1), settings)
        start = replica.vector()
        replica.step(gradient, "")
        moves[optimizer] = start - replica.vector()
    rate = 0.01
    assert moves["sgd"] == pytest.approx(rate * gradient, rel=1e-4)
    assert moves["adagrad"] == pytest.approx(rate * np.sign(gradient), rel=1e-4)
    assert moves["adam"] == pytest.approx(rate * np.sign(gradient), rel=1e-4)
    assert moves["rmsprop"] == pytest.approx(rate * np.sign(gradient) * 10, rel=1e-4)
    yogi = 0.1 * gradient / (np.abs(gradient) + 1e-3)
    assert moves["yogi"] == pytest.approx(rate * yogi, rel=1e-3)


def test_the_table_and_the_refusals_cover_every_combination() -> None:
    for exchange in EXCHANGES:
        for noise in NOISES.values():
            assert ((exchange, noise) in SOUND) != ((exchange, noise) in REFUSED)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_account_refuses_shares_of_the_noise_exactly_where_the_table_does(exchange: str) -> None:
    run = partial(
        RunDescription,
        regime="FSCDP",
        hospitals=10,
        sampling_rate=0.2,
        noise_multiplier=1.0,
        rounds=1,
        delta=1e-4,
    )
    if (exchange, "semi-central") in SOUND:
        assert run(exchange=exchange).plan().name == "semi-central"
    else:
        with pytest.raises(AccountingError, match="share of the noise"):
            run(exchange=exchange)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_that_the_table_does_not_list_for_shares_is_refused_in_more_words(
    scheme: str,
) -> None:
    config: dict[str, ConfigValue] = {"sealing.scheme": scheme, "run.seed": 0}
    if scheme in SOUND["gradients", "semi-central"].schemes:
        Settings.from_config(config)
        return
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config)
    assert len(caught.value.faults) == 1
    assert "single updates" in caught.value.faults[0]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"exchange.name": "cyclic"}, "models of single hospitals travel.*FPDP"),
        ({"exchange.name": "ensemble"}, "models of single hospitals travel.*FPDP"),
        ({"exchange.name": "layers"}, "single records' messages reach the server.*FPDP"),
        ({"exchange.name": "weights", "exchange.local-steps": 2}, "no clip bounds"),
        ({"exchange.name": "weights", "privacy.regime": "CDP"}, "exchanged with nobody"),
        (
            {
                "exchange.name": "cyclic",
                "privacy.regime": "C",
                "privacy.target-epsilon": 0.0,
            },
            "exchanged with nobody",
        ),
        (
            {"exchange.name": "weights", "privacy.regime": "FPDP", "exchange.proximal": 4.0},
            "must be at most 1",
        ),
        (
            {"exchange.name": "cyclic", "privacy.regime": "FPDP", "exchange.cycles": 61},
            "each needs one at least",
        ),
        ({"exchange.optimizer": "sgdm"}, "did you mean 'sgd'.*adagrad, adam, .*rmsprop, sgd, yogi"),
        ({"exchange.order": "sorted"}, "Known: fixed, random"),
        ({"exchange.absent": "stop"}, "Known: skip, wait"),
    ],
)
def test_what_is_not_sound_or_not_known_is_refused_with_its_reason(
    config: dict[str, object], reason: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_config(config)  # type: ignore[arg-type]
    import re

    assert re.search(reason, "\n".join(caught.value.faults), re.DOTALL)


def test_a_sound_combination_has_no_faults() -> None:
    assert check_sound(Settings()) == []
