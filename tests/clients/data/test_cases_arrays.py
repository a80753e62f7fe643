"""Arrays as they are saved: each comes out right, or is refused by a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from clients.data import DataError, load_dataset

CASES = Path(os.environ.get("ASCLEPIAS_DATA", "")).parent / "cases"
needs_cases = pytest.mark.skipif(
    not (CASES / "README.md").is_file(), reason="no folder 'cases' beside ASCLEPIAS_DATA"
)
#: File -> classes; the labels are those numbers of the array's own.
READ = {
    "ok": ("0", "1"),
    "labels12": ("1", "2"),
    "onehot": ("0", "1"),
    "textlabels": ("a", "b"),
    "table": ("0", "1"),
    "float01nan": ("0", "1"),
}
REFUSED = {
    "onlytrainpatient": "an array train_patient, but no test_patient: add it, or leave out both",
    "multilabel": r"row 0 is several classes.*several can hold, declare labels = \[\"effusion\"",
    "masks": r"train_labels has shape \(20, 16, 16\): each image has one label",
    "regress": r"a measurement is no class.*target-range = \[lowest, highest\]",
    "uint16": r"of type uint16: declare.*\[ranges\] values = \[0, 4095\]",
    "hounsfield": r"a value outside \[-1, 1\]; declare.*\[ranges\] values = \[-1000, 3000\]",
    "xy": r"no array 'train_images'; it holds X, y: save it as np.savez\(file, train_images=",
}


@needs_cases
def test_every_file_of_the_folder_is_a_case():
    assert {file.stem for file in (CASES / "npz").glob("*.npz")} == {*READ, *REFUSED}


def _own_reading(name: str):
    with np.load(CASES / "npz" / f"{name}.npz") as file:
        images, labels = file["train_images"], file["train_labels"]
    if name == "onehot":
        labels = labels.argmax(axis=1)
    return images, np.asarray([READ[name].index(str(one)) for one in labels.tolist()])


@needs_cases
@pytest.mark.parametrize("name", READ)
def test_arrays_come_out_right_value_by_value(name):
    loaded = load_dataset(f"npz:{name}", CASES / "npz")
    images, labels = _own_reading(name)
    assert loaded.info.classes == READ[name]
    assert loaded.train.labels.tolist() == labels.tolist()
    expected = np.nan_to_num(images / np.float32(255) if images.dtype == np.uint8 else images)
    found = np.asarray(loaded.train.inputs).reshape(images.shape)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert loaded.info.has_patient_ids == (name == "table")
    if name == "float01nan":
        said = " ".join(loaded.log.lines())
        assert "missing value: 19" in said and 'declare [pictures] axes = "hw"' in said


@needs_cases
@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_are_not_meant_so_are_refused_by_one_sentence(name):
    with pytest.raises(DataError, match=REFUSED[name]):
        load_dataset(f"npz:{name}", CASES / "npz")


@needs_cases
@pytest.mark.parametrize(
    ("name", "low", "high", "axes"), [("uint16", 0, 4095, ""), ("hounsfield", -1000, 1100, "hw")]
)
def test_numbers_of_any_type_keep_their_contrast_by_a_declared_range(
    tmp_path, name, low, high, axes
):
    (tmp_path / "it.npz").write_bytes((CASES / "npz" / f"{name}.npz").read_bytes())
    (tmp_path / "it.toml").write_text(
        f'classes = [0, 1]\n[ranges]\nvalues = [{low}, {high}]\n[pictures]\naxes = "{axes}"\n'
    )
    with np.load(tmp_path / "it.npz") as file:
        images = file["train_images"].astype(float)
    loaded = load_dataset("npz:it", tmp_path, declared=True)
    assert (loaded.info.shape, loaded.info.kind) == ((1, 16, 16), "image")
    expected = (images - low) / (high - low)
    np.testing.assert_allclose(loaded.train.inputs[:][:, 0], expected, atol=1e-6)
    assert not loaded.log
    (tmp_path / "it.toml").write_text(f"classes = [0, 1]\n[ranges]\nvalues = [{low}, 500]\n")
    loaded = load_dataset("npz:it", tmp_path, declared=True)
    assert "cut to it: 20" in " ".join(loaded.log.lines())


def save(folder: Path, shape, dtype=np.uint8, declared: str = ""):
    n = np.prod(shape)
    values = (np.arange(n) % 251).reshape(shape).astype(dtype)
    np.savez(folder / "it.npz", train_images=values, train_labels=np.arange(shape[0]) % 2)
    (folder / "it.toml").write_text(f"classes = [0, 1]\n{declared}")
    return values


@pytest.mark.parametrize(
    ("shape", "axes", "expected", "channel"),
    [
        ((4, 3, 9, 8), "", (3, 9, 8), 1),
        ((4, 9, 8, 3), "", (3, 9, 8), 3),
        ((4, 1, 9, 8), "", (1, 9, 8), 1),
        ((4, 3, 9, 3), "chw", (3, 9, 3), 1),
        ((4, 3, 9, 3), "dhw", (1, 3, 9, 3), None),
        ((4, 5, 6, 7, 3), "", (3, 5, 6, 7), 4),
        ((4, 3, 5, 6, 7), "", (3, 5, 6, 7), 1),
    ],
)
def test_channels_come_first_wherever_they_stand(tmp_path, shape, axes, expected, channel):
    values = save(tmp_path, shape, declared=f'[pictures]\naxes = "{axes}"\n')
    loaded = load_dataset("npz:it", tmp_path)
    assert loaded.info.shape == expected
    moved = values[:, None] if channel is None else np.moveaxis(values, channel, 1)
    np.testing.assert_allclose(loaded.train.inputs[:], moved / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((4, 3, 9, 3), "", r"may be read in two ways.*\[pictures\] axes"),
        ((4, 9), "", "is none of pictures or volumes"),
        ((4, 9, 8), "hwc", r'axes = "hwc" has 3 axes of each image'),
        ((4, 9, 8, 7), "hwc", r"have 7 channels"),
    ],
)
def test_a_shape_of_two_meanings_is_refused(tmp_path, shape, axes, message):
    save(tmp_path, shape, declared=f'[pictures]\naxes = "{axes}"\n')
    with pytest.raises(DataError, match=message):
        load_dataset("npz:it", tmp_path)


def test_a_hospitals_own_labels_never_decide_on_an_answer(tmp_path):
    save(tmp_path, (20, 9, 8))
    with np.load(tmp_path / "it.npz") as file:
        images = file["train_images"]
    for labels in (np.full(20, 7), np.full(20, np.nan), np.full((20, 2), 1)):
        np.savez(tmp_path / "it.npz", train_images=images, train_labels=labels)
        loaded = load_dataset("npz:it", tmp_path, declared=True)
        assert len(loaded.train) == 0 and "no declared class" in loaded.log.lines()[0]
        with pytest.raises(DataError, match="20 of 20 are none of the classes"):
            load_dataset("npz:it", tmp_path)
