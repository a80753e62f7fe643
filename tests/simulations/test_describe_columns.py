"""What a column is taken for in a draft: ranges, kinds, classes, and words for nothing."""

from __future__ import annotations

import tomllib

import pytest

from clients.data import load_dataset
from clients.data.column_draft import look_at, outwards
from clients.data.declared_parts import FileForm
from clients.data.dialect import Dialect
from clients.data.drafting import draft
from simulations.cli import main


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (30, 80, (20, 90)),
        (0, 1, (0, 1.5)),
        (0.02, 0.31, (0, 0.4)),
        (-3, 5, (-4, 6)),
        (7, 7, (0, 14)),
    ],
)
def test_ranges_are_rounded_outwards(low, high, expected):
    found = outwards(low, high)
    assert found[0] <= low and found[1] > high
    assert found[0] < low or low == 0


@pytest.mark.parametrize(
    ("cells", "use", "said"),
    [
        (["1.5", "2.5", "x", "9", "8", "7", "6", "5", "4", "3", "2"], "range", "row 4: 'x'"),
        (["5"] * 9, "unused", "always '5'"),
        (["", "?"], "unused", "it is empty"),
        ([f"note {n}" for n in range(40)], "unused", "40 different words"),
        (["0", "1"] * 5, "kinds", ""),
        (["a", "A", "b", "b", "b", "c"], "kinds", "'c' is met once"),
        (["2020-01-01", "2021-05-05", "2022-01-01"], "date", ""),
        ([*map(str, range(50)), "1e9"], "range", "lies far from all others"),
        ([*map(str, range(50)), "-99", "-99"], "range", "'-99' looks like a code"),
        (["f", "m", "Unbekannt", "n.d."] * 3, "kinds", "'Unbekannt', 'n.d.' look like codes"),
        (["unknown", "no"] * 5, "kinds", ""),
    ],
)
def test_a_column_is_taken_for_what_it_is(cells, use, said):
    column = look_at("it", cells, Dialect(FileForm()))
    assert column.use == use
    assert said in " ".join([column.why, *column.oddities])


def test_words_for_nothing_are_no_kinds_and_no_classes_and_count_as_missing(tmp_path, capsys):
    file = tmp_path / "visits.csv"
    rows = [f"p{n},{'fm'[n % 2]},{('yes', 'no')[n % 3 > 0]}" for n in range(40)]
    rows += ["q0,unknown,no", "q1,Unknown,yes", "q2,f,n.d.", "q3,m,N.D.", "q4,unknown,no"]
    file.write_text("patient,sex,readmitted\n" + "\n".join(rows) + "\n")
    assert main(["describe", str(file)]) == 0
    out = capsys.readouterr().out
    shares = {line.split()[0]: line.split()[2] for line in out.splitlines() if "%" in line}
    assert shares == {"sex": "7%", "readmitted": "4%"}
    said = tomllib.loads((tmp_path / "visits.toml").read_text())
    assert (said["target"], said["kinds"]["sex"]) == ("readmitted", ["f", "m"])
    assert said["classes"] == ["no", "yes"]
    assert said["missing"]["of"] == {
        "readmitted": ["N.D.", "n.d."],
        "sex": ["Unknown", "unknown"],
    }
    assert said["missing"]["columns"] == ["sex"]
    loaded = load_dataset(f"csv:{file}", unconfirmed=True)
    assert len(loaded.train) == 43  # two have no outcome


@pytest.mark.parametrize(
    ("outcomes", "classes"),
    [
        (["-1", "1"], ["-1", "1"]),
        (["1", "9"], ["1", "9"]),
        (["-1", "0", "1"], ["-1", "0", "1"]),
        (["0.0", "1.0", "9.0"], ["0", "1", "9"]),
        (["1", "2", "3", "4", "is", "x"], ["1", "2", "3", "4", "is", "x"]),
        (["yes", "no", "not done", "Not  done"], ["no", "yes"]),
        (["yes", "unknown", "n.d."], ["n.d.", "unknown", "yes"]),
    ],
)
def test_a_class_is_left_out_only_where_its_word_says_nothing(tmp_path, outcomes, classes):
    file = tmp_path / "it.csv"
    rows = [f"p{n},{n % 7 + 20},{outcomes[n % len(outcomes)]}" for n in range(60)]
    file.write_text("patient,age,outcome\n" + "\n".join(rows) + "\n")
    drafted = draft(file)
    assert tomllib.loads(drafted.text)["classes"] == classes
    (tmp_path / "it.toml").write_text(drafted.text)
    loaded = load_dataset(f"csv:{file}", unconfirmed=True)
    assert len(loaded.train) == (30 if "not done" in outcomes else 60)
    if "unknown" in outcomes:
        assert "'n.d.', 'unknown' look like codes" in " ".join(drafted.oddities)
