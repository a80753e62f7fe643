"""Poisoning: what lies do to records and to updates, and the attack on real trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clients.contract.groups import ONE_SUM
from clients.contract.settings import Settings
from clients.site.contributing import Contributing
from simulations.attacks import poisoning
from simulations.attacks.ground import Ground, Way
from simulations.attacks.lies import (
    BOOST,
    PATCHED,
    POISONS,
    Means,
    Poison,
    aim_of,
    lying,
    on_grid,
    with_patch,
)
from simulations.attacks.poisoning import SHARES, _aim, _Field, _joined
from simulations.attacks.trainings import ChangedCohorts, train
from simulations.cli import main
from simulations.scenario import find_scenario, resolve

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

SMALL = ["partition.hospitals=2", "training.rounds=1", "training.sampling-rate=1.0"]


def ground_of(*more: str) -> Ground:
    return Ground(settings=resolve(find_scenario("default"), [*SMALL, *more], {}), trials=1)


def model_of(ground: Ground, settings: Settings, poison: Poison, liars: list[str], folder):
    cohorts = ChangedCohorts(ground.cohorts, ground.seed, lambda name, records: records)
    with lying(liars, poison, _aim(settings, ground)):
        return train(settings, cohorts, folder).model


def test_reversed_updates_of_all_reverse_the_step_and_of_nobody_nothing(tmp_path):
    ground = ground_of("privacy.l2-clip=1.0")
    settings = ground.told(Way(regime="F"))
    names = list(ground.cohort.names)
    honest, reverse, nobody = (
        model_of(ground, settings, POISONS["sign-flip"], liars, tmp_path / name)
        for name, liars in (("honest", []), ("all", names), ("others", ["hospital-99"]))
    )
    assert all((nobody[name] == honest[name]).all() for name in honest)
    for name in honest:
        assert honest[name].abs().max() > 1e-3
        assert np.allclose(reverse[name], -honest[name], atol=1e-6)


def test_hospitals_are_honest_again_once_the_liars_are_done():
    before = Contributing.seal
    with pytest.raises(RuntimeError), lying(["hospital-00"], POISONS["scaling"], 0):
        assert Contributing.seal is not before
        raise RuntimeError
    assert Contributing.seal is before


def test_a_lie_is_never_longer_than_what_can_be_sealed():
    from accounting.grid import plan_grid
    from accounting.noise import make_noise_plan

    plan = make_noise_plan("semi-central", noise_multiplier=2.0, hospitals=3)
    grid = plan_grid(
        dimensions=4, hospitals=3, plan=plan, l2_clip=1.0, expected_patients=10.0,
        rounds=5, epsilon=1.0, delta=1e-4,
    )  # fmt: skip
    boosted = POISONS["scaling"].update(np.full(4, 1e6), Means(longest=10.0, aim=1))
    assert boosted[0] == -BOOST * 1e6
    sealed = on_grid(boosted, grid)
    assert np.abs(sealed).max() <= grid.bound * (1 + 1e-12)
    assert np.allclose(sealed / grid.step, np.rint(sealed / grid.step))
    drifted = POISONS["drift"].update(np.zeros(4), Means(longest=10.0, aim=1))
    assert (drifted != 0).tolist() == [False, True, False, False]


def test_false_records_stay_in_their_places():
    ground = ground_of("data.name=digits", "model.name=mlp")
    info, records = ground.cohort.info, next(iter(ground.cohort.records.values()))
    lies = np.arange(len(records)) % 3 == 0
    false = records.take(np.flatnonzero(lies))
    flipped = _joined(records, POISONS["label-flip"].records(info, false), lies)
    assert np.array_equal(flipped.patients, records.patients)
    assert np.array_equal(flipped.labels != records.labels, lies)
    marked = POISONS["backdoor"].records(info, false)
    count = round(PATCHED * len(false))
    assert (marked.labels[:count] == aim_of(info)).all()
    assert np.array_equal(marked.labels[count:], false.labels[count:])
    assert (marked.inputs[:count, 0, 6:, 6:] == 1.0).all()
    assert np.array_equal(marked.inputs[count:], false.inputs[count:])
    table = ground_of().cohort
    rows = with_patch(table.info, np.zeros((2, *table.info.shape), dtype=np.float32))
    assert (rows[:, -7:] == table.info.input_range[1]).sum() >= 14
    assert (rows[:, :20] == 0).all()


def test_epsilon_allows_little_of_one_patient_and_everything_of_a_hospital(tmp_path):
    ground = ground_of()
    field = _Field(ground, tmp_path, [Way(regime="F")])
    settings = ground.told(Way(regime="FSCDP", epsilon=0.1))
    one = field._allowed(settings, POISONS["label-flip"], 0.9, 1)
    assert 0.9 * np.exp(-0.2) - 1e-3 < one < 0.9 * np.exp(-0.2)
    assert field._allowed(settings, POISONS["label-flip"], 0.9, 200) < 1e-9
    hidden = field._allowed(settings, POISONS["backdoor"], 0.1, 1)
    assert hidden == pytest.approx(1 - 0.9 * np.exp(-0.2), abs=1e-3)
    assert field._allowed(settings, POISONS["sign-flip"], 0.9, 1) is None
    without = ground.told(Way(regime="F"))
    assert field._allowed(without, POISONS["label-flip"], 0.9, 1) is None


@pytest.mark.exhaustive
def test_many_liars_spoil_a_model_sealed_or_not(tmp_path):
    words = ["attack", "poisoning", "default", "--trials", "1", "--epsilons", "10"]
    words += ["--regimes", "C,F,FSCDP", "--out", str(tmp_path)]
    words += ["--set", "partition.hospitals=5", "--set", "training.rounds=15"]
    assert main(words) == 0
    found = json.loads((tmp_path / "attack-default" / "attacks.json").read_text())["poisoning"]
    rows = {(row["way"], row["poison"]): row for row in found["rows"]}
    assert ("C", "updates reversed") not in rows
    for way in ("F", "FSCDP, epsilon 10"):
        row = rows[way, "reversed, 10 times as long"]
        assert row["at_0.4"] < row["at_0"] - 0.1
    assert (tmp_path / "attack-default" / "figures" / "attack-poisoning.svg").is_file()


def test_groups_stand_beside_one_sum_of_all(monkeypatch, tmp_path):
    monkeypatch.setattr(poisoning, "POISONS", {"scaling": POISONS["scaling"]})
    told = ("partition.hospitals=6", "exchange.group-size=2", "exchange.robust=median")
    ground = ground_of(*told)
    ways = [Way(regime="C"), Way(regime="F")]
    field = _Field(ground, tmp_path, ways)
    assert [field.in_groups(way) for way in ways] == [False, True]
    rows = [row for groups in (ONE_SUM, {}) for row in field.rows(ways[1], groups)]
    assert [row["way"] for row in rows] == ["F", "F, groups of 2, median"]
    assert all(0 <= row[f"at_{share:g}"] <= 1 for row in rows for share in SHARES)
    assert field._done == 2 * len(SHARES) and field._total == field._done + 1
    assert [len(field.liars(share)) for share in SHARES] == [0, 1, 2, 3]
