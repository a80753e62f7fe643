import os
import re

import numpy as np
import pytest

from clients.data import DataError, load_dataset
from clients.data import breast_cancer as cancer
from clients.data import heart_disease as heart
from clients.data.files import read_bounded

DECLARED = """
target = "outcome"
classes = ["alive", "dead"]
patient = "id"
hospital = "site"
[ranges]
age = [0, 100]
[kinds]
sex = ["f", "m"]
[missing]
columns = ["age"]
"""
ROWS = "id,site,age,sex,outcome\np1,north,50,f,alive\np1,north,100,m,dead\np2,south,?,,alive\n"


def write(folder, rows=ROWS, declared=DECLARED):
    (folder / "visits.csv").write_text(rows)
    (folder / "visits.toml").write_text(declared)
    return load_dataset("csv:visits.csv", folder)


def test_any_table_loads_with_its_patients_and_hospitals(tmp_path):
    loaded = write(tmp_path)
    assert loaded.train.patients.tolist() == [0, 0, 1]
    assert loaded.hospital_names == ("north", "south")
    expected = [[0, 1, -1, 0], [1, -1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(loaded.train.inputs, expected)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("50", "old", r"cannot be read.*row 2, column age: 'old', expected a number"),
        ("50", "inf", r"cannot be read.*row 2, column age: 'inf', expected a number"),
        (",f,", ",x,", r"cannot be read.*row 2, column sex: 'x', expected f, m"),
        ("50", '"50"0"1', r"cannot be read.*row 2, column age"),
    ],
)
def test_a_cell_that_cannot_be_read_is_a_missing_value(tmp_path, old, new, message):
    loaded = write(tmp_path, rows=ROWS.replace(old, new, 1))
    [line] = loaded.log.lines()
    assert re.search(message, line)
    empty = write(tmp_path, rows=ROWS.replace(old, old.replace("50", "").replace("f", ""), 1))
    assert not empty.log
    np.testing.assert_array_equal(loaded.train.inputs, empty.train.inputs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("m,dead", "m,gone", r"row 3, column outcome: 'gone', expected alive, dead"),
        ("p1,north,100", ",north,100", r"row 3, column id"),
        ("100", "100,1", r"row 3 has 6, expected 5"),
        ("100", '"100', r"row 3 has 3, expected 5"),
        ("100", "1\n00", r"row 3 has 3, expected 5"),
    ],
)
def test_a_row_that_cannot_be_read_is_out_and_no_other(tmp_path, old, new, message):
    loaded = write(tmp_path, rows=ROWS.replace(old, new, 1))
    assert re.search(f"the record is out.*{message}", loaded.log.lines()[0])
    np.testing.assert_array_equal(loaded.train.inputs, write(tmp_path).train.inputs[[0, 2]])


def test_a_patient_with_no_row_left_is_out(tmp_path):
    assert len(write(tmp_path, rows=ROWS.replace("sth", "").replace(",,alive", ",,")).train) == 2
    with pytest.raises(DataError, match="no row below the header"):
        write(tmp_path, rows=ROWS.splitlines()[0])


def test_a_header_without_a_declared_column_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no column 'age'; it has id, site, years"):
        write(tmp_path, rows=ROWS.replace("age", "years", 1))
    with pytest.raises(DataError, match=r"two columns 'age'"):
        write(tmp_path, rows=ROWS.replace("outcome", "outcome,age", 1))


def test_other_spellings_of_the_same_table_come_out_the_same(tmp_path):
    expected = write(tmp_path).train
    spellings = (
        ROWS.replace(",", ";").replace("50", "50,0"),
        ROWS.replace(",", "\t"),
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        ROWS.replace("?", "N/A").replace("f,alive", "F,Alive"),
    )
    for rows in spellings:
        loaded = write(tmp_path, rows=rows)
        assert not loaded.log
        np.testing.assert_array_equal(loaded.train.inputs, expected.inputs)
        np.testing.assert_array_equal(loaded.train.labels, expected.labels)


def test_numbers_may_be_written_with_a_point_where_classes_are_whole(tmp_path):
    declared = DECLARED.replace('["alive", "dead"]', "[0, 1]")
    rows = ROWS.replace("alive", "0.0").replace("dead", "1.0")
    assert write(tmp_path, rows=rows, declared=declared).train.labels.tolist() == [0, 1, 0]


def test_a_table_of_another_encoding_is_read(tmp_path):
    (tmp_path / "visits.toml").write_text(DECLARED)
    (tmp_path / "visits.csv").write_bytes(ROWS.replace("north", "Besan\xe7on").encode("latin-1"))
    assert load_dataset("csv:visits.csv", tmp_path).hospital_names == ("Besan\xe7on", "south")


def test_what_lies_outside_its_range_is_missing_and_said(tmp_path):
    loaded = write(tmp_path, rows=ROWS.replace("50", "-9"))
    [line] = loaded.log.lines()
    assert "row 2, column age: '-9', expected 0 to 100" in line
    assert loaded.train.inputs[0].tolist() == [0, 1, -1, 1]


def test_a_table_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="at most 10 are read"):
        (tmp_path / "large").write_bytes(b"x" * 11)
        read_bounded(tmp_path / "large", 10)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[0, 100]", "[100, 0]"),
        ("target =", "goal ="),
        ('columns = ["age"]', 'columns = ["height"]'),
        ("[ranges]", "[ranges"),
    ],
)
def test_a_bad_declaration_is_refused(tmp_path, old, new):
    with pytest.raises(DataError) as caught:
        write(tmp_path, declared=DECLARED.replace(old, new))
    assert caught.value.code == "declaration"


def test_a_table_without_declaration_says_what_to_declare(tmp_path):
    (tmp_path / "visits.csv").write_text(ROWS)
    with pytest.raises(
        DataError, match=r"visits\.toml does not exist.*'flower-simulation describe'"
    ):
        load_dataset("csv:visits.csv", tmp_path)


def test_no_value_of_one_patient_moves_anothers_inputs(tmp_path):
    # Negative control: a scaling fitted to the rows (here: by their maximum) would move them.
    before = write(tmp_path).train.inputs
    after = write(tmp_path, rows=ROWS.replace("100,m", "99,m")).train.inputs
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] != after[1]).any()
    fitted = np.array([50.0, 100.0]) / 100 != np.array([50.0, 99.0]) / 99
    assert fitted[0]


def test_bundled_tables_are_scaled_row_by_row():
    from sklearn.datasets import load_breast_cancer

    features, _ = load_breast_cancer(return_X_y=True)
    whole = cancer.scale(features)
    np.testing.assert_array_equal(whole[7:9], cancer.scale(features[7:9]))
    assert np.abs(whole).max() <= 1


def test_heart_disease_is_encoded_row_by_row():
    row = np.array([[63, 1, 1, 145, 0, 1, 2, 150, 0, 2.3, 3, np.nan, 6, 0]], dtype=float)
    other = np.array([[40, 0, 4, 999, 250, 0, 0, 90, 1, 0, 1, 2, 3, 1]], dtype=float)
    columns = (
        *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"),
        *("slope", "ca", "thal"),
    )
    both = heart.encode(np.concatenate([row, other]), columns)
    np.testing.assert_array_equal(both[:1], heart.encode(row, columns))
    assert np.abs(both).max() <= 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", "has 3 values, expected 14"),
        ("63,1,1,145,233,1,2,150,0,2.3,3,0,6,9", "column num: '9', expected 0 to 4"),
        ("63,1,1,x,233,1,2,150,0,2.3,3,0,6,0", "column trestbps: 'x', expected a number"),
    ],
)
def test_a_bad_heart_row_is_out_and_named(tmp_path, line, message):
    folder = tmp_path / heart.FOLDER
    os.makedirs(folder)
    good = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0\n"
    for name in heart.HOSPITALS:
        (folder / f"processed.{name}.data").write_text(good + line + "\n")
    loaded = load_dataset("heart-disease", tmp_path)
    assert any(message in one for one in loaded.log.lines())
    assert len(loaded.train) == (8 if "number" in message else 4)
