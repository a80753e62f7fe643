"""Commands that plan: what a training would spend, what a vector costs, what may be combined."""

import json

import pytest

from simulations.cli import main


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_account_gives_dopamines_published_epsilons(capsys):
    words = ["--sampling-rate", "0.0341297", "--noise-multiplier", "1.15", "--rounds", "3001"]
    assert main(["account", *words, "--delta", "1e-4", "--json"]) == 0
    epsilon = json.loads(capsys.readouterr().out)["epsilon"]
    assert epsilon["rdp"] == pytest.approx(9.85, abs=0.02)
    assert epsilon["prv"] == pytest.approx(8.99, abs=0.02)


def test_account_finds_the_noise_for_a_target(capsys):
    words = ["--sampling-rate", "0.2", "--target-epsilon", "1", "--rounds", "60"]
    assert main(["account", *words, "--accountant", "rdp"]) == 0
    out = capsys.readouterr().out
    assert "noise multiplier" in out
    assert "server + one key" in out
    assert "bound: by target-epsilon" in out


def test_account_says_nothing_of_a_target_where_none_is_given(capsys):
    words = ["--sampling-rate", "0.2", "--noise-multiplier", "4", "--rounds", "60"]
    assert main(["account", *words]) == 0
    out = capsys.readouterr().out
    assert "server + one key" in out and "bound" not in out.split("server")[0]
    assert "target" not in out


def test_sealing_plan_says_what_a_vector_costs(capsys):
    assert main(["sealing-plan", "--parameters", "725061", "--hospitals", "10"]) == 0
    out = capsys.readouterr().out
    for part in ("bits per value", "values per slot", "bytes up", "error bound of the mean"):
        assert part in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_exchanges_are_listed_with_what_makes_them_sound(capsys):
    assert main(["exchanges", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"exchange": "gradients", "noise": "semi-central"}.items() <= rows[-1].items() or any(
        row["noise"] == "semi-central" for row in rows
    )
