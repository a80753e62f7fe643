import os

import numpy as np
import pytest

from clients.data import DataError, load_dataset
from clients.data import breast_cancer as cancer
from clients.data import heart_disease as heart

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
        ("50", "old", r"row 2, column age: 'old', expected a number"),
        ("50", "inf", r"row 2, column age: 'inf', expected a number"),
        (",m,", ",x,", r"row 3, column sex: 'x', expected f, m"),
        ("dead", "gone", r"row 3, column outcome: 'gone', expected alive, dead"),
        ("p2,", ",", r"row 4, column id: empty"),
        ("age", "years", r"no column 'age'; it has id, site, years"),
        ("north,50", "north,50,1", r"row 2 has another number of cells"),
    ],
)
def test_a_bad_cell_names_file_row_and_value(tmp_path, old, new, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path, rows=ROWS.replace(old, new, 1))


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
    with pytest.raises(DataError, match=r"visits\.toml does not exist.*target, classes"):
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
def test_a_bad_heart_row_is_named(tmp_path, line, message):
    folder = tmp_path / heart.FOLDER
    os.makedirs(folder)
    for name in heart.HOSPITALS:
        (folder / f"processed.{name}.data").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        load_dataset("heart-disease", tmp_path)
