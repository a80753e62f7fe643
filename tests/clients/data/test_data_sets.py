import os
import sys

import numpy as np
import pytest

from clients.data import DATASETS, DataError, Dataset, files, load_dataset, picture_files
from clients.data.chest_xray import patient_of
from clients.data.records import readable

DATA = os.environ.get("ASCLEPIAS_DATA", "")
needs_data = pytest.mark.skipif(not os.path.isdir(DATA), reason="ASCLEPIAS_DATA is not set")


def write_npz(path, *, labels_shape=(-1,), images=None, **more):
    generator = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 12), ("val", 4), ("test", 6)):
        arrays[f"{part}_images"] = (
            generator.integers(0, 256, (n, 8, 8)).astype(np.uint8) if images is None else images(n)
        )
        arrays[f"{part}_labels"] = (np.arange(n) % 3).astype(np.uint8).reshape(labels_shape)
    np.savez(path, **{**arrays, **more})
    return path


def write_pictures(folder, names, size=(20, 10), mode="RGB"):
    from PIL import Image

    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        colour = (number * 40 % 256,) * 3 if mode == "RGB" else number * 40 % 256
        Image.new(mode, size, colour).save(folder / name)


def test_bundled_sets_load_without_any_file(monkeypatch):
    monkeypatch.delenv("ASCLEPIAS_DATA", raising=False)
    cancer, digits = load_dataset("breast-cancer"), load_dataset("digits")
    assert (len(cancer.train), cancer.info.shape) == (569, (30,))
    assert (len(digits.train), digits.info.shape) == (1797, (1, 8, 8))
    assert np.abs(cancer.train.inputs).max() <= 1


def test_every_source_says_what_it_is():
    assert all(source.title and callable(source.load) for source in DATASETS.values())


@pytest.mark.parametrize("labels_shape", [(-1,), (-1, 1)])
def test_labels_may_be_flat_or_a_column(tmp_path, labels_shape):
    write_npz(tmp_path / "made.npz", labels_shape=labels_shape)
    loaded = load_dataset("npz:made", tmp_path)
    assert loaded.train.labels.shape == (16,)
    assert loaded.test is not None and len(loaded.test) == 6
    assert loaded.info.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("shape", "expected", "kind"),
    [
        ((8, 9), (1, 8, 9), "image"),
        ((8, 9, 3), (3, 8, 9), "image"),
        ((8, 9, 1), (1, 8, 9), "image"),
        ((7, 8, 9), (1, 7, 8, 9), "volume"),
    ],
)
def test_grey_colour_and_volume_get_their_channel_axis(tmp_path, shape, expected, kind):
    write_npz(tmp_path / "made.npz", images=lambda n: np.ones((n, *shape), dtype=np.uint8))
    info = load_dataset("npz:made", tmp_path).info
    assert (info.shape, info.kind) == (expected, kind)


def test_npz_keeps_patients_and_hospitals(tmp_path):
    ids = {
        f"{part}_{what}": np.array(
            [f"{part if what == 'patient' else ''}{i // 2}" for i in range(n)]
        )
        for part, n in (("train", 12), ("val", 4), ("test", 6))
        for what in ("patient", "hospital")
    }
    write_npz(tmp_path / "made.npz", **ids)
    loaded = load_dataset("npz:made", tmp_path)
    assert loaded.info.has_patient_ids and loaded.info.has_hospital_ids
    assert len(loaded.train.patient_ids) == 8
    assert loaded.hospital_names == ("0", "1", "2", "3", "4", "5")


def test_a_medmnist_file_of_another_content_is_refused_by_its_md5(tmp_path):
    write_npz(tmp_path / "retinamnist.npz")
    with pytest.raises(DataError, match="expected bd4c0672f1bba3e3a89f0e4e876791e4") as caught:
        load_dataset("medmnist:retinamnist", tmp_path)
    assert caught.value.code == "wrong-md5"


def test_a_missing_file_says_where_to_get_it_and_its_md5(tmp_path):
    with pytest.raises(DataError, match=r"zenodo.*md5 bd4c0672") as caught:
        load_dataset("medmnist:retinamnist", tmp_path)
    assert caught.value.code == "missing-file"


@pytest.mark.parametrize("name", ["chest-xray", "aptos", "heart-disease", "mnist", "csv:a.csv"])
def test_no_data_folder_is_said_plainly(monkeypatch, name):
    monkeypatch.delenv("ASCLEPIAS_DATA", raising=False)
    with pytest.raises(DataError, match=r"give data.dir or ASCLEPIAS_DATA"):
        load_dataset(name)


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(DataError, match="did you mean chest-xray"):
        load_dataset("chest-xry")


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "unreadable"), (b"PK\x03\x04junk", "unreadable")]
)
def test_damaged_arrays_are_an_error_with_a_code(tmp_path, content, code):
    (tmp_path / "made.npz").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset("npz:made", tmp_path)
    assert caught.value.code == code


def test_labels_that_slipped_into_another_part_are_an_error(tmp_path):
    write_npz(tmp_path / "made.npz", train_labels=np.zeros(13), val_labels=np.zeros(3))
    with pytest.raises(DataError, match="12 images in train_images and 13 labels in train_labels"):
        load_dataset("npz:made", tmp_path)


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "made.npz", train_images=np.array([{}, {}]), train_labels=[0, 1])
    with pytest.raises(DataError) as caught:
        load_dataset("npz:made", tmp_path)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("odd", [3.0, float("inf"), float("nan")])
def test_floats_outside_the_public_range_are_cut_in_a_hospitals_own_records(tmp_path, odd):
    def images(n):
        made = np.zeros((n, 8, 8), dtype=np.float32)
        made[-1] = odd
        return made

    write_npz(tmp_path / "made.npz", images=images)
    (tmp_path / "made.toml").write_text('classes = ["0", "1", "2"]')
    loaded = load_dataset("npz:made", tmp_path, declared=True)
    assert "images row 11" in " ".join(loaded.log.lines())
    assert loaded.train.inputs[11].max() == (0.0 if np.isnan(odd) else 1.0)
    if not np.isnan(odd):
        with pytest.raises(DataError, match="row 11 holds a value outside"):
            load_dataset("npz:made", tmp_path)


def test_labels_of_arrays_are_numbers_or_names_of_declared_classes(tmp_path):
    write_npz(tmp_path / "made.npz")
    (tmp_path / "made.toml").write_text('classes = ["well", "ill"]')
    loaded = load_dataset("npz:made", tmp_path, declared=True)
    assert (loaded.info.classes, len(loaded.train)) == (("well", "ill"), 11)
    assert "the record is out: 7" in loaded.log.lines()[0]
    with pytest.raises(DataError, match="row 2 is 2, and 7 of 22 are none of the classes well"):
        load_dataset("npz:made", tmp_path)
    (tmp_path / "made.toml").write_text("classes = [1, 2]")
    assert set(load_dataset("npz:made", tmp_path, declared=True).train.labels) == {0, 1}
    text = np.array(["ill", "well"] * 8)
    (tmp_path / "made.toml").write_text('classes = ["well", "ill"]')
    write_npz(
        tmp_path / "made.npz", train_labels=text[:12], val_labels=text[:4], test_labels=text[:6]
    )
    assert load_dataset("npz:made", tmp_path).train.labels[:2].tolist() == [1, 0]


def test_a_hospitals_own_arrays_and_pictures_need_a_declaration(tmp_path):
    write_npz(tmp_path / "made.npz")
    for name in ("ill", "well"):
        write_pictures(tmp_path / "set" / name, ["1.png"])
    for source, file in (("npz:made", "made.toml"), ("image-folder:set", "set/dataset.toml")):
        assert load_dataset(source, tmp_path)
        with pytest.raises(DataError, match=r'in one line such as: classes = \["') as caught:
            load_dataset(source, tmp_path, declared=True)
        assert caught.value.code == "declaration"
        (tmp_path / file).write_text('classes = ["ill", "well"]')
        assert load_dataset(source, tmp_path, declared=True).info.classes == ("ill", "well")
    (tmp_path / "set/dataset.toml").write_text('classes = ["ill"]')
    with pytest.raises(DataError, match="expected two or more different names"):
        load_dataset("image-folder:set", tmp_path)


def test_benchmarks_keep_their_classes_in_code():
    assert load_dataset("breast-cancer", declared=True).info.classes == ("malignant", "benign")


def test_patients_of_some_parts_alone_are_refused_rather_than_ignored(tmp_path):
    write_npz(tmp_path / "made.npz", train_patient=np.arange(12))
    with pytest.raises(DataError, match="an array train_patient, but no val_patient"):
        load_dataset("npz:made", tmp_path)


def test_arrays_that_would_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    write_npz(tmp_path / "made.npz")
    monkeypatch.setattr(files, "MOST_ARRAY_BYTES", 1000)
    with pytest.raises(DataError, match="at most 1000 are read"):
        load_dataset("npz:made", tmp_path)


def test_a_folder_of_no_declared_class_is_out(tmp_path):
    for name in ("ill", "well", "masks"):
        write_pictures(tmp_path / "set" / name, ["1.png", "2.png"])
    (tmp_path / "set/dataset.toml").write_text('classes = ["well", "ill"]')
    loaded = load_dataset("image-folder:set", tmp_path)
    assert loaded.train.labels.tolist() == [0, 0, 1, 1]
    assert "folder 'masks'" in loaded.log.lines()[0]


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/PNEUMONIA/person99_virus_183.jpeg", "train:V99"),
        ("train/PNEUMONIA/person99_bacteria_474.jpeg", "train:B99"),
        ("test/NORMAL/IM-0001-0001.jpeg", "test:N1-0001"),
        ("test/NORMAL/NORMAL2-IM-0001-0001-0002.jpeg", "test:N2-0001"),
    ],
)
def test_the_file_name_tells_the_patient(tmp_path, name, patient):
    assert patient_of(tmp_path / name) == patient


def test_the_chest_xray_folder_groups_pictures_by_patient(tmp_path):
    root = tmp_path / "chest_xray"
    for part in ("train", "test"):
        write_pictures(root / part / "NORMAL", ["IM-0001-0001.jpeg", "IM-0001-0002.jpeg"])
        write_pictures(root / part / "PNEUMONIA", ["person1_virus_1.jpeg", "person2_virus_9.jpeg"])
    loaded = load_dataset("chest-xray", tmp_path, image_size=16)
    assert loaded.info.shape == (1, 16, 16)
    assert loaded.train.labels.tolist() == [0, 0, 1, 1]
    assert len(loaded.train.patient_ids) == 3
    assert loaded.test is not None and not set(loaded.test.patients) & set(loaded.train.patients)


@pytest.mark.parametrize("damage", ["junk", "half", "none", "large", "pixels"])
def test_an_unreadable_picture_is_out_and_named(tmp_path, monkeypatch, damage):
    root = tmp_path / "chest_xray"
    for part in ("train", "test"):
        write_pictures(root / part / "NORMAL", ["IM-0001-0001.jpeg"], size=(200, 100))
        write_pictures(root / part / "PNEUMONIA", ["person1_virus_1.jpeg"])
    bad = root / "train/NORMAL/IM-0001-0001.jpeg"
    loaded = load_dataset("chest-xray", tmp_path)
    match damage:
        case "junk":
            bad.write_bytes(b"\xff\xd8\xff junk")
        case "half":
            bad.write_bytes(bad.read_bytes()[:-300])
        case "none":
            bad.unlink()
        case "large":
            monkeypatch.setattr(picture_files, "MOST_BYTES", bad.stat().st_size - 1)
        case "pixels":
            monkeypatch.setattr(picture_files, "MOST_PIXELS", 19_999)
    written: list[str] = []
    loaded.log.write_to(written.append)
    read = loaded.train.inputs[:]
    assert np.isnan(read[0]).all() and np.isfinite(read[1]).all()
    assert readable(loaded.train).patients.tolist() == loaded.train.patients[1:].tolist()
    [line] = written
    assert "train/NORMAL/IM-0001-0001.jpeg" in line


def test_pictures_are_decoded_once(tmp_path):
    write_pictures(tmp_path / "set/a", ["1.png"])
    write_pictures(tmp_path / "set/b", ["2.png"])
    loaded = load_dataset("image-folder:set", tmp_path, image_size=8)
    first = loaded.train.inputs[:]
    for file in (tmp_path / "set").rglob("*.png"):
        file.unlink()
    np.testing.assert_array_equal(loaded.train.inputs[:], first)


def test_an_image_folder_takes_patients_and_hospitals_from_its_table(tmp_path):
    write_pictures(tmp_path / "set/a", ["1.png", "2.png"])
    write_pictures(tmp_path / "set/b", ["3.png"])
    table = tmp_path / "set/patients.csv"
    table.write_text("file,patient,hospital\na/1.png,p,north\na/2.png,p,north\nb/3.png,q,south\n")
    loaded = load_dataset("image-folder:set", tmp_path, image_size=8)
    assert loaded.train.patients.tolist() == [0, 0, 1]
    assert loaded.hospital_names == ("north", "south")
    table.write_text("file;patient\na\\1.png;p\n")
    loaded = load_dataset("image-folder:set", tmp_path)
    assert len(loaded.train) == 1
    assert "no row for a/2.png" in loaded.log.lines()[0]


def test_aptos_reads_grades_and_leaves_out_a_bad_one(tmp_path):
    write_pictures(tmp_path / "train_images", ["x1.png", "x2.png"])
    table = tmp_path / "train.csv"
    table.write_text("id_code,diagnosis\nx1,0\nx2,4\n")
    loaded = load_dataset("aptos", tmp_path, image_size=8)
    assert (loaded.info.task, loaded.train.labels.tolist()) == ("ordinal", [0, 4])
    table.write_text("id_code,diagnosis\nx1,0\nx2,7\n")
    loaded = load_dataset("aptos", tmp_path)
    assert loaded.train.labels.tolist() == [0]
    assert "row 3, column diagnosis: '7', expected 0 to 4" in loaded.log.lines()[0]


def test_the_hub_reads_a_local_folder_of_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    from clients.data.files import Location
    from clients.data.hub import from_splits

    split = datasets.Dataset.from_dict(
        {
            "image": [Image.new("L", (10, 12), shade) for shade in (0, 100, 255)],
            "label": [0, 1, 1],
            "patient": ["p", "p", "q"],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["well", "ill"]),
                "patient": datasets.Value("string"),
            }
        ),
    )
    loaded = from_splits({"train": split}, Location(variant="made", image_size=8))
    assert loaded.info.shape == (1, 8, 8)
    assert loaded.train.patients.tolist() == [0, 0, 1]
    np.testing.assert_allclose(loaded.train.inputs[:].max(axis=(1, 2, 3)), [0, 100 / 255, 1])


def test_your_own_function_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "my_hospital.py").write_text(
        "from clients.data import load_dataset\n"
        "def cohort(folder):\n    return load_dataset('breast-cancer')\n"
        "def wrong(folder):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert isinstance(load_dataset("my_hospital:cohort"), Dataset)
    with pytest.raises(DataError, match=r"returned a int, expected a clients\.data\.Dataset"):
        load_dataset("my_hospital:wrong")
    with pytest.raises(DataError, match="cannot be imported"):
        load_dataset("my_hospital:absent")
    sys.modules.pop("my_hospital", None)


@needs_data
def test_real_files_load_with_their_real_patients():
    xray = load_dataset("chest-xray", DATA)
    assert (len(xray.train), len(xray.train.patient_ids)) == (5216, 3654)
    assert xray.test is not None and len(xray.test) == 624
    retina = load_dataset("medmnist:retinamnist", DATA)
    assert (retina.info.shape, retina.info.task) == ((3, 28, 28), "ordinal")
    assert load_dataset("medmnist:vesselmnist3d", DATA).info.shape == (1, 28, 28, 28)
    assert load_dataset("medmnist:breastmnist", DATA).info.shape == (1, 28, 28)


@needs_data
def test_the_four_real_hospitals_load_with_every_gap_filled():
    heart = load_dataset("heart-disease", DATA)
    assert np.bincount(heart.train.hospitals).tolist() == [303, 294, 123, 200]
    assert np.isfinite(heart.train.inputs).all() and np.abs(heart.train.inputs).max() <= 1
    complete = load_dataset("heart-disease:complete", DATA)
    assert np.bincount(complete.train.hospitals).tolist() == [303, 261, 46, 130]


def test_made_up_ward_is_the_same_for_everyone_and_its_truth_can_be_found():
    from clients.data.ward import observed

    first, again = observed(50, 3), observed(50, 3)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert load_dataset("ward").info.unit == "patient"
    # How far pressure falls below a patient's own median, and the heart is above it, at once: of
    # those who deteriorate both are seen; of a fever or a walk one is.
    series, labels = observed(2000, 4)
    apart = series - np.median(series, axis=1, keepdims=True)
    both = (apart[:, :, 0] - apart[:, :, 1]).max(axis=1)
    steady, worse = both[labels == 0], both[labels == 1]
    ranks = (worse[:, None] > steady[None]).mean()
    assert 0.75 < ranks < 0.99
    assert np.abs(series).max() <= 1 and series.dtype == np.float32
