"""One record's target decides nothing about the targets of others."""

from __future__ import annotations

import numpy as np
import pytest

from asclepias import Patients


@pytest.mark.parametrize("odd", [2**63, 2**63 - 1, np.uint64(1), True, "7", 3 + 1j, None])
def test_a_target_of_another_type_leaves_others_as_they_are(odd: object) -> None:
    whole = [(np.zeros(2), number % 3) for number in range(4)]
    found = Patients.gathered([*whole[:2], (np.zeros(2), odd), *whole[2:]])
    assert found.targets.dtype == np.int64
    others = found.targets if len(found.targets) == 4 else np.delete(found.targets, 2)
    assert others.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("odd", [np.longdouble(0.5), np.float16(0.5), 1e300])
def test_so_do_numbers_of_another_width(odd: object) -> None:
    found = Patients.gathered([(np.zeros(2), 0.25), (np.zeros(2), odd)])
    assert found.targets.dtype == np.float32
    assert found.targets[0] == 0.25


@pytest.mark.parametrize("nobody", ["", " ", "NA", "?", np.nan])
def test_people_whom_nobody_names_are_not_one_patient(nobody: object) -> None:
    rows = [(np.full(2, n), n % 2, name) for n, name in enumerate(["a", nobody, "b", nobody])]
    for found in (Patients.gathered(rows), Patients(*map(list, zip(*rows, strict=True)))):
        assert found.inputs[:, 0].tolist() == [0.0, 2.0]
        assert found.targets.tolist() == [0, 0]
        assert found.numbers.tolist() == [0, 1]


@pytest.mark.parametrize("odd", [2**63, 2**63 - 1, np.uint64(1), True])
def test_nor_does_one_in_a_list(odd: object) -> None:
    found = Patients(np.zeros((4, 2)), [-1, 1, odd, 2])
    assert found.targets.dtype == np.int64
    assert np.delete(found.targets, 2).tolist() == [-1, 1, 2]


@pytest.mark.parametrize("odd", [0.5, "7", 3 + 1j, None, [1, 2]])
def test_a_list_of_several_forms_is_refused_as_a_whole(odd: object) -> None:
    with pytest.raises(ValueError, match="targets are"):
        Patients(np.zeros((3, 2)), [0, odd, 2])


def test_a_number_with_a_point_names_whom_it_names_without() -> None:
    found = Patients(np.zeros((4, 2)), np.zeros(4, dtype=int), patients=[1, 1.0, "2", "2.0"])
    assert found.numbers.tolist() == [0, 0, 1, 1]
