"""Membership: the statistics on made scores, and the attack on real trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm

from accounting.attack_limits import Limit
from simulations.attacks.ground import Ground, Way
from simulations.attacks.membership import COLUMNS, likelihood_ratios
from simulations.attacks.roc import Measured, alarm, measure, shown, with_rare
from simulations.attacks.shadow_models import Pool, log_odds, module_of
from simulations.attacks.trainings import ChangedCohorts, train
from simulations.cli import main
from simulations.scenario import find_scenario, resolve

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SMALL = ["partition.hospitals=2", "training.rounds=3", "training.sampling-rate=0.5"]


@pytest.fixture
def ground():
    return Ground(settings=resolve(find_scenario("default"), SMALL, {}))


def made(shift, models=16, patients=400, spread=5.0):
    """Scores of patients who differ much among themselves, larger by `shift` where trained on."""
    generator = np.random.default_rng(0)
    coins = generator.integers(0, 2, (models, patients)).astype(bool)
    noise = generator.normal(size=coins.shape)
    return generator.normal(size=patients) * spread + noise + shift * coins, coins


def test_ratios_see_what_differs_between_patients_and_a_threshold_does_not():
    values, coins = made(1.0)
    best = norm.cdf(1 / np.sqrt(2))
    ratios = measure(likelihood_ratios(values, coins), coins)
    assert best - 0.06 < ratios.area <= best + 3 * ratios.area_error
    assert measure(values, coins).area < 0.6


def test_where_nothing_is_to_be_seen_nothing_is_seen():
    values, coins = made(0.0)
    for scores in (values, likelihood_ratios(values, coins)):
        found = measure(scores, coins)
        assert abs(found.area - 0.5) < 4 * found.area_error + 0.01
        assert found.hits[0] < 0.01 + 5 * found.hits_error[0] + 0.01


def test_perfect_scores_are_called_perfect():
    _, coins = made(0.0, models=6)
    found = measure(coins.astype(float), coins)
    assert (found.area, found.hits[0]) == (1.0, 1.0)
    assert found.curve[0][0] < 1e-3
    assert found.curve[-1] == (1.0, 1.0)


def test_a_single_model_has_an_error_as_well():
    values, coins = made(1.0, models=1)
    assert 0.005 < measure(values, coins).area_error < 0.05


def test_more_than_is_allowed_is_an_alarm_and_luck_is_none():
    _, coins = made(0.0)
    limit = Limit(mu=0.5)
    for hits, error, expected in ((0.02, 0.004, False), (0.30, 0.01, True), (0.30, 0.2, False)):
        found = Measured(
            area=0.5, area_error=0.0, hits=(hits, 0.0), hits_error=(error, 0.0), curve=(), others=90
        )
        assert bool(alarm(found, coins, limit, of=1)) == expected


def test_rare_false_alarms_are_shown_where_patients_are_enough_and_else_it_is_said_why():
    limit, tables = Limit(mu=0.5), []
    for patients in (10_400, 9_000):
        values, coins = made(2.0, models=2, patients=patients, spread=0.0)
        found = measure(values, coins)
        assert found.others == (~coins).sum(axis=1).min()
        few = shown(measure(values[:, :60], coins[:, :60]), limit)
        tables.append(with_rare(COLUMNS, [few, shown(found, limit)]))
        if patients > 10_000:
            row = shown(found, limit)
            assert row["hits_2_text"].startswith(f"{found.hits[1]:.3f} (")
            assert row["most_hits_2"] == limit.most_hits(0.001)
            # A normal score two spreads higher is above 0.1% of the others' in so many cases.
            assert found.hits[1] == pytest.approx(norm.sf(norm.isf(0.001) - 2.0), abs=0.04)
        assert few["hits_2_text"] is None and few["most_hits_2"] is None
    (whole, dash), (short, why) = tables
    assert [one.key for one in whole if one not in short] == ["hits_2_text", "most_hits_2"]
    assert "fewer than 5,000" in dash and "takes 5,000 patients outside" in why


def test_an_area_beyond_the_limit_is_an_alarm_where_few_false_alarms_show_nothing():
    # Half of the noise that was promised, and too few patients to see it at 1%.
    scores, coins = made(1.0, models=10, patients=200, spread=0.0)
    found, limit = measure(scores, coins), Limit(mu=0.5)
    assert not alarm(found, coins, Limit(mu=1.0), of=3)
    assert f"AUC {found.area:.3f}, where at most" in alarm(found, coins, limit, of=3)


def test_who_is_told_from_a_holdout_of_others_is_not_held_against_epsilon():
    for told, expected in (([], True), (["partition.shift=0.5", "data.name=digits"], False)):
        settings = resolve(find_scenario("default"), told, {})
        assert Ground(settings=settings).split_by_chance == expected


def test_more_rare_hits_than_are_allowed_are_an_alarm():
    values, coins = made(4.0, models=2, patients=10_400, spread=0.0)
    found = measure(values, coins)
    allowed = Limit(claims=((5.0, 0.1),))
    assert allowed.most_hits(0.01) > 0.99 and allowed.most_hits(0.001) < 0.3
    assert "at 0.1% FPR, where at most 0.2" in alarm(found, coins, allowed, of=1)


def test_hospitals_hold_whom_the_coins_chose_and_the_holdout_stays(ground):
    (records,) = ground.cohorts.split(ground.told(Way(regime="C")), 1).records.values()
    pool = Pool.tossed(ground, records, 2, most=50, wrong=0.2)
    settings = ground.told(Way(regime="F"), {"run.seed": 9})
    cohorts = ChangedCohorts(ground.cohorts, ground.seed, pool.change(ground, 1))
    cohort = cohorts.of(settings)
    held = np.concatenate([one.patient_ids for one in cohort.records.values()])
    assert sorted(held) == sorted(pool.patients[pool.coins[1]])
    assert np.array_equal(cohort.holdout.patients, ground.cohort.holdout.patients)
    labels = dict(zip(records.patients, records.labels, strict=True))
    for one in cohort.records.values():
        for patient, label in zip(one.patients, one.labels, strict=True):
            assert (label != labels[patient]) == (patient in pool.wrong)


def test_a_training_over_chosen_patients_leaves_a_model_that_answers(ground, tmp_path):
    (records,) = ground.cohorts.split(ground.told(Way(regime="C")), 1).records.values()
    pool = Pool.tossed(ground, records, 1)
    settings = ground.told(Way(regime="FSCDP", epsilon=10.0))
    cohorts = ChangedCohorts(ground.cohorts, ground.seed, pool.change(ground, 0))
    first, again = (train(settings, cohorts, tmp_path / name) for name in "ab")
    assert all((first.model[name] == again.model[name]).all() for name in first.model)
    assert not list(tmp_path.iterdir())
    odds = log_odds(module_of(settings, ground, first.model), pool)
    assert odds.shape == pool.patients.shape
    assert np.mean(odds > 0) > 0.6


def test_too_few_models_are_refused(capsys):
    assert main(["attack", "membership", "default", "--trials", "3"]) == 2
    assert "6 models of each way at least" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_patients_are_told_from_an_overfitted_model_and_not_behind_noise(tmp_path):
    words = ["attack", "membership", "default", "--trials", "6", "--epsilons", "1"]
    words += ["--regimes", "F,FSCDP", "--out", str(tmp_path)]
    assert main(words + [word for one in SMALL for word in ("--set", one)]) == 0
    found = json.loads((tmp_path / "attack-default" / "attacks.json").read_text())["membership"]
    assert found["control"]["succeeded"]
    rows = {(row["way"], row["attacker"]): row for row in found["rows"]}
    noised = rows["FSCDP, epsilon 1", "LiRA, answers"]
    assert noised["area"] < noised["most_area"] < 0.75
    assert noised["hits"] < noised["most_hits"] + 5 * noised["hits_error"]
    assert (tmp_path / "attack-default" / "figures" / "attack-membership.svg").is_file()
