import subprocess
import sys

import numpy as np
import pytest

from clients.data import DataError, Records
from clients.data.partition import (
    PARTITIONS,
    PatientTable,
    Split,
    partition_patients,
    patient_table,
)


def make_table(patients=200, classes=5, hospitals=None):
    numbers = np.arange(patients)
    return patient_table(
        Records(
            inputs=np.zeros((patients, 1), dtype=np.float32),
            labels=numbers % classes,
            patients=numbers,
            hospitals=None if hospitals is None else numbers % hospitals,
        )
    )


def split(name, hospitals, **options):
    table = make_table(hospitals=4)
    options.setdefault("hospital_names", ("d", "c", "b", "a"))
    return partition_patients(table, name=name, hospitals=hospitals, **options)


@pytest.mark.parametrize("name", sorted(set(PARTITIONS) - {"natural"}))
@pytest.mark.parametrize("hospitals", [1, 2, 9])
def test_every_patient_goes_to_exactly_one_hospital(name, hospitals):
    names, parts = split(name, hospitals, seed=4)
    assert len(names) == len(parts) == hospitals
    assert list(names) == sorted(names)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(200))


def test_natural_hospitals_come_sorted_by_name():
    names, parts = split("natural", 4)
    assert names == ("a", "b", "c", "d")
    assert [int(part[0]) for part in parts] == [3, 2, 1, 0]


def test_a_table_row_is_a_patient_with_the_label_most_of_their_rows_carry():
    table = patient_table(
        Records(
            inputs=np.zeros((5, 1), dtype=np.float32),
            labels=np.array([1, 0, 1, 2, 0]),
            patients=np.array([7, 7, 7, 2, 2]),
        )
    )
    assert table.patients.tolist() == [2, 7]
    assert table.labels.tolist() == [0, 1]


def test_a_patient_of_two_hospitals_is_refused():
    with pytest.raises(DataError, match="number 1 lies in two or more hospitals"):
        patient_table(
            Records(
                inputs=np.zeros((2, 1), dtype=np.float32),
                labels=np.zeros(2, dtype=np.int64),
                patients=np.array([1, 1]),
                hospitals=np.array([0, 1]),
            )
        )


def skew(parts):
    """Mean share of a hospital's commonest label (five labels: 0.2 is even)."""
    return np.mean([np.bincount(part % 5).max() / len(part) for part in parts if len(part)])


def test_small_alpha_skews_labels_and_large_does_not():
    assert skew(split("dirichlet", 8, alpha=0.05, seed=1)[1]) > 0.6
    assert skew(split("dirichlet", 8, alpha=1000.0, seed=1)[1]) < 0.35


def test_pathological_hospitals_know_few_classes():
    _, parts = split("pathological", 5, shards=2)
    assert all(len(np.unique(part % 5)) == 2 for part in parts)


def test_quantity_skews_sizes_but_not_labels():
    _, parts = split("quantity", 4, alpha=0.7, seed=2)
    sizes = [len(part) for part in parts]
    assert max(sizes) > 2 * min(sizes)
    assert skew([part for part in parts if len(part) > 30]) < 0.4


def test_splits_follow_the_seed():
    same = [split("dirichlet", 5, seed=s)[1] for s in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(same[0], same[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(same[0], same[2], strict=True))


def test_names_sort_as_numbers_do():
    names, _ = split("iid", 150)
    assert names[2] == "hospital-002" and names[120] == "hospital-120"


def test_the_module_can_be_imported_first_and_without_heavy_libraries():
    code = (
        "import sys, clients.data.partition, clients.data, clients.models\n"
        "import clients.tasks.evaluation\n"
        "heavy = {'torch', 'sklearn', 'datasets', 'opacus', 'monai', 'PIL', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["iid", "dirichlet"])
def test_hospitals_are_dealt_as_flwr_datasets_deals_them(name):
    """Published splits stay what they are, whoever deals them."""
    datasets = pytest.importorskip("datasets")
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner

    generator = np.random.default_rng(3)
    for seed in range(5):
        patients, hospitals = int(generator.integers(40, 300)), int(generator.integers(2, 30))
        labels = generator.integers(0, 4, patients)
        alpha = float(generator.choice([0.05, 0.5, 100.0]))
        theirs = (
            IidPartitioner(hospitals)
            if name == "iid"
            else DirichletPartitioner(
                hospitals, "label", alpha, min_partition_size=0, self_balancing=False, seed=seed
            )
        )
        theirs.dataset = datasets.Dataset.from_dict({"row": range(patients), "label": labels})
        table = PatientTable(patients=np.arange(patients), labels=labels)
        parts = PARTITIONS[name](
            Split(hospitals=hospitals, alpha=alpha, shards=1, seed=seed), table
        )
        for number, mine in enumerate(parts):
            assert sorted(mine.tolist()) == sorted(theirs.load_partition(number)["row"])


def test_common_partitions_need_no_library_of_data_sets():
    code = (
        "import sys, numpy as np\n"
        "from clients.data.partition import PatientTable, partition_patients\n"
        "table = PatientTable(patients=np.arange(40), labels=np.arange(40) % 2)\n"
        "for name in ('iid', 'dirichlet', 'quantity'):\n"
        "    partition_patients(table, name=name, hospitals=4)\n"
        "assert not {'datasets', 'flwr_datasets', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
