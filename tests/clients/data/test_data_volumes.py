"""DICOM and NIfTI: true values by their own headers, slices in order, patients from headers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.data import DataError, load_dataset
from clients.data.picture_files import PictureForm, read_picture
from clients.data.ranges import Range

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")
SIZE = 8


def write_dicom(file: Path, pixels: np.ndarray, **tags) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim == 3 and not colour else 1
    data.Rows, data.Columns = pixels.shape[:2] if colour or frames == 1 else pixels.shape[1:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = 8 if colour else 12
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if frames > 1:
        data.NumberOfFrames = frames
    data.PatientID = "secret-17"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(file, enforce_file_format=True)


def form(**changes) -> PictureForm:
    return PictureForm(**{"size": SIZE, "channels": 1, "deep": True, **changes})


STORED = (np.arange(SIZE * SIZE, dtype=np.uint16) * 60).reshape(SIZE, SIZE)


@pytest.mark.parametrize(
    ("tags", "declared", "expected"),
    [
        ({}, None, STORED / 4095),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, None, STORED / 4095),
        ({"WindowCenter": 1000, "WindowWidth": 2001}, None, np.clip((STORED + 0.5) / 2000, 0, 1)),
        (
            {"RescaleSlope": 1, "RescaleIntercept": -1024},
            Range(low=-1000.0, high=400.0),
            np.clip((STORED - 1024.0 + 1000) / 1400, 0, 1),
        ),
        ({"PhotometricInterpretation": "MONOCHROME1"}, None, 1 - STORED / 4095),
    ],
    ids=["bits", "rescaled", "window", "declared", "inverted"],
)
def test_a_dicom_picture_has_its_true_values(tmp_path, tags, declared, expected):
    write_dicom(tmp_path / "a.dcm", STORED, **tags)
    found = read_picture((tmp_path / "a.dcm",), form(range=declared))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_coloured_dicom_picture_keeps_its_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    write_dicom(tmp_path / "a.dcm", pixels)
    found = read_picture((tmp_path / "a.dcm",), form(channels=3))
    np.testing.assert_allclose(found, np.moveaxis(pixels, -1, 0) / 255, atol=1e-6)


def cube(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (SIZE, SIZE, SIZE)).astype(np.uint16)


def test_frames_and_series_become_the_same_volume(tmp_path):
    folder, voxels = tmp_path / "set", cube()
    (folder / "b").mkdir(parents=True)
    write_dicom(folder / "a/frames.dcm", voxels)
    # Slices are named at random, and lie along their own direction.
    for place in range(SIZE):
        write_dicom(
            folder / f"b/{(place * 5) % SIZE}.dcm",
            voxels[place],
            SeriesInstanceUID="1.2.3",
            ImagePositionPatient=[0.0, 0.0, -40.0 + 3 * place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    (folder / "dataset.toml").write_text(
        'classes = ["a", "b"]\n[pictures]\nvolumes = true\npatient = "header"\n'
    )
    loaded = load_dataset("image-folder:set", tmp_path, image_size=SIZE, declared=True)
    assert (loaded.info.kind, loaded.info.shape) == ("volume", (1, SIZE, SIZE, SIZE))
    inputs = np.asarray(loaded.train.inputs)
    np.testing.assert_allclose(inputs[0], inputs[1])
    np.testing.assert_allclose(inputs[0, 0], voxels / 4095, atol=1e-6)
    assert loaded.train.labels.tolist() == [0, 1]


def test_a_series_is_drafted_as_volumes_of_the_patients_that_its_header_names(tmp_path):
    from clients.data.drafting import draft

    for label in ("a", "b"):
        for place in range(3):
            write_dicom(
                tmp_path / f"set/{label}/{place}.dcm",
                STORED,
                SeriesInstanceUID=f"1.2.{ord(label)}",
                ImagePositionPatient=[0.0, 0.0, 3.0 * place],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )
    drafted = draft(tmp_path / "set")
    assert 'patient = "header"' in drafted.text and "volumes = true" in drafted.text
    assert drafted.command.endswith("--set model.name=cnn3d")
    assert "secret" not in drafted.text + " ".join(drafted.oddities)
    (tmp_path / "it.toml").write_text(drafted.text)
    given = {"image_size": SIZE, "declaration": tmp_path / "it.toml"}
    with pytest.raises(DataError, match="of classes was taken"):
        load_dataset("image-folder:set", tmp_path, **given)
    loaded = load_dataset("image-folder:set", tmp_path, unconfirmed=True, **given)
    assert (len(loaded.train), loaded.info.kind, loaded.info.unit) == (2, "volume", "patient")
    assert not loaded.log


def test_patients_of_headers_are_used_and_never_shown(tmp_path):
    folder = tmp_path / "set"
    for label in ("a", "b"):
        for number in range(4):
            tags = {"PatientID": f"secret-{number // 2}" if number < 3 else ""}
            write_dicom(folder / f"{label}/{number}.dcm", STORED, **tags)
    (folder / "dataset.toml").write_text('classes = ["a", "b"]\n[pictures]\npatient = "header"\n')
    loaded = load_dataset("image-folder:set", tmp_path, image_size=SIZE, declared=True)
    assert loaded.info.unit == "patient"
    assert loaded.train.patients.tolist() == [0, 0, 1, 0, 0, 1]
    said = " ".join(loaded.log.lines())
    assert "no patient is told: the record is out: 2" in said and "secret" not in said
    assert "secret" not in repr(loaded) and not loaded.patient_names


@pytest.mark.parametrize("flipped", [False, True])
def test_nifti_lies_as_dicom_would_whichever_way_it_was_stored(tmp_path, flipped):
    voxels = cube().astype(np.int16) - 1000  # [slice, row, column], as DICOM has it
    stored = voxels.transpose(2, 1, 0)[::-1, ::-1]  # right, anterior, superior
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    if flipped:
        stored, affine = stored[::-1], np.diag([-1.5, 1.5, 3.0, 1.0])
    file = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), file)
    hounsfield = Range(low=-1000.0, high=3000.0)
    found = read_picture((file,), form(volumes=True, range=hounsfield))
    np.testing.assert_allclose(found[0], np.clip((voxels + 1000) / 4000, 0, 1), atol=1e-6)
    with pytest.raises(ValueError, match=r"\[ranges\] values = \[-1000, 3000\]"):
        read_picture((file,), form(volumes=True))


def test_a_spacing_keeps_millimetres_and_cuts_to_size(tmp_path):
    # A ball of radius 8 mm in voxels of 1 x 1 x 4 mm is a ball in voxels of 2 mm as well.
    flat = np.arange(-15.5, 16)
    z, y, x = np.meshgrid(np.arange(-14, 15, 4), flat, flat, indexing="ij")
    ball = ((z**2 + y**2 + x**2) < 64).astype(np.float32)
    file = tmp_path / "a.nii"
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(ball.transpose(2, 1, 0), affine), file)
    made = form(size=16, volumes=True, range=Range(low=0.0, high=1.0), spacing=(2.0, 2.0, 2.0))
    found = read_picture((file,), made)[0]
    assert found.shape == (16, 16, 16)
    volume = float(ball.sum()) * 4
    assert float(found.sum()) * 8 == pytest.approx(volume, rel=0.05)
    widths = [np.sqrt((np.square(np.arange(16) - 7.5) * found.sum(axis=axes)).sum() / found.sum())
              for axes in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    assert max(widths) / min(widths) < 1.2
    finer = form(size=16, volumes=True, range=Range(low=0.0, high=1.0), spacing=(1.0, 1.0, 1.0))
    assert float(read_picture((file,), finer)[0].sum()) == pytest.approx(volume, rel=0.1)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        ("frames", {}, "8 slices where pictures are declared: say .pictures. volumes = true"),
        ("flat", {"volumes": True}, "where volumes are declared"),
    ],
)
def test_pictures_and_volumes_are_not_taken_for_each_other(tmp_path, make, changes, message):
    write_dicom(tmp_path / "a.dcm", cube() if make == "frames" else STORED)
    with pytest.raises(ValueError, match=message):
        read_picture((tmp_path / "a.dcm",), form(**changes))


@pytest.mark.parametrize(("suffix", "library"), [("dcm", "pydicom"), ("nii.gz", "nibabel")])
def test_without_its_library_a_format_says_what_to_install(tmp_path, monkeypatch, suffix, library):
    import sys

    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / f"1.{suffix}").write_bytes(b"junk")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=rf"needs {library}: pip install 'asclepias\[formats\]'"):
        load_dataset("image-folder:set", tmp_path)


def compressed(file: Path, syntax: str, stream: bytes, **tags) -> None:
    """Put a compressed stream into a DICOM file in the place of its pixels."""
    from pydicom.encaps import encapsulate

    data = pydicom.dcmread(file)
    data.PixelData = encapsulate([stream])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(file)


def test_compressed_files_hold_the_values_of_plain_ones(tmp_path: Path) -> None:
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

    whole = {"BitsStored": 16, "HighBit": 15}
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    write_dicom(plain, STORED, **whole)
    expected = read_picture((plain,), form())
    write_dicom(packed, STORED, **whole)
    data = pydicom.dcmread(packed)
    data.compress(RLELossless)
    data.save_as(packed)
    np.testing.assert_array_equal(read_picture((packed,), form()), expected)
    stream = io.BytesIO()
    Image.fromarray(STORED).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    write_dicom(packed, STORED, **whole)
    compressed(packed, JPEG2000Lossless, stream.getvalue())
    np.testing.assert_array_equal(read_picture((packed,), form()), expected)
    red = np.zeros((16, 16, 3), np.uint8)
    red[...] = (200, 30, 0)
    stream = io.BytesIO()
    Image.fromarray(red).save(stream, "JPEG", quality=95)
    write_dicom(packed, red)
    compressed(
        packed, JPEGBaseline8Bit, stream.getvalue(), PhotometricInterpretation="YBR_FULL_422"
    )
    found = read_picture((packed,), form(channels=3))
    np.testing.assert_allclose(found[:, 4, 4] * 255, (200, 30, 0), atol=3)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("JPEGLSLossless", "JPEGLSLossless"), ("JPEGLosslessSV1", "JPEGLosslessProcess14_1")],
)
def test_what_a_compression_needs_is_named_or_it_is_read(
    tmp_path: Path, name: str, theirs: str
) -> None:
    import pydicom.uid

    syntax, file = getattr(pydicom.uid, name), tmp_path / "packed.dcm"
    write_dicom(file, STORED)
    expected = read_picture((file,), form())
    if not pydicom.pixels.get_decoder(syntax).is_available:
        compressed(file, syntax, b"\xff\xd8")
        with pytest.raises(ImportError, match=r"JPEG.*asclepias\[dicom\]"):
            read_picture((file,), form())
        return
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(file))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, theirs)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(file))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_picture((file,), form()), expected)


def test_a_compression_that_nobody_reads_is_named(tmp_path: Path) -> None:
    from pydicom.uid import MPEG2MPML

    write_dicom(tmp_path / "film.dcm", STORED)
    compressed(tmp_path / "film.dcm", MPEG2MPML, b"\0\0")
    with pytest.raises(ValueError, match=r"compressed as MPEG2.*not read"):
        read_picture((tmp_path / "film.dcm",), form())


def test_headers_are_read_once_while_files_stay_as_they_are(tmp_path: Path, monkeypatch) -> None:
    from clients.data import pictures

    for number in range(3):
        for kind in ("ill", "well"):
            write_dicom(tmp_path / "scans" / kind / f"{number}.dcm", STORED, PatientID=f"p{number}")
    (tmp_path / "scans" / "dataset.toml").write_text(
        'classes = ["ill", "well"]\n[pictures]\nlayout = "class"\npatient = "header"\n'
    )
    opened: list[str] = []
    whole = pictures.open_dicom

    def counted(file: Path, **more: bool) -> object:
        opened.append(file.name)
        return whole(file, **more)

    monkeypatch.setattr(pictures, "open_dicom", counted)

    def patients() -> int:
        return len(load_dataset("image-folder:scans", tmp_path, image_size=8).train.patient_ids)

    assert patients() == 3 and len(opened) == 6
    assert patients() == 3 and len(opened) == 6
    write_dicom(tmp_path / "scans" / "ill" / "0.dcm", STORED, PatientID="p9")
    assert patients() == 4 and opened[6:] == ["0.dcm"]
