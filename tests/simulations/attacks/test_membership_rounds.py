"""Membership from every round: the ratios against the laws themselves, and on real trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from accounting.attack_limits import limit_of
from simulations.attacks.ground import Ground, Way
from simulations.attacks.membership_rounds import _control, _Watch, sights_of
from simulations.attacks.roc import alarm, measure
from simulations.attacks.round_ratios import round_ratios
from simulations.attacks.trainings import train
from simulations.attacks.watch import by_patient, watched
from simulations.cli import main
from simulations.scenario import find_scenario, resolve

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SMALL = ["partition.hospitals=2", "training.rounds=3", "training.sampling-rate=0.5"]


@pytest.fixture
def ground():
    return Ground(settings=resolve(find_scenario("default"), SMALL, {}), epsilons=(1.0,))


@pytest.mark.parametrize(("patients", "values"), [(5, 8), (9, 4)])
def test_ratios_are_those_of_the_two_normal_laws(patients, values):
    generator = np.random.default_rng(3)
    gradients = generator.normal(size=(patients, values))
    seen, variance, rate = generator.normal(size=values), 0.3, 0.4
    chance, eye = rate / 2, np.eye(values)
    found = round_ratios(gradients, seen, variance, rate)
    for one, own in enumerate(gradients):
        others = np.delete(gradients, one, axis=0)
        law = multivariate_normal(
            chance * others.sum(axis=0),
            variance * eye + chance * (1 - chance) * others.T @ others,
        )
        without, with_own = law.pdf(seen), law.pdf(seen - own)
        expected = np.log((1 - rate) * without + rate * with_own) - np.log(without)
        assert found[one] == pytest.approx(expected, abs=1e-9)


def test_without_noise_a_sum_tells_who_is_in_it():
    generator = np.random.default_rng(4)
    gradients = generator.normal(size=(40, 60))
    sampled = generator.random(40) < 0.3
    found = round_ratios(gradients, gradients[sampled].sum(axis=0), 1e-10, 0.5)
    assert np.array_equal(found > 0, sampled)


def test_what_is_watched_is_what_is_opened_and_watching_changes_nothing(ground, tmp_path):
    settings, rounds = ground.told(Way(regime="FSCDP", epsilon=1.0)), []

    def tell(seen):
        held = ground.prepared(ground.cohort.records[sorted(seen.updates)[0]])
        made = seen.gradients(by_patient(held)[:4])
        model = seen.replica.vector()
        rounds.append((seen.total, sum(seen.updates.values()), made, model))

    plain = train(settings, ground.cohorts, tmp_path / "plain")
    with watched(tell):
        again = train(settings, ground.cohorts, tmp_path / "watched")
    assert all((plain.model[name] == again.model[name]).all() for name in plain.model)
    assert len(rounds) == settings.training.rounds
    for total, added, made, _ in rounds:
        assert np.allclose(total, added, rtol=0, atol=1e-9)
        lengths = np.linalg.norm(made, axis=1)
        assert np.all((lengths > 0) & (lengths <= settings.privacy.l2_clip))
    assert not np.allclose(rounds[0][3], rounds[2][3])


def test_the_noise_that_a_sight_counts_on_is_in_it(ground, tmp_path):
    # With a clip next to nothing, all that is in a sum is noise.
    changes = {"privacy.l2-clip": 1e-3, "training.sampling-rate": 0.5}
    for way in (Way(regime="FSCDP", epsilon=1.0), Way(regime="FPDP", epsilon=1.0)):
        watch = _Watch(ground, way, 1)
        settings, seen = ground.told(way, changes), []
        with watched(seen.append):
            train(settings, ground.cohorts, tmp_path / way.regime)
        single, total = sights_of(way, watch._plan)
        clip = settings.privacy.l2_clip
        updates = np.concatenate([value for one in seen for value in one.updates.values()])
        rest = [one.total - one.updates[watch._watcher] for one in seen]
        assert np.std(updates) / clip > 0.9 * single.noise
        assert np.std(rest) / clip > 0.9 * total.noise


def made_rounds(noise, believed, *, models=20, patients=100, rate=0.3, rounds=10):
    """Ratios and coins where patients add vectors of length 1 that have nothing in common."""
    generator, gradients = np.random.default_rng(5), np.eye(patients)
    coins = generator.random((models, patients)) < 0.5
    ratios = np.zeros(coins.shape)
    for model, _ in np.ndindex(models, rounds):
        sampled = coins[model] & (generator.random(patients) < rate)
        seen = sampled + noise * generator.normal(size=patients)
        ratios[model] += round_ratios(gradients, seen, believed**2, rate)
    return ratios, coins


def test_the_best_that_can_be_told_is_near_what_is_allowed_and_not_beyond():
    limit = limit_of(
        sampling_rate=0.3, noise_multiplier=1.0, count=10, delta=1e-4, accountant="prv"
    )
    ratios, coins = made_rounds(1.0, 1.0)
    found = measure(ratios, coins)
    assert 0.5 + 0.6 * (limit.most_area() - 0.5) < found.area < limit.most_area()
    assert not alarm(found, coins, limit, of=1)
    without = measure(*made_rounds(1e-4, 1e-4))
    assert alarm(without, coins, limit, of=1)


def test_an_alarm_says_in_which_regime_and_who_sees_it(ground):
    watch, alarms = _Watch(ground, Way(regime="FSCDP", epsilon=1.0), 1), []
    single, total = watch._sights
    for sight, scores in ((single, watch._pool.coins * 1.0), (total, watch._pool.coins * 0.0)):
        row = watch._row(sight.key, sight.title, scores, *watch._limit(sight), alarms)
        assert row["most_area"] < 1.0
    assert [one[:33] for one in alarms] == ["FSCDP, epsilon 1, every share: AU"]


@pytest.mark.parametrize(("area", "error", "works"), [(0.9, 0.02, True), (0.75, 0.02, False)])
def test_the_control_tells_half_of_what_rounds_can_tell(ground, area, error, works):
    row = {"way": "F", "key": "single", "area": area, "area_error": error, "hits": 0.5}
    found = _control([row], ground.told(Way(regime="F")))
    assert found.succeeded == works
    assert "0.88 are in any round" in found.text


def test_sums_of_groups_and_other_exchanges_are_refused(capsys):
    words = ["attack", "membership-rounds", "default", "--set"]
    assert main([*words, "exchange.group-size=2", "--set", "exchange.robust=median"]) == 2
    assert "is about sums of all" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "exchange.name=weights"]) == 2
    assert "sums of clipped gradients" in " ".join(capsys.readouterr().err.split())


@pytest.mark.exhaustive
def test_every_regime_is_watched_and_none_is_beyond_what_is_allowed(tmp_path):
    words = ["attack", "membership-rounds", "default", "--trials", "2", "--out", str(tmp_path)]
    # An update of fewer patients than values tells who they are: the control succeeds.
    small = [*SMALL, "partition.hospitals=8"]
    assert main(words + [word for one in small for word in ("--set", one)]) == 0
    folder = tmp_path / "attack-default"
    found = json.loads((folder / "attacks.json").read_text())["membership-rounds"]
    assert found["control"]["succeeded"]
    rows = {(row["way"], row["sees"]): row for row in found["rows"]}
    assert len(rows) == 3 * 7 + 2 * 4
    assert rows["F", "every update"]["area"] > rows["F", "the final model"]["area"] + 0.2
    assert rows["FSCDP, epsilon 1", "every sum"]["run_epsilon"] > 1.0
    assert (folder / "figures" / "attack-membership-rounds.svg").is_file()


@pytest.mark.exhaustive
def test_a_small_model_of_many_patients_shows_rare_false_alarms(tmp_path):
    generator = np.random.default_rng(6)
    values = generator.uniform(-1, 1, (14_000, 2))
    labels = (values[:, 0] + 0.3 * generator.normal(size=len(values)) > 0).astype(int)
    rows = [f"{x:.3f},{y:.3f},{label}" for (x, y), label in zip(values, labels, strict=True)]
    (tmp_path / "many.csv").write_text("\n".join(["x,y,ill", *rows]) + "\n")
    told = 'target = "ill"\nclasses = ["0", "1"]\n[ranges]\nx = [-1, 1]\ny = [-1, 1]\n'
    (tmp_path / "many.toml").write_text(told)
    words = ["attack", "membership-rounds", "default", "--trials", "1", "--out", str(tmp_path)]
    words += ["--regimes", "F,FSCDP", "--epsilons", "1"]
    made = [f"data.name=csv:{tmp_path}/many.csv", "training.rounds=2"]
    made += ["partition.hospitals=2", "partition.name=iid"]
    # Three values tell few of thousands apart, so the control does not succeed, and it is said.
    assert main(words + [word for one in made for word in ("--set", one)]) == 1
    found = json.loads((tmp_path / "attack-default" / "attacks.json").read_text())
    found = found["membership-rounds"]
    assert "hits_2_text" in [one["key"] for one in found["columns"]]
    rows = {(row["way"], row["sees"]): row for row in found["rows"]}
    noised = rows["FSCDP, epsilon 1", "the final model"]
    assert noised["others"] >= 5_000
    assert float(noised["hits_2_text"].split()[0]) < 0.01
    assert 0.001 < noised["most_hits_2"] < noised["most_hits"] < 0.1
    # The watcher's own patients are not asked about, so fewer are left of a sum.
    assert rows["F", "every sum"]["hits_2_text"] is None
