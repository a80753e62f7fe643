"""Where the data name no patients, run, report and statement say that a guarantee is per record."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from clients.data import load_dataset
from simulations.pages.report import render_report
from simulations.pages.tables import observer_table, summary_table
from strategies.run.reading import read_run
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def table(folder: Path, *, patients: bool) -> None:
    rows = [f"p{row // 2},{row % 60},{'ab'[row % 2]}" for row in range(80)]
    (folder / "visits.csv").write_text("\n".join(["who,age,outcome", *rows]) + "\n")
    (folder / "visits.toml").write_text(
        'target = "outcome"\nclasses = ["a", "b"]\n'
        + ('patient = "who"\n' if patients else "")
        + "[ranges]\nage = [0, 110]\n"
    )


def printed(*tables) -> str:
    text = io.StringIO()
    for one in tables:
        Console(width=80, file=text).print(one)
    return " ".join(text.getvalue().split())


@pytest.mark.parametrize("patients", [False, True])
def test_a_run_says_whom_its_epsilons_cover(tmp_path: Path, patients: bool) -> None:
    table(tmp_path, patients=patients)
    settings = small_settings(
        tmp_path / "run",
        data__name="csv:visits.csv",
        data__dir=str(tmp_path),
        data__public=False,
        partition__name="iid",
        audit__enabled=False,
    )
    run_app(settings)
    unit = "patient" if patients else "record"
    privacy, summary = (read_json(settings, f"{name}.json") for name in ("privacy", "summary"))
    assert privacy["unit"] == summary["unit"] == unit
    assert privacy["neighbouring"] == f"add or remove one {unit} at one hospital"
    run = read_run(Path(settings.run.out))
    shown = [printed(summary_table(summary), observer_table(privacy["observers"], unit))]
    shown.append(" ".join(render_report(run).split()))
    for text in shown:
        assert ("per record, not per patient" in text) != patients
        assert f"Who could learn what about a {unit}" in text


@pytest.mark.parametrize(("name", "unit"), [("breast-cancer", "patient"), ("digits", "record")])
def test_published_sets_say_whether_a_record_is_a_patient(name: str, unit: str) -> None:
    assert load_dataset(name).info.unit == unit
