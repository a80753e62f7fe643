import os
import pickle

import numpy as np
import pytest

from clients.contract.settings import Settings
from clients.data import Cohorts, DataError

DATA = os.environ.get("ASCLEPIAS_DATA", "")
needs_data = pytest.mark.skipif(not os.path.isdir(DATA), reason="ASCLEPIAS_DATA is not set")


def load(name="breast-cancer", *, folder="", partition="dirichlet", hospitals=10, seed=-1, **more):
    """A cohort; what the settings would refuse is laid on them as it is."""
    settings = Settings.from_config({"run.seed": seed, "data.public": more.pop("public", False)})
    data = {"name": name, "dir": folder, "holdout": more.pop("holdout", 0.2)}
    groups = {
        "data": settings.data.model_copy(update=data),
        "partition": settings.partition.model_copy(update={"name": partition, **more}),
    }
    return Cohorts().split(settings.model_copy(update=groups), hospitals)


def many_images_a_patient(folder):
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 60, 300)
    np.savez(
        folder / "made.npz",
        train_images=generator.integers(0, 256, (300, 8, 8)).astype(np.uint8),
        train_labels=(patients % 3).astype(np.uint8),
        train_patient=patients,
        train_hospital=patients % 4,
    )
    return str(folder)


@pytest.mark.parametrize(
    ("partition", "hospitals"),
    [
        ("iid", 5),
        ("dirichlet", 7),
        ("shards", 5),
        ("pathological", 3),
        ("quantity", 6),
        ("natural", 4),
    ],
)
def test_no_patient_is_in_two_places(tmp_path, partition, hospitals):
    cohort = load(
        "npz:made",
        folder=many_images_a_patient(tmp_path),
        partition=partition,
        hospitals=hospitals,
        public=True,
    )
    places = [cohort.hospital(name) for name in cohort.names]
    seen = [set(place.patients.tolist()) for place in [*places, cohort.holdout]]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 60
    assert sum(map(len, places)) + len(cohort.holdout) == 300
    tests = [cohort.hospital_test(name) for name in cohort.names]
    assert sum(len(test) for test in tests) == len(cohort.holdout)


def test_splitting_rows_instead_would_tear_patients_apart(tmp_path):
    # The negative control of the test above: the same rows, split without looking at patients.
    cohort = load("npz:made", folder=many_images_a_patient(tmp_path), hospitals=1)
    patients = cohort.hospital(cohort.names[0]).patients
    halves = set(patients[::2].tolist()) & set(patients[1::2].tolist())
    assert len(halves) > 20


def test_declared_numbers_are_the_patients_not_the_rows(tmp_path):
    cohort = load("npz:made", folder=many_images_a_patient(tmp_path), hospitals=3)
    assert cohort.patients == sum(cohort.patients_by_hospital.values()) < 60
    assert cohort.patients < sum(len(cohort.hospital(name)) for name in cohort.names)


def test_the_holdout_does_not_depend_on_the_partition():
    cohorts = [load(partition=name, hospitals=k) for name, k in (("iid", 3), ("dirichlet", 10))]
    held = [set(cohort.holdout.patients.tolist()) for cohort in cohorts]
    assert held[0] == held[1]
    assert held[0] != set(load(seed=5).holdout.patients.tolist())


def test_the_same_seed_makes_the_same_cohort():
    first, again = load(seed=3), load(seed=3, public=True)
    for name in first.names:
        np.testing.assert_array_equal(first.hospital(name).inputs, again.hospital(name).inputs)


def test_runs_that_differ_in_nothing_about_data_share_their_records_and_others_do_not():
    settings = Settings.from_config({"partition.hospitals": 3})
    cohorts = Cohorts()
    first = cohorts.of(settings)
    assert cohorts.of(settings.with_config({"training.rounds": 5, "privacy.l2-clip": 2.0})) is first
    for change in (
        {"run.seed": 3},
        {"partition.alpha": 9.0},
        {"partition.hospitals": 4},
        {"data.holdout": 0.3},
        {"data.public": True},
        {"privacy.regime": "CDP"},
    ):
        other = cohorts.of(settings.with_config(change))
        assert (other.names, other.patients_by_hospital, len(other.holdout), bool(other.tests)) != (
            (first.names, first.patients_by_hospital, len(first.holdout), bool(first.tests))
        )
    assert Cohorts().of(settings) is not first


def test_a_cohort_that_was_not_asked_for_lately_is_forgotten():
    cohorts = Cohorts()
    first = cohorts.of(Settings())
    for alpha in (1.0, 2.0, 3.0):
        cohorts.of(Settings.from_config({"partition.alpha": alpha}))
    assert cohorts.of(Settings()) is first
    for alpha in (4.0, 5.0, 6.0, 7.0):
        cohorts.of(Settings.from_config({"partition.alpha": alpha}))
    assert cohorts.of(Settings()) is not first


def test_what_another_process_has_dealt_is_not_dealt_again(monkeypatch):
    settings = Settings.from_config({"data.public": True})
    first = Cohorts()
    cohort = first.of(settings)

    def dealt_again(*_, **options):
        raise AssertionError(options)

    monkeypatch.setattr("clients.data.partition.partition_patients", dealt_again)
    with pytest.raises(AssertionError):
        Cohorts().of(settings)
    other = Cohorts(pickle.loads(pickle.dumps(first.deals))).of(settings)
    assert other.names == cohort.names
    for name in cohort.names:
        for one, two in ((cohort.records, other.records), (cohort.tests, other.tests)):
            np.testing.assert_array_equal(one[name].inputs, two[name].inputs)


def test_a_deal_of_other_patients_is_refused():
    cohorts = Cohorts()
    cohorts.of(Settings())
    [(key, (names, parts))] = cohorts.deals.items()
    with pytest.raises(DataError, match="read the same files"):
        Cohorts({key: (names, [part[1:] for part in parts])}).of(Settings())


def test_a_hospital_without_patients_is_part_of_the_cohort():
    sizes = [min(load(alpha=0.05, seed=s).patients_by_hospital.values()) for s in range(4)]
    assert 0 in sizes


def test_hospitals_show_no_test_records_unless_data_are_declared_public():
    assert load().hospital_test("hospital-00") is None
    assert load(public=True).hospital_test("hospital-03") is not None


def test_an_unknown_hospital_is_named():
    with pytest.raises(DataError, match="no hospital 'x'"):
        load().hospital("x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partition": "dirichlt"}, "unknown partition 'dirichlt'; known: dirichlet"),
        ({"partition": "natural"}, "the data set names no hospitals"),
        (
            {"hospitals": 1000},
            "is 1000, but there are 456 patients to deal.*at most 456",
        ),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"shift": 1.0}, "partition.shift is for pictures"),
        ({"holdout": 1.5}, "data.holdout is 1.5"),
    ],
)
def test_an_impossible_split_says_why(change, message):
    with pytest.raises(DataError, match=message):
        load(**change)


def test_a_scanner_changes_pictures_its_own_way_and_nothing_else():
    plain, shifted = (load("digits", hospitals=3, shift=s) for s in (0.0, 1.0))
    moved = []
    for name in plain.names:
        before, after = plain.hospital(name), shifted.hospital(name)
        np.testing.assert_array_equal(before.labels, after.labels)
        pixels = after.inputs[:20]
        assert pixels.min() >= 0 and pixels.max() <= 1
        np.testing.assert_array_equal(pixels, after.inputs[:20])
        np.testing.assert_array_equal(pixels[7], after.inputs[7])
        moved.append(float(np.mean(pixels - before.inputs[:20])))
    assert len(set(moved)) == 3
    np.testing.assert_array_equal(plain.holdout.inputs[:5], shifted.holdout.inputs[:5])


@needs_data
def test_real_hospitals_keep_their_names_patients_and_own_tests():
    cohort = load(
        "heart-disease", folder=DATA, partition="natural", hospitals=4, holdout=0.34, public=True
    )
    assert cohort.names == ("cleveland", "hungarian", "switzerland", "va")
    assert cohort.patients_by_hospital["cleveland"] == 200
    for number, name in enumerate(cohort.names):
        assert set(cohort.hospital(name).hospitals) == {number}
        assert set(cohort.hospital_test(name).hospitals) == {number}
    with pytest.raises(DataError, match="come from 4 real hospitals"):
        load("heart-disease", folder=DATA, partition="natural", hospitals=10)


@needs_data
def test_pooled_heart_disease_is_judged_on_the_same_patients():
    pooled = load("heart-disease", folder=DATA, partition="iid", hospitals=1, holdout=0.34)
    federated = load("heart-disease", folder=DATA, partition="natural", hospitals=4, holdout=0.34)
    np.testing.assert_array_equal(pooled.holdout.patients, federated.holdout.patients)
    assert pooled.patients == federated.patients


@needs_data
def test_chest_xrays_use_the_official_test_part_and_share_one_store():
    cohort = load("chest-xray", folder=DATA)
    assert (cohort.patients, len(cohort.holdout)) == (3654, 624)
    stores = {id(cohort.hospital(name).inputs.store) for name in cohort.names}
    assert stores == {id(cohort.holdout.inputs.store)}
