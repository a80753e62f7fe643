"""A patient is the same one from one reading of the records to the next, whoever else is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clients.data import Dataset, load_dataset
from clients.data.identities import identities
from clients.data.records import LazyInputs, PixelStore, Records, dense


def records(values: list[float], labels: list[int], patients: list[int]) -> Records:
    inputs = np.asarray(values, dtype=np.float32).reshape(-1, 1)
    return Records(
        inputs=inputs,
        labels=np.asarray(labels, dtype=np.int64),
        patients=np.asarray(patients, dtype=np.int64),
    )


def named(names: list[str]) -> dict[str, bytes]:
    numbers, known = dense(names)
    found = identities(records([0.0] * len(names), [0] * len(names), numbers.tolist()), known)
    return {known[number]: one for number, one in found.items()}


def test_who_is_named_is_known_by_the_name_alone() -> None:
    before, after = named(["b", "a", "c", "b"]), named(["c", "0", "b"])
    assert len(set(before.values())) == 3
    assert {name: after[name] for name in ("b", "c")} == {n: before[n] for n in ("b", "c")}


def test_who_is_not_named_is_known_by_the_records() -> None:
    before = identities(records([1, 2, 3, 2, 2], [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]))
    # Somebody left, and the file is sorted otherwise: 3, 2, 2 (another label), 2.
    after = identities(records([3, 2, 2, 2], [0, 1, 0, 1], [0, 1, 2, 3]))
    assert len(set(before.values())) == 5
    assert (after[0], after[2]) == (before[2], before[4])
    assert {after[1], after[3]} == {before[1], before[3]}
    # Of two equal ones either may leave: the one that stays is the first.
    assert identities(records([2], [1], [0])) == {0: before[1]}


def test_a_patient_of_several_records_is_known_by_all_of_them() -> None:
    one = identities(records([1, 2, 9], [0, 0, 1], [0, 0, 1]))
    assert identities(records([9, 2, 1], [1, 0, 0], [0, 1, 1])) == {0: one[1], 1: one[0]}
    assert one[0] not in identities(records([1, 9], [0, 1], [0, 1])).values()
    assert identities(records([], [], [])) == {}


def test_pictures_are_known_by_their_files_and_those_in_memory_by_what_is_in_them(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "c"):
        for label in ("no", "yes"):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (8, 8), ord(name)).save(tmp_path / label / f"{name}.png")
    (tmp_path / "dataset.toml").write_text('classes = ["no", "yes"]\n')

    def read() -> Dataset:
        return load_dataset(f"image-folder:{tmp_path}", image_size=8, declared=True)

    before = identities(read().train)
    assert len(set(before.values())) == 6
    (tmp_path / "no" / "a.png").unlink()
    assert set(before.values()) - set(identities(read().train).values()) == {before[0]}
    pixels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)

    def held(rows: list[int]) -> dict[int, bytes]:
        store = PixelStore(pixels[rows], channels_last=False)
        numbers = np.arange(len(rows), dtype=np.int64)
        return identities(
            Records(inputs=LazyInputs(store), labels=np.zeros_like(numbers), patients=numbers)
        )

    four = held([0, 1, 2, 3])
    assert held([3, 1]) == {0: four[3], 1: four[1]}
