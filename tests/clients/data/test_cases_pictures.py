"""Folders of pictures as hospitals export them: each comes out right, or a sentence refuses it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.data import DataError, load_dataset
from clients.data.records import readable

CASES = Path(os.environ.get("ASCLEPIAS_DATA", "")).parent / "cases" / "img"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="no folder 'cases' beside ASCLEPIAS_DATA"
)
#: Folder -> how many of its pictures are trained on, and how many patients there are.
READ = {
    "png8": (12, 12),
    "rgba": (12, 12),
    "corrupt": (12, 12),
    "notimage": (12, 12),
    "nested": (12, 3),
    "hospitals": (16, 16),
    "valtoo": (24, 24),
    "masks": (12, 12),
    "macos": (12, 12),
    "uppercase": (12, 12),
    "owners": (12, 6),
    "owners2": (12, 6),
}
REFUSED = {
    "png16": r"b0.png: whole numbers of 16 bits: declare.*\[ranges\] values = \[0, 4095\]",
    "tiff16": r"b0.tif: whole numbers of 16 bits: declare.*\[ranges\] values = \[0, 4095\]",
    "tifff32": r"b0.tif: floats: declare what they can be, as in \[ranges\] values = \[0, 1\]",
    "dcm": r"none of 3 pictures can be read.*b0.dcm: no whole DICOM file.*: save it anew",
    "nifti": r"none of 3 pictures can be read.*b0.nii.gz: no whole NIfTI file.*: save it anew",
    "flat": r"12 pictures beside metadata.csv.*\[pictures\] manifest = \"metadata.csv\"",
}
CLASSES = ("benign", "malignant")


def test_every_folder_is_a_case():
    assert {one.name for one in CASES.iterdir()} == {*READ, *REFUSED}


def _own_reading(name: str) -> dict[str, list[np.ndarray]]:
    """Every picture below a class's folders, read with Pillow; None for what cannot be."""
    found: dict[str, list] = {one: [] for one in CLASSES}
    files = sorted((CASES / name).rglob("*"))
    for file in files:
        inside = [one for one in CLASSES if one in file.relative_to(CASES / name).parts]
        if not file.is_file() or not inside or file.name.startswith("._"):
            continue
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image).astype(np.float32) / 255
        except OSError:
            pixels = None
        found[inside[0]].append(pixels)
    return found


@pytest.mark.parametrize("name", READ)
def test_pictures_come_out_right_value_by_value(name):
    loaded = load_dataset(f"image-folder:{name}", CASES, image_size=32)
    count, patients = READ[name]
    assert (loaded.info.classes, len(loaded.train), loaded.test) == (CLASSES, count, None)
    assert len(loaded.train.patient_ids) == patients
    assert loaded.info.unit == ("patient" if patients < count else "record")
    assert loaded.info.shape == ((3 if name == "rgba" else 1), 32, 32)
    inputs, expected = np.asarray(loaded.train.inputs), _own_reading(name)
    for label, of_class in enumerate(CLASSES):
        mine = inputs[loaded.train.labels == label]
        truth = expected[of_class]
        assert len(mine) == len(truth)
        for pixels in truth:
            if pixels is None:
                assert np.isnan(mine).all(axis=(1, 2, 3)).sum() == 1
                continue
            whole = np.moveaxis(pixels[..., :3], -1, 0) if pixels.ndim == 3 else pixels[None]
            apart = np.nan_to_num(np.abs(mine - whole), nan=1.0)
            assert apart.max(axis=(1, 2, 3)).min() < 1e-6
    said = " ".join(loaded.log.lines())
    unreadable = name in ("corrupt", "notimage")
    assert ("benign/b3.jpg" in said) == unreadable
    assert len(readable(loaded.train)) == count - unreadable
    assert ("folder 'masks', expected benign, malignant" in said) == (name == "masks")
    assert bool(said) == (unreadable or name == "masks")
    homes = {"hospitals": ("lyon", "turin"), "owners": ("lyon",), "owners2": ("lyon",)}
    assert loaded.hospital_names == homes.get(name, ())


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_need_a_word_are_refused_by_one_sentence(name):
    with pytest.raises(DataError, match=REFUSED[name]):
        load_dataset(f"image-folder:{name}", CASES)


def _declared(folder: Path, name: str, declared: str) -> None:
    shutil.copytree(CASES / name, folder / name)
    (folder / name / "dataset.toml").write_text('classes = ["benign", "malignant"]\n' + declared)


@pytest.mark.parametrize(("name", "high"), [("png16", 4095), ("tiff16", 4095), ("tifff32", 1.0)])
def test_more_than_eight_bits_keep_their_contrast_by_a_declared_range(tmp_path, name, high):
    _declared(tmp_path, name, f"[ranges]\nvalues = [0, {high}]\n[pictures]\nchannels = 1\n")
    loaded = load_dataset(f"image-folder:{name}", tmp_path, image_size=32, declared=True)
    inputs = np.asarray(loaded.train.inputs)
    for row, file in enumerate(sorted((tmp_path / name / "benign").glob("b*"))):
        with Image.open(file) as image:
            np.testing.assert_allclose(inputs[row, 0], np.asarray(image) / high, atol=1e-6)
    assert inputs.std() > 0.2 and not loaded.log


def test_a_manifest_says_label_and_patient_of_each_picture(tmp_path):
    _declared(
        tmp_path,
        "flat",
        'target = "label"\npatient = "patient"\n'
        '[pictures]\nmanifest = "metadata.csv"\nchannels = 1\n',
    )
    loaded = load_dataset("image-folder:flat", tmp_path, image_size=32, declared=True)
    assert loaded.train.labels.tolist() == [0, 1] * 6
    assert loaded.patient_names == tuple(f"p{k}" for k in range(6))
    assert [loaded.patient_names[k] for k in loaded.train.patients] == [
        f"p{k // 2}" for k in range(12)
    ]
    for row in range(12):
        with Image.open(tmp_path / "flat" / f"x{row}.png") as image:
            np.testing.assert_allclose(
                loaded.train.inputs[row][0], np.asarray(image) / 255, atol=1e-6
            )


def test_of_a_hospitals_own_pictures_none_is_a_reason_to_refuse(tmp_path):
    for name in ("png16", "dcm", "nifti", "corrupt"):
        _declared(tmp_path, name, "")
        loaded = load_dataset(f"image-folder:{name}", tmp_path, image_size=32, declared=True)
        left = readable(loaded.train)
        assert len(left) == (11 if name == "corrupt" else 0)
        assert "not a readable picture" in " ".join(loaded.log.lines())


@pytest.mark.parametrize(
    ("name", "layout"), [("nested", "class/patient"), ("hospitals", "hospital/class")]
)
def test_a_hospitals_own_folders_mean_what_is_declared(tmp_path, name, layout):
    _declared(tmp_path, name, f'[pictures]\nlayout = "{layout}"\nchannels = 1\n')
    own = load_dataset(f"image-folder:{name}", tmp_path, declared=True)
    seen = load_dataset(f"image-folder:{name}", CASES)
    assert own.train.patients.tolist() == seen.train.patients.tolist()
    assert own.hospital_names == seen.hospital_names
    (tmp_path / name / "dataset.toml").write_text('classes = ["benign", "malignant"]\n')
    own = load_dataset(f"image-folder:{name}", tmp_path, declared=True)
    assert len(own.train) == 0
    said = " ".join(own.log.lines())
    assert "class/patient" in said or "no declared class" in said
