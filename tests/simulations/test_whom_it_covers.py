"""Where the data name no patients, run, report and statement say that a guarantee is per record."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from clients.data import load_dataset
from clients.data.public_facts import public_facts
from simulations.compare.report import render_comparison_report
from simulations.pages.report import render_report
from simulations.pages.tables import observer_table, summary_table
from strategies.run.reading import read_run
from tests.exchange_runs import read_json, run_app
from tests.in_process import small_settings
from tests.simulations.compare.made_comparisons import made_content

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def table(folder: Path, *, patients: bool = False) -> None:
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


def test_a_run_says_that_its_epsilons_cover_a_record(tmp_path: Path) -> None:
    table(tmp_path)
    settings = small_settings(
        tmp_path / "run",
        data__name="csv:visits.csv",
        data__dir=str(tmp_path),
        data__public=False,
        partition__name="iid",
        partition__hospitals=2,
        training__rounds=1,
        audit__enabled=False,
    )
    run_app(settings)
    privacy, summary = (read_json(settings, f"{name}.json") for name in ("privacy", "summary"))
    assert privacy["unit"] == summary["unit"] == "record"
    assert privacy["neighbouring"] == "add or remove one record at one hospital"
    page = render_report(read_run(Path(settings.run.out)))
    shown = printed(summary_table(summary), observer_table(privacy["observers"], "record"))
    for text in (shown, " ".join(page.split())):
        assert "per record, not per patient" in text
        assert "Who could learn what about a record" in text
    named = {**summary, "unit": "patient"}
    text = printed(summary_table(named), observer_table(privacy["observers"]))
    assert "per record" not in text and "Who could learn what about a patient" in text


@pytest.mark.parametrize("patients", [False, True])
def test_a_table_that_names_patients_is_about_patients(tmp_path: Path, patients: bool) -> None:
    table(tmp_path, patients=patients)
    info = load_dataset("csv:visits.csv", tmp_path).info
    assert info.unit == public_facts(info).unit == ("patient" if patients else "record")


@pytest.mark.parametrize(("name", "unit"), [("breast-cancer", "patient"), ("digits", "record")])
def test_published_sets_say_whether_a_record_is_a_patient(name: str, unit: str) -> None:
    assert load_dataset(name).info.unit == unit


@pytest.mark.parametrize("unit", ["patient", "record"])
def test_the_report_of_a_comparison_says_it_too(unit: str) -> None:
    page = " ".join(render_comparison_report({**made_content(), "unit": unit}).split())
    assert f"Who could learn what about a {unit}" in page
    assert f"adding or removing one {unit} at one hospital" in page
    assert ("per record, not per patient" in page) == (unit == "record")
