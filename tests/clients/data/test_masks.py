"""Masks of pictures, volumes and arrays: whose they are, their values, and what is left out."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from clients.data import DataError, load_dataset
from clients.data.masks import read_mask
from clients.data.picture_files import PictureForm
from clients.data.records import LazyTargets, readable
from tests.mask_data import write_arrays, write_pictures, write_volumes


def test_masks_of_patients_pictures_are_read_pixel_by_pixel(tmp_path: Path) -> None:
    pictures, masks = write_pictures(tmp_path / "scans", 5, 16)
    found = load_dataset(f"image-folder:{tmp_path / 'scans'}", image_size=16, declared=True)
    assert found.info.task == "segmentation"
    assert found.info.has_patient_ids
    assert [found.patient_names[k] for k in found.train.patients] == [f"p{k:03d}" for k in range(5)]
    np.testing.assert_array_equal(found.train.labels, masks)
    read = np.asarray(found.train.inputs)[:, 0] * 255
    np.testing.assert_allclose(read, pictures, atol=1e-3)


def test_masks_of_volumes_lie_as_their_volumes_do(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    write_volumes(tmp_path / "scans", 2, 8)
    found = load_dataset(f"image-folder:{tmp_path / 'scans'}", image_size=8, declared=True)
    assert found.train.labels.shape == (2, 8, 8, 8)
    bright = np.asarray(found.train.inputs)[:, 0]
    for volume, mask in zip(bright, found.train.labels, strict=True):
        # Turned otherwise than its volume, a disc off the middle would lie elsewhere.
        ways = [np.transpose(mask, order) for order in permutations(range(3))]
        ways += [np.flip(one, axes) for one in ways for axes in (0, 1, 2, (0, 1), (0, 2), (1, 2))]
        fits = [volume[one == 1].mean() for one in ways]
        assert fits[0] == max(fits) > volume[mask == 0].mean() + 0.25


def test_a_smaller_mask_takes_what_most_of_it_is(tmp_path: Path) -> None:
    from PIL import Image

    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:4, :4] = 7
    mask[0, 7] = 7  # a quarter of a pixel of the smaller one
    Image.fromarray(mask).save(tmp_path / "m.png")
    small = read_mask(tmp_path / "m.png", PictureForm(size=4, channels=3), (0, 7))
    assert small.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_no_mask_and_a_strange_one_leave_their_own_record_out(tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "scans"
    write_pictures(root, 5, 16)
    (root / "masks/p001/a.png").unlink()
    (root / "masks/p002/a.png").write_bytes(b"no picture")
    Image.fromarray(np.full((16, 16), 77, dtype=np.uint8)).save(root / "masks/p003/a.png")
    for declared in (False, True):
        found = load_dataset(f"image-folder:{root}", image_size=16, declared=declared)
        good = readable(found.train)
        assert [found.patient_names[k] for k in good.patients] == ["p000", "p004"]
        said = "\n".join(found.log.lines())
        assert "expected one of its name in masks/" in said
        assert "holds 77, expected 0, 255" in said


def test_a_hospitals_own_masks_are_opened_as_they_are_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    _, masks = write_pictures(root, 3, 16)
    found = load_dataset(f"image-folder:{root}", image_size=16, declared=True)
    kept = found.train.take([2, 0])
    (root / "masks/p001/a.png").unlink()
    np.testing.assert_array_equal(kept.labels, masks[[2, 0]])
    assert isinstance(found.train.labels, LazyTargets)
    assert found.train.labels.read_well(slice(None)).tolist() == [True, False, True]


def test_parts_and_other_formats_have_masks_of_their_own(tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "scans"
    for part in ("train", "test"):
        for name in ("images", "masks"):
            (root / part / name).mkdir(parents=True)
        grey = Image.fromarray(np.full((4, 4), 90, dtype=np.uint8))
        grey.save(root / part / "images" / "a.jpg")
        Image.fromarray(np.eye(4, dtype=np.uint8)).save(root / part / "masks" / "a.png")
    said = 'classes = ["rest", "it"]\n[pictures]\nlayout = "part"\nmasks = "masks"\nchannels = 1\n'
    (root / "dataset.toml").write_text(said)
    found = load_dataset(f"image-folder:{root}", image_size=4, declared=True)
    assert found.test is not None
    assert (len(found.train), len(found.test)) == (1, 1)
    assert found.train.labels[0].tolist() == np.eye(4).tolist()


def test_manifest_names_masks_in_a_column(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    _, masks = write_pictures(root, 3, 16)
    rows = [f"images/p{k:03d}/a.png,masks/p{k:03d}/a.png,q{k}" for k in (2, 0)]
    rows.append("images/p001/a.png,nowhere.png,q1")
    (root / "list.csv").write_text("\n".join(["image,mask,who", *rows]) + "\n")
    said = 'classes = ["rest", "it"]\npatient = "who"\n[pictures]\nmanifest = "list.csv"\n'
    said += 'masks = "mask"\nmask-values = [0, 255]\nchannels = 1\n'
    (root / "dataset.toml").write_text(said)
    found = load_dataset(f"image-folder:{root}", image_size=16, declared=True)
    good = readable(found.train)
    np.testing.assert_array_equal(good.labels, masks[[2, 0]])
    assert [found.patient_names[k] for k in good.patients] == ["q2", "q0"]


def test_arrays_of_masks_are_of_their_pictures_size(tmp_path: Path) -> None:
    file = write_arrays(tmp_path, 3, 8)
    found = load_dataset(f"npz:{file}", declared=True)
    assert found.train.labels.dtype == np.uint8
    assert found.train.labels.shape == (3, 8, 8)
    arrays = dict(np.load(file))
    np.savez(file, **{**arrays, "train_masks": arrays["train_masks"][:, :4]})
    with pytest.raises(DataError, match=r"masks of shape \(3, 4, 8\)"):
        load_dataset(f"npz:{file}", declared=True)
    odd = arrays["train_masks"].copy()
    odd[1, 0, 0] = 9
    np.savez(file, **{**arrays, "train_masks": odd})
    assert len(load_dataset(f"npz:{file}", declared=True).train) == 2


def test_folders_of_classes_and_masks_are_two_declarations(tmp_path: Path) -> None:
    root = tmp_path / "scans"
    write_pictures(root, 1, 8)
    said = (root / "dataset.toml").read_text().replace('"patient"', '"class"')
    (root / "dataset.toml").write_text(said)
    with pytest.raises(DataError, match="masks say what is of which"):
        load_dataset(f"image-folder:{root}", declared=True)
    said = said.replace('layout = "class"\n', "").replace('"masks"', '"elsewhere"')
    (root / "dataset.toml").write_text(said)
    with pytest.raises(DataError, match="no folder 'elsewhere' beside the pictures'"):
        load_dataset(f"image-folder:{root}", declared=True)
