import gc
import os

import numpy as np
import pytest

from clients.data import DataError, Dataset, DatasetInfo, LazyInputs, Records
from clients.data.reading_log import ReadingLog
from clients.data.records import PixelStore, dense


def make_info(**changes):
    given = {
        "name": "made",
        "title": "",
        "task": "binary",
        "shape": (2,),
        "classes": ("a", "b"),
    }
    return DatasetInfo(**{**given, **changes})


def make_records(n=6):
    return Records(
        inputs=np.zeros((n, 2), dtype=np.float32),
        labels=np.arange(n) % 2,
        patients=np.arange(n) // 2,
    )


def test_views_share_one_copy_of_the_pictures():
    class Counting(PixelStore):
        reads = 0

        def read(self, rows):
            self.reads += len(rows)
            return super().read(rows)

    store = Counting(np.full((1000, 64, 64), 7, dtype=np.uint8), channels_last=False)
    inputs = LazyInputs(store)
    views = [inputs.view(np.arange(k, 1000, 10)).view(slice(0, 5)) for k in range(10)]
    assert store.reads == 0
    assert all(view.store is store for view in views)
    assert views[3][2].shape == (1, 64, 64)
    assert store.reads == 1


def test_a_view_of_a_view_shows_the_rows_that_were_asked_for():
    pixels = np.arange(20, dtype=np.uint8).reshape(20, 1, 1)
    view = LazyInputs(PixelStore(pixels, channels_last=False)).view(np.arange(10, 20)).view([3, 1])
    np.testing.assert_allclose(view[:].reshape(-1) * 255, [13, 11], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(view).reshape(-1) * 255, [13, 11], rtol=1e-6)


def test_a_hundred_thousand_undecoded_pictures_cost_next_to_nothing(tmp_path):
    from clients.data.picture_files import PictureForm
    from clients.data.pictures import PictureStore

    def resident():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("resident memory is read from /proc")
    gc.collect()
    before = resident()
    store = PictureStore([tmp_path / "x.png"] * 100_000, PictureForm(size=128, channels=1))
    views = [LazyInputs(store).view(np.arange(k, 100_000, 10)) for k in range(10)]
    assert sum(len(view) for view in views) == 100_000
    assert resident() - before < 50e6


def test_colours_move_first_and_values_lie_between_0_and_1():
    store = PixelStore(np.full((2, 4, 5, 3), 255, dtype=np.uint8), channels_last=True)
    assert store.shape == (2, 3, 4, 5)
    assert store.read(np.array([1])).max() == 1.0


def test_records_of_unequal_columns_are_refused():
    with pytest.raises(DataError, match="columns differ in length"):
        Records(
            inputs=np.zeros((3, 2), dtype=np.float32),
            labels=np.zeros(2, dtype=np.int64),
            patients=np.zeros(3, dtype=np.int64),
        )


def test_test_records_of_a_patient_in_training_are_out():
    records = make_records()
    made = Dataset(info=make_info(), train=records.take([0, 1]), test=records.take([1, 2]))
    assert made.test is not None and made.test.patients.tolist() == [1]
    assert "who is trained on: the test record is out: 1" in made.log.lines()[0]


def test_a_record_of_no_class_is_out_and_named():
    records = make_records()
    records.labels[4] = 9
    made = Dataset(info=make_info(), train=records)
    assert len(made.train) == 5
    assert "row 4: label 9, expected 0..1" in made.log.lines()[0]


def test_a_log_of_readings_counts_all_and_shows_a_few():
    log, written = ReadingLog(), list[str]()
    for row in range(10):
        log.note("odd", f"row {row}")
    log.write_to(written.append)
    assert written == ["odd: 10 (row 0; row 1; row 2)"]
    log.note("even", "row 11")
    assert written[1:] == ["even: row 11"]


def test_a_wrong_input_shape_is_refused():
    with pytest.raises(DataError, match=r"inputs of shape \(2,\), expected \(3,\)"):
        Dataset(info=make_info(shape=(3,)), train=make_records())


def test_identifiers_become_dense_numbers():
    numbers, names = dense(["b", "a", "b", "c"])
    assert numbers.tolist() == [1, 0, 1, 2]
    assert names == ("a", "b", "c")
