"""Visual privacy: less comes back of a picture the more noise it has, and some that no eye sees."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from simulations.attacks.visual_privacy import SCALES, _Shown
from simulations.cli import main

WORDS = ["attack", "visual-privacy", "default", "--set", "data.name=digits", "--trials", "100"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visual")
    assert main([*WORDS, "--out", str(folder)]) == 0
    path = folder / "attack-default"
    assert (path / "figures" / "attack-visual-privacy.png").is_file()
    return json.loads((path / "attacks.json").read_text())["visual-privacy"]["rows"]


def test_more_noise_leaves_less(rows):
    noised = rows[1:]
    assert [row["way"] for row in noised] == [f"scale {scale:g}" for scale in SCALES]
    for key in ("noisy", "ssim", "picked"):
        values = [row[key] for row in noised]
        assert all(a >= b - 0.03 for a, b in pairwise(values))


def test_a_denoiser_gets_back_what_an_eye_does_not_see(rows):
    guess, one = rows[0], next(row for row in rows if row["way"] == "scale 1")
    assert one["noisy"] < 0.4 < guess["ssim"] < one["ssim"]
    assert one["picked"] > 0.4
    assert (one["run_epsilon"], one["allowed"]) == (pytest.approx(64.0), 1.0)


def test_pictures_beyond_all_noise_are_a_guess():
    generator = np.random.default_rng(0)
    pictures = generator.uniform(size=(60, 1, 8, 8))
    shown = _Shown(pictures[:10], pictures[10:], seed=0)
    assert shown.picks(1000.0, 0, 200) < 40
    row, _, clean = shown.attacked(1000.0, 0)
    assert row["ssim"] < 0.5
    assert clean.shape == (10, 1, 8, 8)


def test_tables_have_no_pictures(capsys):
    assert main(["attack", "visual-privacy", "default"]) == 2
    assert "is about pictures" in capsys.readouterr().err
