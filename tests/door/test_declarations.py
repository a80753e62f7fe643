"""Hospitals that declare their data differently do not train together, and are told in what."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.contract.kinds import Kind
from tests.door.tables import A, table_settings, with_tables
from tests.door.world import Play, agreement_of

B = "hospital-01"
DIFFERENCES = {
    "classes reversed": (
        'classes = ["no", "yes"]',
        'classes = ["yes", "no"]',
        'declared classes is ["no", "yes"] in the run, and ["yes", "no"] here',
    ),
    "another range": (
        "age = [0.0, 1.0]",
        "age = [0.5, 2.0]",
        "declared ranges: age is [0, 1] in the run, and [0.5, 2] here",
    ),
    "another order of columns": (
        "age = [0.0, 1.0]\ndose = [0.0, 1.0]",
        "dose = [0.0, 1.0]\nage = [0.0, 1.0]",
        'declared columns is ["age", "dose"] in the run, and ["dose", "age"] here',
    ),
    "a column more": (
        "[ranges]",
        '[kinds]\nill_before = ["no", "yes"]\n[ranges]',
        'declared kinds: ill_before is not there in the run, and ["no", "yes"] here',
    ),
}


def _world(folder: Path) -> tuple[Play, Path]:
    sites = with_tables(folder)
    settings = table_settings(folder)
    return Play.of(sites, settings, agreement_of(settings)), sites.consortium.site(B)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_hospital_that_declares_otherwise_is_refused_and_told_in_what(
    tmp_path: Path, difference: str
) -> None:
    old, new, said = DIFFERENCES[difference]
    play, site = _world(tmp_path)
    declaration = site / "visits.toml"
    assert old in declaration.read_text()
    declaration.write_text(declaration.read_text().replace(old, new))
    rows = (site / "visits.csv").read_text().splitlines()
    if "ill_before" in new:
        rows = [rows[0] + ",ill_before", *(f"{row},no" for row in rows[1:])]
        (site / "visits.csv").write_text("\n".join(rows) + "\n")
    asked = play.joining(terms=play.agreement.text.encode())
    assert play.ask(A, Kind.JOIN, asked)
    answer = play.ask(B, Kind.JOIN, asked)
    assert answer.code == "training-bound"
    assert said in (site / "private/hospital.log").read_text()


def test_how_a_file_is_written_is_each_hospitals_own(tmp_path: Path) -> None:
    # Negative control: the same values in other words, by a declaration that says in which.
    play, site = _world(tmp_path)
    rows = (site / "visits.csv").read_text().replace(",", ";").replace(".", ",")
    (site / "visits.csv").write_bytes(rows.encode("utf-16"))
    with (site / "visits.toml").open("a") as file:
        file.write('[missing]\ncodes = ["n.d."]\n[file]\ndecimal = ","\nseparator = ";"\n')
    assert play.ask(B, Kind.JOIN, play.joining(terms=play.agreement.text.encode()))


@pytest.mark.parametrize("terms", [b"", b"\xff", b"{", b"x\n[]", b'x\n{"a":' * 2000])
def test_what_is_no_text_of_terms_changes_no_answer(tmp_path: Path, terms: bytes) -> None:
    play, site = _world(tmp_path)
    assert play.ask(A, Kind.JOIN, play.joining(terms=terms))
    declaration = site / "visits.toml"
    declaration.write_text(declaration.read_text().replace("age = [0.0", "age = [-1.0"))
    assert play.ask(B, Kind.JOIN, play.joining(terms=terms)).code == "training-bound"
