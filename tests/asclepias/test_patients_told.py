"""A run that is told of other patients than there are: said where they are, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from asclepias import Patients
from tests.asclepias.own_apps import PATIENTS, load
from tests.asclepias.test_face import logs, own_cache, private_app, secure, start

__all__ = ["own_cache"]
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.mark.parametrize(
    ("records", "patients", "told"),
    [(50, PATIENTS, []), (50, 40, ["may be cut"]), (3, PATIENTS, ["hardly moves"] * 3)],
    ids=["as many", "more", "far fewer"],
)
def test_each_hospital_says_in_its_own_log_that_its_patients_are_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, records: int, patients: int, told: list[str]
) -> None:
    def some(context):
        found = load(context)
        return Patients(found.inputs[:records], found.targets[:records])

    strategy = secure(tmp_path, patients=patients, noise_multiplier=1.0, audit=False)
    start(strategy, lambda: private_app(data=some), rounds=1)
    lines = [line for line in logs(strategy).splitlines() if "patients are here" in line]
    assert len(lines) == len(told)
    assert "patients are here" not in caplog.text
    assert all(part in line for part, line in zip(told, lines, strict=True))
    assert all(f"told of {patients} at all hospitals" in line for line in lines)
    at_the_server = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "patients are here" not in at_the_server
