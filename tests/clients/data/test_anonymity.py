"""Who is alike, counted as by hand; pseudonyms and shifts that only the key's owner can make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import pickle
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.data.anonymity import measure_anonymity
from clients.data.declaration import Declaration
from clients.data.deidentified import Wanted, deidentify
from clients.data.errors import DataError
from clients.data.generalised import Kinds, Numbers
from clients.data.identified import EPOCH, Identified
from clients.data.pseudonyms import PseudonymKey, read_key
from clients.data.ranges import Range
from clients.data.reading_log import ReadingLog

ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)),
    min_size=1,
    max_size=30,
)


@given(ROWS)
def test_patients_are_counted_as_by_hand(rows: list[tuple[int, int, int, int]]) -> None:
    known, secret = {}, {}
    for whose in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == whose]
        known[whose] = tuple(sorted(row[1:3] for row in own))
        secret[whose] = tuple(sorted(row[3] for row in own))
    groups = Counter(known.values())
    secrets = [len({secret[w] for w in known if known[w] == group}) for group in groups]
    array = np.asarray(rows)
    found = measure_anonymity(array[:, 1:3], array[:, 0], array[:, 3])
    assert found.patients == len(known)
    assert found.alone == sum(count == 1 for count in groups.values())
    assert found.k == min(groups.values()) and found.l == min(secrets)


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path) -> None:
    path = tmp_path / "pseudonyms.key"
    key = read_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    secret = bytes.fromhex(path.read_text())
    assert read_key(path).pseudonym("17") == key.pseudonym("17")
    expected = hmac.new(secret, b"asclepias pseudonym\x0017", hashlib.sha256).digest()
    assert key.pseudonym("17").upper() in base64.b32encode(expected).decode()
    assert read_key(tmp_path / "another.key").pseudonym("17") != key.pseudonym("17")
    assert secret.hex() not in repr(key)
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(key)
    path.chmod(0o640)
    with pytest.raises(DataError, match=r"others may read it \(mode 640"):
        read_key(path)
    (tmp_path / "short.key").touch(mode=0o600)
    with pytest.raises(DataError, match="expected 64 hex digits"):
        read_key(tmp_path / "short.key")
    with pytest.raises(DataError, match="no such folder"):
        read_key(tmp_path / "nowhere" / "a.key")


class Chosen(PseudonymKey):
    """A key whose draws a test chooses."""

    def __init__(self, place: int) -> None:
        super().__init__(bytes(32))
        self.place = place

    def position(self, patient: str, *, among: int) -> int:
        self.among = among
        return self.place % among


def visits(*days: tuple[int, int | None]) -> Identified:
    """One patient's visits in ten days of 2020: admitted, and perhaps sent home."""
    ranges = {"admitted": ["2020-01-01", "2020-01-10"], "sent home": ["2020-01-01", "2020-01-12"]}
    first = (date(2020, 1, 1) - EPOCH).days
    return Identified(
        declared=Declaration.model_validate(
            {"target": "t", "classes": ["a", "b"], "patient": "p", "ranges": ranges}
        ),
        names=("ada",),
        patients=np.zeros(len(days), dtype=np.int64),
        labels=np.zeros(len(days), dtype=np.int64),
        numbers={},
        kinds={},
        dates={
            "admitted": np.array([first + day for day, _ in days], dtype=float),
            "sent home": np.array([np.nan if o is None else first + o for _, o in days]),
        },
        log=ReadingLog(),
    )


def test_shifted_dates_keep_what_lies_between_them_and_tell_nothing_of_when() -> None:
    """For each true beginning every allowed one is reached by exactly one draw of the key."""
    reached = []
    for true in range(6):
        starts = []
        table = visits((true, true + 3), (true + 4, None))
        for place in range(6):
            key = Chosen(place)
            made = deidentify(table, key, Wanted(k=1, known=()))
            assert made.rows[0] == ["p", "admitted", "sent home", "t"] and key.among == 6
            days = [
                [date.fromisoformat(c) if c else None for c in row[1:3]] for row in made.rows[1:]
            ]
            (admitted, home), (again, none) = sorted(days, key=lambda row: row[0])  # type: ignore[arg-type, return-value]
            assert admitted and home and again and none is None
            assert home - admitted == timedelta(days=3) and again - admitted == timedelta(days=4)
            assert date(2020, 1, 1) <= admitted and again <= date(2020, 1, 10)
            starts.append(admitted)
        reached.append(sorted(starts))
    assert len(set(reached[0])) == 6 and all(one == reached[0] for one in reached)


def test_columns_lose_what_they_say_from_level_to_level() -> None:
    ages = Numbers(np.array([0.0, 24.9, 25.0, 100.0, np.nan]), Range(low=0.0, high=100.0))
    assert ages.cells(0) == ["0", "24.9", "25", "100", ""]
    assert ages.cells(4) == ["12.5", "12.5", "37.5", "87.5", ""]
    assert ages.cells(ages.last) == ["50"] * 5
    kinds = Kinds(["x", "x", "x", "y", "y", "z", ""], ["x", "y", "z", "other"])
    assert kinds.cells(1) == ["x", "x", "x", "other 2", "other 2", "other 2", ""]
    assert kinds.cells(kinds.last) == ["other 2"] * 7
    for column in (ages, kinds):
        levels = [len(set(column.at(level).tolist())) for level in range(column.last + 1)]
        assert levels == sorted(levels, reverse=True) and levels[-1] == 1
        for level in range(column.last + 1):
            pairs = set(zip(column.at(level).tolist(), column.cells(level), strict=True))
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
