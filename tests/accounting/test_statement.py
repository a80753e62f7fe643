import json

import pytest

from accounting.errors import AccountingError
from accounting.events import GaussianEvent
from accounting.ledger import Ledger
from accounting.statement import PlannedRun, account, ledger_statement

LINE = {"sampling_rate": 0.0341297, "rounds": 3001, "delta": 1e-4}


def test_the_account_of_dopamines_line_has_every_accountant_and_observer():
    said = account(PlannedRun(**LINE, noise_multiplier=1.15, hospitals=10, dropouts=1, colluders=1))
    assert said["epsilon"]["rdp"] == pytest.approx(9.85, abs=0.02)
    assert said["epsilon"]["prv"] == pytest.approx(8.99, abs=0.02)
    assert said["epsilon"]["rdp-classic"] == pytest.approx(10.83, abs=0.02)
    names = [row["observer"] for row in said["observers"]]
    assert {"server", "any 1 colluding hospital", "server + one key holder"} <= set(names)
    json.dumps(said, allow_nan=False)


def test_a_target_gives_the_noise_that_meets_it():
    said = account(PlannedRun(sampling_rate=0.2, rounds=60, delta=1e-4, target_epsilon=1.0))
    assert 0.99 < said["epsilon"]["prv"] <= 1.0
    assert said["observers"] == []
    assert said["inputs"]["target_epsilon"] == 1.0


@pytest.mark.parametrize("given", [{}, {"noise_multiplier": 1.0, "target_epsilon": 1.0}])
def test_noise_or_target_must_be_given_and_not_both(given):
    with pytest.raises(AccountingError, match="either"):
        PlannedRun(**LINE, **given)


def test_a_ledger_is_told_by_training_and_together(tmp_path):
    path = tmp_path / "ledger.jsonl"
    event = GaussianEvent(sampling_rate=0.1, noise_multiplier=2.0)
    with Ledger(path, site="north", cohort="lungs", durable=False) as ledger:
        for training, rounds in (("one", 5), ("two", 7)):
            for number in range(rounds):
                ledger.spend(event, training=training, round=number, attempt=1, purpose="gradient")
    before = path.read_bytes()
    said = ledger_statement(path, 1e-5)
    assert (said["site"], said["cohort"], len(said["entries"])) == ("north", "lungs", 12)
    assert said["trainings"]["two"]["entries"] == 7
    assert said["trainings"]["two"]["events"][0]["count"] == 7
    spent = said["epsilon"]
    assert said["trainings"]["two"]["epsilon"] < spent["prv"] < spent["rdp"] < spent["adaptive"]
    assert path.read_bytes() == before
    json.dumps(said, allow_nan=False)
