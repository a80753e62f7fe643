"""A hospital that asks for it audits each training by itself when it closes, and tells nobody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from accounting.randomness import Stream
from clients.audit.plan import LEAST
from clients.site import worker
from tests.audit.given_noise import set_noise
from tests.exchange_runs import run_app
from tests.in_process import small_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.usefixtures("chances"),
]

#: A run that would have as little attacked as settings allow.
CANARIES = {"audit__canaries": 100, "training__sampling_rate": 1.0}


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hospital's own file says `audit = true`."""
    made = worker.simulated_site

    def site(name: str, *given: object) -> object:
        return replace(made(name, *given), audit=name == "hospital-00")  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "simulated_site", site)


def found_in(out: Path) -> dict[str, dict]:
    files = out.rglob("audit-*.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            {
                "exchange__name": "cyclic",
                "exchange__cycles": 2,
                "privacy__regime": "FPDP",
                "training__rounds": 4,
            },
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["sums", "visits"],
)
def test_what_is_found_stays_in_the_hospitals_own_folder(tmp_path: Path, changes: dict) -> None:
    settings = small_settings(tmp_path, **CANARIES, **changes)
    grid = run_app(settings)
    found = found_in(tmp_path)
    assert list(found) == ["hospital-00"]
    assert found["hospital-00"]["passed"] and found["hospital-00"]["canaries"] >= LEAST
    [log] = tmp_path.rglob("hospital-00/hospital.log")
    assert "passed; epsilon server" in log.read_text()
    assert not any("udit" in str(reply.content) for reply in grid.replies)
    assert "audit" not in json.loads((tmp_path / "privacy.json").read_text())


@pytest.mark.usefixtures("asking")
def test_a_training_with_less_noise_is_found_out_and_its_answers_are_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Stream.normal
    set_noise(monkeypatch, lambda self, count: 0.5 * honest(self, count))
    run_app(small_settings(tmp_path, **CANARIES))
    assert not found_in(tmp_path)["hospital-00"]["passed"]
    [log] = tmp_path.rglob("hospital-00/hospital.log")
    assert "FAILED, take part in no other training" in log.read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"


def test_a_hospital_that_does_not_ask_is_not_audited(tmp_path: Path) -> None:
    run_app(small_settings(tmp_path, **CANARIES))
    assert found_in(tmp_path) == {}
