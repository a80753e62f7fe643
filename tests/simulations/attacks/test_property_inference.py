"""Property inference: a hospital's class balance shows, and never more often than noise allows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simulations.attacks.ground import Ground
from simulations.attacks.property_inference import BATCH, _batch, _People
from simulations.cli import main
from simulations.scenario import find_scenario, resolve

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

LITTLE = ["attack", "property-inference", "default", "--set", "partition.hospitals=3"]
LITTLE += ["--epsilons", "0.5", "--regimes", "FSCDP", "--trials", "40"]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_batch_has_the_share_that_is_asked_for(share):
    people = _People.of(Ground(settings=resolve(find_scenario("default"), [], {})))
    batch = _batch(people.private, share, np.random.default_rng(0))
    assert len(batch) == len(batch.patient_ids) == BATCH
    assert np.mean(batch.labels == 0) == share


def test_the_control_tells_and_much_noise_hides(tmp_path, capsys):
    assert main([*LITTLE, "--out", str(tmp_path)]) == 0
    folder = tmp_path / "attack-default"
    rows = json.loads((folder / "attacks.json").read_text())["property-inference"]["rows"]
    control, share, whole = rows
    assert control["told"] > 0.95 and control["allowed"] == 1.0
    assert whole["allowed"] < share["allowed"] < 0.97
    assert whole["told"] < 0.9
    assert (folder / "figures" / "attack-property-inference.svg").is_file()


@pytest.mark.exhaustive
def test_noise_that_is_left_out_is_an_alarm(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("simulations.attacks.one_round.noised_unpaid", lambda values, *rest: values)
    assert main([*LITTLE[:-1], "120", "--out", str(tmp_path)]) == 1  # forty are too few to be sure
    assert "are told apart, where at most" in capsys.readouterr().err


def test_too_few_public_records_are_refused(capsys):
    assert main([*LITTLE, "--set", "data.holdout=0.05"]) == 2
    assert "takes 20 records of" in capsys.readouterr().err
