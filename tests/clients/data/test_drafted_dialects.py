"""Random tables in random spellings are read by their own drafts as what they were written from."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import load_dataset
from clients.data.declaration import read_declaration
from clients.data.drafting import draft
from tests.clients.data.test_data_dialects import FIRST, Spelling, spellings, write

ROWS = 60
SHARED = [HealthCheck.function_scoped_fixture]


def table(seed: int):
    """Sixty rows of truth, with a tenth of their values missing."""
    generator = np.random.default_rng(seed)

    def missing() -> bool:
        return bool(generator.random() < 0.1)

    return [
        (
            None if missing() else int(generator.integers(-500_000, 500_000)) / 100,
            None if missing() else int(generator.integers(0, 14_000)),
            None if missing() else ("f", "prefer not to say")[generator.integers(2)],
            bool(row % 2),
            int(generator.integers(0, 10)),
            row % 4,
        )
        for row in range(ROWS)
    ]


def check(seed: int, spelling: Spelling, folder) -> None:
    rows = table(seed)
    write(rows, spelling, folder)
    (folder / "it.toml").unlink()
    drafted = draft(folder / "it.csv")
    (folder / "it.toml").write_text(drafted.text, encoding="utf-8")
    loaded = load_dataset("csv:it.csv", folder, unconfirmed=True)
    said = read_declaration(folder / "it.toml")
    doubts = " ".join(drafted.oddities)
    assert len(loaded.train) == ROWS and said.target == "ill" and said.patient == "who"
    assert loaded.train.labels.tolist() == [int(row[3]) for row in rows]
    # A code that could be a dose, and is met hardly oftener than one, nobody can tell from one.
    met = Counter(row[0] for row in rows)
    missing = met.pop(None, 0)
    hidden = spelling.missing in ("-9", "999") and missing < 4 * max(met.values())
    columns = list(said.ranges)
    inputs = loaded.train.inputs
    for name, place in (("dose", 0), ("visit", 1)):
        assert name in columns, (name, drafted.text)
        range_ = said.ranges[name]
        found = (inputs[:, columns.index(name)].astype(float) + 1) / 2
        found = found * (range_.high - range_.low) + range_.low
        for row, value in zip(rows, found, strict=True):
            if row[place] is None or str(row[place]) in (f"{spelling.missing}.0",):
                middle = (range_.high + range_.low) / 2
                assert value == pytest.approx(middle, rel=1e-5, abs=1e-3) or hidden
                continue
            expected = float(row[place])
            if name == "visit":
                assert range_.origin is not None
                moment = datetime(FIRST.year, FIRST.month, FIRST.day).toordinal() + row[place]
                expected = moment - range_.origin.toordinal()
            right = value == pytest.approx(expected, rel=1e-5, abs=0.01)
            assert right or "dates such as" in doubts, (name, row, value, expected)


def test_a_code_that_is_hardly_oftener_met_than_a_dose_is_a_dose(tmp_path):
    spelling = Spelling(
        separator=",", decimal=".", thousands="", encoding="utf-8", missing="-9",
        dates="%Y-%m-%d", quoting=0, newline="\n", order=0,
    )  # fmt: skip
    check(5701, spelling, tmp_path)  # six of it, and one dose twice
    text = (tmp_path / "it.toml").read_text(encoding="utf-8")
    assert 'visit = ["-9"]' in text and 'dose = ["-9"]' not in text


@settings(max_examples=12, deadline=None, suppress_health_check=SHARED)
@given(seed=st.integers(0, 2**20), spelling=spellings())
def test_a_draft_reads_what_was_written(tmp_path, seed, spelling):
    check(seed, spelling, tmp_path)


@pytest.mark.exhaustive
@settings(max_examples=1000, deadline=None, suppress_health_check=SHARED)
@given(seed=st.integers(0, 2**20), spelling=spellings())
def test_many_drafts_read_what_was_written(tmp_path, seed, spelling):
    check(seed, spelling, tmp_path)


@pytest.mark.parametrize(
    ("patient", "hospital", "target"),
    [
        ("PatNr", "Haus", "Befund"),
        ("Patienten-ID", "Klinikum", "verstorben"),
        ("Fallnummer", "Standort", "Ergebnis"),
        ("IPP", "Établissement", "décès"),
        ("numéro_dossier", "clinique", "diagnostic"),
        ("paziente", "ospedale", "esito"),
        ("NHC", "centro", "resultado"),
        ("patient_id", "facility", "outcome"),
    ],
)
def test_columns_are_known_by_their_names_in_the_languages_of_hospitals(
    tmp_path, patient, hospital, target
):
    rows = [f"{70000 + row},{'AB'[row % 2]},{row % 7}.5,{row % 3 % 2}" for row in range(30)]
    text = "\n".join([f"{patient},{hospital},dose,{target}", *rows])
    (tmp_path / "it.csv").write_text(text, encoding="utf-8")
    assert draft(tmp_path / "it.csv").roles == {
        patient: "patient",
        hospital: "hospital",
        target: "target",
    }
