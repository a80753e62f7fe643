"""Data of one's own are read before a run's engines start."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from clients.data import Cohorts, DataError
from simulations.cli import main
from simulations.own_data import read_own_data
from tests.in_process import small_settings


def pictures(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "scans" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((8, 8), 20 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"scans/{name}/{number}.png")


def settings_of(folder: Path, name: str):
    return small_settings(
        folder / "run",
        data__name=name,
        data__dir=str(folder),
        data__image_size=8,
        partition__name="iid",
        partition__hospitals=2,
    )


def test_what_cannot_be_read_is_named_before_round_one(tmp_path, caplog):
    pictures(tmp_path)
    (tmp_path / "scans/a/3.png").write_bytes(b"junk")
    shown = io.StringIO()
    with caplog.at_level(logging.WARNING):
        read_own_data(
            settings_of(tmp_path, "image-folder:scans"), Console(file=shown, width=100), Cohorts()
        )
    assert "1 of 20 records cannot be read and take no part" in shown.getvalue()
    assert "scans/a/3.png" in caplog.text


def test_published_sets_are_not_read_twice(tmp_path):
    read_own_data(settings_of(tmp_path, "digits"), Console(file=io.StringIO()), Cohorts())


def test_a_table_that_does_not_fit_ends_a_run_before_its_engine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "visits.csv").write_text("age,outcome\n1,a\n2,b\n")
    (tmp_path / "visits.toml").write_text(
        'target = "outcome"\nclasses = ["a", "b"]\n[ranges]\nheight = [0, 2]\n'
    )

    def never(*_):
        raise AssertionError("the engine was started")

    monkeypatch.setattr("simulations.engines.engine.simulate", never)
    words = ["run", "default", "--quiet", "--set", "data.name=csv:visits.csv"]
    assert main([*words, "--set", f"data.dir={tmp_path}"]) == 2
    assert "no column 'height'; it has age, outcome" in capsys.readouterr().err
    with pytest.raises(DataError):
        read_own_data(
            settings_of(tmp_path, "csv:visits.csv"), Console(file=io.StringIO()), Cohorts()
        )
