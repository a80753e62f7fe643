"""A hospital calibrates a model on its own patients: sets are right there, and nothing leaves."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.data import load_dataset
from clients.prediction.artefact import Artefact, read_artefact
from clients.prediction.predictor import Predictor
from clients.site.site_file import read_site_file
from deployment.cli import main
from deployment.own_calibration import calibration_file
from tests.clients.data.test_data_volumes import write_dicom
from tests.clients.prediction.models import VISITS, made_artefact, visits_info, write_visits

HEADER = VISITS.splitlines()[0]
_SEEN: list[list[str]] = []
_TELLING = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind")
_STARTING = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork")


def _watch(event: str, details: tuple) -> None:
    if not _SEEN:
        return
    if event in _TELLING or event in _STARTING:
        _SEEN[-1].append(event)
    elif event == "open" and _writes(*details):
        _SEEN[-1].append(f"write {details[0]}")


def _writes(path: object, mode: object, flags: int) -> bool:
    return isinstance(path, str | Path) and flags & os.O_ACCMODE and "__pycache__" not in str(path)


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Everything that this process writes to a file, a socket or another process."""
    _SEEN.append([])
    try:
        yield _SEEN[-1]
    finally:
        _SEEN.clear()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A hospital that trains on visits of p0 to p9."""
    folder = tmp_path / "lyon"
    folder.mkdir()
    (folder / "site.toml").write_text(
        'hospital = "lyon"\n[data]\nname = "csv:visits.csv"\ndir = "."\nmost-patients = 20\n'
    )
    rows = "".join(f"p{k};{40 + k};70;f;{'alive' if k % 2 else 'dead'}\n" for k in range(10))
    write_visits(folder, f"{HEADER}\n{rows}")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    made = made_artefact(visits_info(tmp_path / "training"), "logistic")
    sure = replace(made, doubt=replace(made.doubt, temperature=0.3))
    file.write_bytes(sure.to_bytes())
    return file


def visits(seed: int, count: int, artefact: Artefact, *, first: int = 100) -> str:
    """Visits whose outcome is the model's opposite in a third of cases: it is surer than right."""
    generator = np.random.default_rng(seed)
    ages, pulses = generator.integers(20, 100, count), generator.integers(40, 180, count)
    sexes = generator.integers(0, 2, count)
    inputs = np.stack(
        [2 * ages / 110 - 1, 2 * (pulses - 30) / 170 - 1, 1 - 2 * sexes, 2 * sexes - 1], axis=1
    ).astype(np.float32)
    guesses = Predictor(artefact).logits(inputs).argmax(axis=1)
    labels = np.where(generator.random(count) < 1 / 3, 1 - guesses, guesses)
    names = artefact.info.classes
    return "".join(
        f"n{first + k};{ages[k]};{pulses[k]};{'fm'[sexes[k]]};{names[labels[k]]}\n"
        for k in range(count)
    )


def calibrated(site: Path, model: Path, data: Path, *more: str) -> int:
    words = ["calibrate", "--site", str(site), "--model", str(model), "--data", str(data)]
    return main([*words, *more])


def coverage(model: Path, site: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    words = ["predict", "--site", str(site), "--model", str(model), "--data", str(data)]
    capsys.readouterr()
    words += ["--out", str(site / "p.csv"), "--overwrite"]
    assert main([*words, "--evaluate", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["evaluation"]


def test_own_sets_hold_the_truth_where_the_pooled_ones_do_not(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = read_artefact(model)
    own, later = tmp_path / "own", tmp_path / "later"
    for folder, seed, count in ((own, 1, 300), (later, 2, 4000)):
        folder.mkdir()
        write_visits(folder, f"{HEADER}\n{visits(seed, count, artefact)}")
    pooled = coverage(model, site, later / "visits.csv", capsys)
    assert pooled["coverage"] < 0.85
    assert calibrated(site, model, own / "visits.csv") == 0
    found = coverage(model, site, later / "visits.csv", capsys)
    assert found["coverage"] >= 0.9
    assert found["mean_set_size"] > pooled["mean_set_size"]
    assert found["ece"]["after"] < pooled["ece"]["after"]
    assert found["accuracy"] == pooled["accuracy"]


def test_nothing_leaves_the_private_folder(site: Path, model: Path, tmp_path: Path) -> None:
    write_visits(tmp_path, f"{HEADER}\n{visits(1, 60, read_artefact(model))}")
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert calibrated(site, model, tmp_path / "visits.csv") == 0  # imports are done
    file = calibration_file(read_site_file(site / "site.toml"), read_artefact(model).digest)
    file.unlink()
    with watched() as seen:
        assert calibrated(site, model, tmp_path / "visits.csv") == 0
    assert seen, "the file itself must be seen as it is written"
    assert all(one.startswith(f"write {site / 'private'}/") for one in seen), seen
    after = {one for one in tmp_path.rglob("*") if one.is_file()}
    assert after - before == {file}  # no ledger, no log, no copy
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_whoever_sent_something_would_be_seen(tmp_path: Path) -> None:
    with watched() as seen:
        with socket.socket() as one:
            one.settimeout(0.1)
            one.connect_ex(("127.0.0.1", 9))
        (tmp_path / "copy").write_text("x")
    assert seen == ["socket.connect", f"write {tmp_path / 'copy'}"]


def test_patients_who_are_trained_on_are_left_out(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = visits(1, 50, read_artefact(model))
    own = site / "visits.csv"
    own.write_text(own.read_text().replace("p7;", "17;"))
    named = "p3;99;99;m;dead\n17.0;98;99;m;dead\n"  # by name, with new records
    alike = "x;44;70;f;dead\n"  # under another name: the inputs of p4
    write_visits(tmp_path, f"{HEADER}\n{rows}{named}{alike}")
    assert calibrated(site, model, tmp_path / "visits.csv") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 records are of patients that csv:visits.csv trains on: left out" in shown
    assert "calibrated on 50 records of 50 patients" in shown
    assert calibrated(site, model, site / "visits.csv") == 2
    assert "calibrate on labelled records of other patients" in capsys.readouterr().err


def test_what_cannot_be_compared_is_not_said_to_be_checked(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    data.mkdir()
    rows = visits(1, 50, read_artefact(model))
    write_visits(data, f"{HEADER}\n{re.sub('(?m)^n[0-9]+', '', rows)}")
    said = site / "visits.toml"
    said.write_text(re.sub("pulse = .*", "pulse = [10, 300]", said.read_text()))
    assert calibrated(site, model, data / "visits.csv") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "is not checked" in shown and "no record is of a patient" not in shown


def test_patients_whom_headers_name_are_left_out_and_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pydicom")
    said = 'classes = ["benign", "malignant"]\n[pictures]\npatient = "header"\nchannels = 1\n'
    for folder, patients in (("lyon/scans", "ab"), ("new", "bcd")):
        for number, patient in enumerate(patients):
            write_dicom(
                tmp_path / folder / ("benign", "malignant")[number % 2] / f"{number}.dcm",
                np.full((8, 8), 100 * number + len(folder), dtype=np.uint16),
                PatientID=f"secret-{patient}",
            )
        (tmp_path / folder / "dataset.toml").write_text(said)
    site = tmp_path / "lyon"
    (site / "site.toml").write_text(
        'hospital = "lyon"\n[data]\nname = "image-folder:scans"\ndir = "."\nmost-patients = 20\n'
    )
    info = load_dataset("image-folder:scans", site, image_size=8, declared=True).info
    model = tmp_path / "model.safetensors"
    model.write_bytes(made_artefact(info, "logistic").to_bytes())
    few = ("--coverage", "0.5", "--confidence", "0.6")
    assert calibrated(site, model, tmp_path / "new", *few) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 records are of patients that image-folder:scans trains on: left out" in shown
    assert "calibrated on 2 records of 2 patients" in shown and "secret" not in shown


def test_of_too_few_patients_nothing_is_kept(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_visits(tmp_path, f"{HEADER}\n{visits(1, 43, read_artefact(model))}")
    data = tmp_path / "visits.csv"
    assert calibrated(site, model, data) == 2
    shown = capsys.readouterr()
    assert "43 patients are too few to promise 90% with 99% confidence, 44 are" in shown.err
    assert "FAIL" not in shown.out and not list((site / "private").glob("calibration-*"))
    assert calibrated(site, model, data, "--coverage", "0.8") == 0  # for which 21 are enough
    kept = read_site_file(site / "site.toml")
    assert calibration_file(kept, read_artefact(model).digest).is_file()


def test_a_calibration_on_fewer_patients_takes_no_better_one_s_place(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, data = read_artefact(model), tmp_path / "visits.csv"
    file = calibration_file(read_site_file(site / "site.toml"), artefact.digest)
    write_visits(tmp_path, f"{HEADER}\n{visits(1, 120, artefact)}")
    assert calibrated(site, model, data) == 0
    better = file.read_bytes()
    for count, more in ((3, ()), (60, ()), (3, ("--replace",))):
        write_visits(tmp_path, f"{HEADER}\n{visits(2, count, artefact)}")
        capsys.readouterr()
        assert calibrated(site, model, data, *more) == 2
        assert "a calibration on 120 patients is kept" in capsys.readouterr().err
        assert file.read_bytes() == better
    write_visits(tmp_path, f"{HEADER}\n{visits(2, 60, artefact)}")
    assert calibrated(site, model, data, "--replace") == 0
    assert "in place of one on 120 patients" in " ".join(capsys.readouterr().out.split())
    write_visits(tmp_path, f"{HEADER}\n{visits(3, 60, artefact)}")
    assert calibrated(site, model, data) == 0  # as many are no worse
    assert file.read_bytes() != better


def test_a_folder_that_is_no_hospital_s_is_said_to_be_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["calibrate"], ["predict"], ["predict", "--site", str(tmp_path / "none")]):
        assert main([*words, "--model", str(model), "--data", "visits.csv"]) == 2
        assert "name the hospital's folder with --site" in capsys.readouterr().err


def test_another_model_s_calibration_is_not_used(
    site: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = read_artefact(model)
    write_visits(tmp_path, f"{HEADER}\n{visits(1, 60, artefact)}")
    data = tmp_path / "visits.csv"
    before = coverage(model, site, data, capsys)
    other = tmp_path / "other.safetensors"
    other.write_bytes(made_artefact(artefact.info, "logistic", seed=9).to_bytes())
    assert calibrated(site, other, data) == 0
    assert coverage(model, site, data, capsys) == before
    file = calibration_file(read_site_file(site / "site.toml"), artefact.digest)
    kept = calibration_file(read_site_file(site / "site.toml"), read_artefact(other).digest)
    kept.rename(file)
    words = ["predict", "--site", str(site), "--model", str(model), "--data", str(data)]
    assert main([*words, "--out", str(tmp_path / "p.csv")]) == 2
    assert "is of another model" in capsys.readouterr().err
