"""Linkage: few columns find a record in a table without names, and noise keeps its promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simulations.attacks.linkage import KNOWN, Release, _row, releases
from simulations.cli import main


def table_of(patients=300, columns=8, seed=0):
    return np.random.default_rng(seed).uniform(size=(patients, columns))


def test_more_known_columns_find_more_and_rounding_finds_less():
    table, (bare, ten, four, *_) = table_of(), releases()
    for release in (bare, ten, four):
        found = [_row(table, release.make(table, 0), release, known)["picked"] for known in KNOWN]
        assert found == sorted(found)
    assert _row(table, bare.make(table, 0), bare, 8)["picked"] == 1.0
    assert _row(table, four.make(table, 0), four, 2)["picked"] < 0.15


def test_records_that_are_equal_are_a_guess_among_them():
    table = np.repeat(table_of(patients=30), 10, axis=0)
    row = _row(table, table, releases()[0], 8)
    assert row["picked"] == pytest.approx(0.1)
    assert row["alone"] == 0.0


@pytest.mark.parametrize("scale", [4.0, 16.0])
def test_noise_keeps_its_promise(scale):
    table = table_of(patients=400)
    release = next(one for one in releases() if one.title == f"noise of scale {scale:g}")
    assert release.epsilon == pytest.approx(1 / scale)
    found = [_row(table, release.make(table, seed), release, 2) for seed in range(5)]
    assert found[0]["allowed"] == pytest.approx(np.exp(16 / scale) / 400, rel=1e-6)
    assert np.mean([row["picked"] for row in found]) <= found[0]["allowed"]


def test_who_knows_one_column_reads_those_that_go_with_it_within_what_is_allowed():
    table = np.repeat(np.random.default_rng(0).integers(0, 2, (400, 1)).astype(float), 60, axis=1)
    release = next(one for one in releases() if one.title == "noise of scale 4")
    shown = release.make(table, 0)
    told = np.mean((shown.mean(axis=1) > 0.5) == (table[:, 0] > 0.5))
    assert told > 0.65 > np.exp(release.epsilon) / (1 + np.exp(release.epsilon))
    assert _row(table, shown, release, 1)["allowed"] == pytest.approx(1.0, abs=1e-3)


def test_a_promise_that_does_not_hold_is_above_its_limit():
    table = table_of()
    row = _row(
        table, table, Release(title="said to be noised", make=lambda t, s: t, epsilon=0.1), 8
    )
    assert row["picked"] > 10 * row["allowed"]


def test_the_command_links_a_table_and_names_what_no_table_is(tmp_path, capsys):
    words = ["attack", "linkage", "default", "--regimes", "F,FSCDP", "--epsilons", "1"]
    words += ["--set", "data.holdout=0.8"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    folder = tmp_path / "attack-default"
    found = json.loads((folder / "attacks.json").read_text())["linkage"]
    assert found["control"]["succeeded"]
    model = found["rows"][-1]
    assert (model["way"], model["picked"]) == ("a model: FSCDP, epsilon 1", None)
    assert model["allowed"] < 0.03
    assert (folder / "figures" / "attack-linkage.svg").is_file()
    assert main(["attack", "linkage", "default", "--set", "data.name=digits"]) == 2
    assert "is about tables" in capsys.readouterr().err
