"""A model that is wrong for one part of a table's records is told by that part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.data.records import DatasetInfo
from clients.prediction.subgroups import LEAST_RECORDS, by_subgroup
from tests.clients.prediction.models import picture_info, visits_info


def test_the_part_that_a_model_is_wrong_for_is_named(tmp_path: Path) -> None:
    info = visits_info(tmp_path)  # age, pulse, sex = f, sex = m
    random = np.random.default_rng(0)
    inputs = random.uniform(-1, 1, (200, 4)).astype(np.float32)
    women = random.random(200) < 0.5
    inputs[:, 2], inputs[:, 3] = np.where(women, 1, -1), np.where(women, -1, 1)
    labels = random.integers(0, 2, 200)
    found = by_subgroup(info, inputs, labels, np.where(women, labels, 1 - labels))
    assert found["sex = f"] == {"records": int(women.sum()), "accuracy": 1.0}
    assert found["sex = m"] == {"records": int((~women).sum()), "accuracy": 0.0}
    old = inputs[:, 0] > 0
    assert found["age: upper half"] == {
        "records": int(old.sum()),
        "accuracy": float(women[old].mean()),
    }
    assert not [name for name in found if name.startswith("pulse")]


def test_parts_of_few_records_and_of_pictures_are_not_shown(tmp_path: Path) -> None:
    info, few = visits_info(tmp_path), LEAST_RECORDS - 1
    inputs = np.tile(np.array([0.5, 0.1, 1, -1], np.float32), (few, 1))
    nobody = np.zeros(few, dtype=np.int64)
    assert by_subgroup(info, inputs, nobody, nobody) == {}
    pictures = np.zeros((90, 1, 16, 16), np.float32)
    zeros = np.zeros(90, dtype=np.int64)
    assert by_subgroup(picture_info(), pictures, zeros, zeros) == {}


def test_declared_arrays_that_name_no_column_have_parts_by_number() -> None:
    random = np.random.default_rng(1)
    info = DatasetInfo(
        name="npz:visits.npz",
        title="arrays",
        task="binary",
        shape=(2,),
        classes=("a", "b"),
        declared={"classes": '["a", "b"]'},
    )
    inputs = np.where(random.random((80, 2)) < 0.5, -1.0, 1.0)
    labels = (inputs[:, 0] > 0).astype(np.int64)
    found = by_subgroup(info, inputs, labels, np.ones_like(labels))
    assert found["input 0: upper half"]["accuracy"] == 1.0
    assert found["input 0: lower half"]["accuracy"] == 0.0
