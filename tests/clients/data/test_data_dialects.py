"""Random tables in random spellings come out as the values that they were written from."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.data import DataError, load_dataset
from clients.data.declaration import declared
from clients.data.declared_parts import FileForm
from clients.data.dialect import Dialect

FORMS = (
    FileForm(),
    FileForm(decimal=","),
    FileForm(thousands=","),
    FileForm(thousands="."),
    FileForm(decimal=".", thousands="'"),
)
FIRST, LAST = date(1990, 1, 1), date(2030, 1, 1)
SITES = ("Besançon", "Łódź", "lyon", "São Paulo")
SPELLINGS = {
    "f": ("f", "F", " f "),
    "prefer not to say": ("Prefer  not to say", "PREFER NOT TO SAY"),
}


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How a table is written down."""

    separator: str
    decimal: str
    thousands: str
    encoding: str
    missing: str
    dates: str
    quoting: int
    newline: str
    order: int

    def number(self, value: float) -> str:
        text = f"{value:,.2f}" if self.thousands else f"{value:.2f}"
        return "".join(
            {",": self.thousands, ".": self.decimal}.get(letter, letter) for letter in text
        )


@st.composite
def spellings(draw) -> Spelling:
    decimal = draw(st.sampled_from([".", ","]))
    return Spelling(
        separator=draw(st.sampled_from([",", ";", "\t", "|"])),
        decimal=decimal,
        thousands=draw(
            st.sampled_from([one for one in ("", ".", ",", "'", " ") if one != decimal])
        ),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])),
        missing=draw(st.sampled_from(["", "?", "NA", "n/a", ".", "-9", "999", "unbekannt"])),
        dates=draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d %b %Y"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        newline=draw(st.sampled_from(["\n", "\r\n"])),
        order=draw(st.integers(0, 2**16)),
    )


values = st.one_of(st.none(), st.integers(-500_000, 500_000).map(lambda n: n / 100))
rows = st.lists(
    st.tuples(
        values,
        st.one_of(st.none(), st.integers(0, (LAST - FIRST).days)),
        st.one_of(st.none(), st.sampled_from(["f", "prefer not to say"])),
        st.booleans(),
        st.integers(0, 9),
        st.integers(0, len(SITES) - 1),
    ),
    min_size=1,
    max_size=8,
)


def write(table, spelling: Spelling, folder, *, say_form: bool = True) -> None:
    """Write rows of truth in a spelling, and the declaration that goes with it."""
    shuffled = random.Random(spelling.order)
    sites = SITES if "utf" in spelling.encoding else ("Besançon", "Nancy", "lyon", "São Paulo")
    lines = []
    for value, day, kind, ill, patient, site in table:
        moment = None if day is None else FIRST + timedelta(days=day)
        lines.append(
            {
                "dose": spelling.missing if value is None else spelling.number(value),
                "visit": spelling.missing if moment is None else moment.strftime(spelling.dates),
                "sex": spelling.missing if kind is None else shuffled.choice(SPELLINGS[kind]),
                "ill": shuffled.choice(
                    ("1", f"1{spelling.decimal}0", "True")
                    if ill
                    else ("0", f"0{spelling.decimal}0", "FALSE")
                ),
                "who": f"p{patient}",
                "site": sites[site],
                "note": shuffled.choice(("", "a, b; c", "3|4", "says 'no'")),
            }
        )
    columns = list(lines[0])
    shuffled.shuffle(columns)
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        columns,
        delimiter=spelling.separator,
        quoting=spelling.quoting,
        lineterminator=spelling.newline,
    )
    writer.writeheader()
    writer.writerows(lines)
    (folder / "it.csv").write_bytes(text.getvalue().encode(spelling.encoding))
    form = {"separator": spelling.separator, "decimal": spelling.decimal, "dates": spelling.dates}
    form |= {"thousands": spelling.thousands, "encoding": spelling.encoding}
    said = {
        "target": "ill",
        "classes": [0, 1],
        "patient": "who",
        "hospital": "site",
        "ranges": {"dose": [-5000, 5000], "visit": [FIRST.isoformat(), LAST.isoformat()]},
        "kinds": {"sex": list(SPELLINGS)},
        "missing": {"codes": [spelling.missing], "columns": ["dose", "visit"]},
    }
    if spelling.missing in ("-9", "999"):
        # A code that could be a dose is one of the other columns alone.
        said["missing"] = {"columns": ["dose", "visit"], "of": {"dose": [spelling.missing]}}
        said["missing"]["of"] |= {"visit": [spelling.missing], "sex": [spelling.missing]}
    (folder / "it.toml").write_text(
        tomli_w.dumps({**said, "file": form} if say_form else said), encoding="utf-8"
    )


def truth(table, code: str) -> np.ndarray:
    """The inputs that rows of truth become."""
    made = []
    for value, day, kind, *_ in table:
        dose = None if value is None or str(value) in (f"{code}.0", code) else value
        span = (LAST - FIRST).days
        line = [0.0 if dose is None else dose / 5000, 0.0 if day is None else 2 * day / span - 1]
        line += [0.0 if kind is None else (1.0 if kind == one else -1.0) for one in SPELLINGS]
        made.append([*line, float(dose is None), float(day is None)])
    return np.asarray(made, dtype=np.float32)


def check(table, spelling, folder):
    write(table, spelling, folder)
    loaded = load_dataset("csv:it.csv", folder, declared=True)
    np.testing.assert_allclose(loaded.train.inputs, truth(table, spelling.missing), atol=1e-6)
    assert loaded.train.labels.tolist() == [int(row[3]) for row in table]
    assert [loaded.patient_names[one] for one in loaded.train.patients] == [
        f"p{row[4]}" for row in table
    ]
    assert not loaded.log


SHARED = [HealthCheck.function_scoped_fixture]


@settings(max_examples=30, deadline=None, suppress_health_check=SHARED)
@given(table=rows, spelling=spellings())
def test_a_table_comes_out_the_same_in_any_spelling(tmp_path, table, spelling):
    check(table, spelling, tmp_path)


@pytest.mark.exhaustive
@settings(max_examples=3000, deadline=None, suppress_health_check=SHARED)
@given(table=rows, spelling=spellings())
def test_many_tables_come_out_the_same_in_any_spelling(tmp_path, table, spelling):
    check(table, spelling, tmp_path)


@settings(max_examples=30, deadline=None, suppress_health_check=SHARED)
@given(table=rows, spelling=spellings())
def test_what_is_not_declared_is_missing_and_never_another_value(tmp_path, table, spelling):
    write(table, spelling, tmp_path, say_form=False)
    loaded = load_dataset("csv:it.csv", tmp_path, declared=True)
    # The first line decides on a separator and on UTF-16; of the rest no value may be invented.
    kept = [row for row in table]
    if len(loaded.train) < len(kept):
        assert loaded.log
        return
    expected = truth(kept, spelling.missing)
    right = np.isclose(loaded.train.inputs, expected, atol=1e-6)
    missing = loaded.train.inputs[:, :2] == 0
    assert (right[:, :2] | missing).all()


@pytest.mark.parametrize(
    ("form", "separator", "cell", "value"),
    [
        ({}, ",", "1234.5", 1234.5),
        ({}, ",", "1,234", None),
        ({}, ";", "138,5", 138.5),
        ({}, ";", "138.5", 138.5),
        ({}, ";", "1,234", None),
        ({}, ";", "1.234", None),
        ({}, ";", "0,125", 0.125),
        ({"decimal": ","}, ";", "1,234", 1.234),
        ({"decimal": ","}, ";", "1.234", None),
        ({"decimal": ","}, ";", "1.5", None),
        ({"thousands": "."}, ";", "1.234,5", 1234.5),
        ({"thousands": "."}, ";", "12.34", None),
        ({"thousands": ","}, ",", "1,234,567", 1234567),
        ({"thousands": ","}, ",", "1,23", None),
        ({"thousands": " "}, ";", "1\u202f234", 1234),
        ({"thousands": "'"}, ";", "1\u2019234", 1234),
        ({}, ",", "\u22125", -5),
        ({}, ",", "1e3", 1000),
        ({}, ",", "1_000", None),
        ({}, ",", "inf", None),
        ({}, ",", "٣", 3),
        ({}, ",", "0x10", None),
    ],
)
def test_a_number_is_read_as_declared_or_not_at_all(form, separator, cell, value):
    assert Dialect(FileForm(**form), separator).number(cell) == value


@pytest.mark.parametrize(
    ("cell", "how", "value"),
    [
        ("<90", "bound", 90),
        ("≥ 90", "bound", 90),
        ("<90", "half", 45),
        (">90", "half", 90),
        ("<90", "", None),
        ("5 kPa", "", 37.5),
        ("5KPA", "", 37.5),
        ("37.5", "", 37.5),
        ("5 bar", "", None),
        ("<5 kPa", "bound", 37.5),
        ("5 5 kPa", "", None),
    ],
)
def test_a_measurement_may_have_a_unit_and_a_bound(cell, how, value):
    found = Dialect(FileForm()).measured(cell, censored=how, units={"mmHg": 1.0, "kPa": 7.5})
    assert found == value


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("[ranges]\nage = [0, inf]", r"ranges.age = \[0, inf\]: expected finite numbers"),
        ("[ranges]\nage = [5, 5]", r"always the same tells nothing; leave it out"),
        ('[ranges]\nage = ["2020-01-01", 5]', r"expected two numbers, or two dates"),
        ('[kinds]\nsex = ["f", "F "]', r"\[kinds\] sex names 'F ' twice"),
        ('[kinds]\nsex = ["f"]', r"declare what else it can be"),
        ("clases = [1, 2]", r"unknown key 'clases'; did you mean classes\?"),
        ('[file]\ndecimal = ";"', r"file.decimal = ';': input should be '', '.' or ','"),
        ('[file]\nencoding = "latin-99"', r"'latin-99' is unknown"),
        ('[file]\ndates = "dd.mm.yy"', r"expected a form such as %d"),
        ('[file]\ndecimal = ","\nthousands = ","', r"decimal and thousands are both ','"),
        ('unconfirmed = ["age"]', r"unconfirmed names 'age', which is in neither"),
    ],
)
def test_an_unsound_declaration_says_what_to_change(tmp_path, said, message):
    import tomllib

    with pytest.raises(DataError, match=message) as caught:
        declared(tomllib.loads(said), tmp_path / "it.toml")
    assert caught.value.code == "declaration"


@pytest.mark.parametrize("separator", [",", ";"])
@given(cell=st.from_regex(r"[+-]?[0-9.,eE'\- ]{0,12}", fullmatch=True), form=st.sampled_from(FORMS))
def test_a_number_that_is_read_at_once_is_the_one_that_is_read_with_care(
    separator: str, cell: str, form: FileForm
) -> None:
    dialect = Dialect(form, separator)
    found = dialect.plain_number(cell)
    assert found is None or repr(found) == repr(dialect.number(cell))


def test_a_number_is_read_at_once_where_nothing_else_can_be_meant() -> None:
    assert Dialect(FileForm()).plain_number("-12.50") == -12.5
    for form in FORMS[1:]:
        assert Dialect(form).plain_number("12.500") is None
    assert Dialect(FileForm(), ";").plain_number("12.500") is None
