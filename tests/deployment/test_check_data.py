"""The operator's own look at the records, and the stamp that it leaves."""

from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path

import pytest

from clients.contract.stages import listening
from clients.site.data_stamp import STAMP, remove_stamp, stamp_covers, write_stamp
from deployment.cli import main

SITE = 'hospital = "lyon"\n[data]\nname = "csv:visits.csv"\ndir = "."\n'
ROWS = "patient,age,outcome\np1,50,a\np1,51,a\np2,52,b\np3,old,b\n"
DECLARED = (
    'target = "outcome"\nclasses = ["a", "b"]\npatient = "patient"\n[ranges]\nage = [0, 110]\n'
)


def _site(folder: Path, declared: str, rows: str = ROWS) -> Path:
    (folder / "site.toml").write_text(SITE + declared)
    (folder / "visits.csv").write_text(rows)
    (folder / "visits.toml").write_text(DECLARED)
    return folder / "private"


def _check(folder: Path) -> int:
    return main(["check-data", "--site", str(folder)])


def test_counts_are_shown_to_the_operator_and_kept_out_of_the_stamp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = _site(tmp_path, "most-patients = 40\n")
    assert _check(tmp_path) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 records of 3 patients: a 2, b 2" in printed
    assert "'old', expected a number" in printed
    kept = json.loads((private / STAMP).read_text())
    assert (kept["data"], kept["most-patients"]) == ("csv:visits.csv", 40)
    assert set(kept) == {"data", "most-patients", "date"}
    assert stat.S_IMODE((private / STAMP).stat().st_mode) == 0o600


@pytest.mark.parametrize("key", ["most-patients", "patients"])
def test_more_patients_than_declared_get_no_stamp_and_lose_the_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    private = _site(tmp_path, f"{key} = 3\n")
    assert _check(tmp_path) == 0
    assert stamp_covers(private, 3, data="csv:visits.csv")
    _site(tmp_path, f"{key} = 3\n", ROWS + "p4,50,a\n")
    assert _check(tmp_path) == 1
    assert "4 patients" in " ".join(capsys.readouterr().err.split())
    assert not stamp_covers(private, 3, data="csv:visits.csv")


def test_a_site_that_declares_no_number_is_told_what_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = _site(tmp_path, "")
    private.mkdir(mode=0o700)
    write_stamp(private, data="csv:visits.csv", bound=3, day=date(2026, 1, 1))
    assert _check(tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "declares no [data] most-patients" in said
    assert "Runs of shared layers" in said
    assert not (private / STAMP).exists()


def test_a_stamp_covers_runs_with_as_much_room_over_the_same_data(tmp_path: Path) -> None:
    assert not stamp_covers(tmp_path, 50, data="csv:a.csv")
    write_stamp(tmp_path, data="csv:a.csv", bound=40, day=date(2026, 1, 1))
    assert stamp_covers(tmp_path, 40, data="csv:a.csv")
    assert stamp_covers(tmp_path, 50, data="csv:a.csv")
    assert not stamp_covers(tmp_path, 39, data="csv:a.csv")
    assert not stamp_covers(tmp_path, 50, data="csv:b.csv")
    (tmp_path / STAMP).write_text("{}")
    assert not stamp_covers(tmp_path, 50, data="csv:a.csv")
    remove_stamp(tmp_path)
    remove_stamp(tmp_path)
    assert not (tmp_path / STAMP).exists()


def test_how_far_the_opening_of_pictures_is_is_told(tmp_path: Path) -> None:
    from PIL import Image

    from deployment.check_data import check_data

    for kind in ("ill", "well"):
        (tmp_path / "scans" / kind).mkdir(parents=True)
        for number in range(40):
            Image.new("L", (8, 8), number).save(tmp_path / "scans" / kind / f"{number}.png")
    (tmp_path / "scans" / "dataset.toml").write_text(
        'classes = ["ill", "well"]\n[pictures]\nlayout = "class"\nchannels = 1\n'
    )
    (tmp_path / "site.toml").write_text(
        SITE.replace("csv:visits.csv", "image-folder:scans") + "most-patients = 90\n"
    )
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *told: heard.append(told)):
        assert all(finding.good for finding in check_data(tmp_path))
    assert heard == [("opening pictures", done, 80) for done in (0, 64, 80)]
