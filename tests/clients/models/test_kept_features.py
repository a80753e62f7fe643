"""Features of patients' pictures lie where their owner says, and a full disk tells nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clients.contract.settings import Settings
from clients.data import Cohort, DatasetInfo, LazyInputs, Records
from clients.data.picture_files import PictureForm
from clients.data.pictures import PictureStore
from clients.data.records import PixelStore
from clients.models import kept_features, prepare
from clients.models.features import features_for
from clients.site.books import Books
from clients.site.ground import Site, private_folder
from clients.site.own_draws import OwnDraws
from clients.site.shared_state import SharedState
from tests.door.faults import failing, full

A = "hospital-00"
INFO = DatasetInfo(
    name="made",
    title="",
    task="binary",
    shape=(1, 32, 32),
    classes=("a", "b"),
    kind="image",
    input_range=(0.0, 1.0),
)
SETTINGS = Settings.from_config({"model.name": "scattering", "data.public": True})
COUNT = 2 * kept_features.BLOCK + 6


def pictures(seed: int = 0, fewer: int = 0) -> Records:
    count = COUNT - fewer
    pixels = np.random.default_rng(seed).integers(0, 256, (COUNT, 32, 32)).astype(np.uint8)
    return Records(
        inputs=LazyInputs(PixelStore(pixels[:count], channels_last=False)),
        labels=np.zeros(count, dtype=np.int64),
        patients=np.arange(count),
    )


def features(keep: Path | None, seed: int = 0) -> np.ndarray:
    return np.asarray(prepare(SETTINGS, INFO, pictures(seed), keep=lambda: keep).inputs)


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.rglob("*") if path.is_file())


def test_features_are_computed_once_and_kept_for_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features(tmp_path)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
    monkeypatch.setattr(kept_features, "_pieces", None)  # a second computation would fail
    np.testing.assert_array_equal(features(tmp_path), first)
    with pytest.raises(TypeError):
        features(tmp_path, seed=1)


def test_a_folder_that_takes_nothing_gives_the_same_features(tmp_path: Path) -> None:
    expected = features(tmp_path)
    full_folder = tmp_path / "full"
    full_folder.mkdir()
    with failing(0, full):
        np.testing.assert_array_equal(features(full_folder), expected)
    assert files(full_folder) == [".lock"]
    np.testing.assert_array_equal(features(tmp_path / "not there"), expected)
    np.testing.assert_array_equal(features(None), expected)


@pytest.mark.parametrize(
    ("bound", "most"), [("MOST_KEPT", 2**10), ("MOST_OF_DISK", 1e-12), ("MOST_HELD", 2**10)]
)
def test_features_that_would_be_too_large_are_the_same_and_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: float
) -> None:
    """A submitter chooses what is computed of each picture, and so how large it is."""
    expected = features(tmp_path / "never there")
    monkeypatch.setattr(kept_features, bound, most)
    keep = None if bound == "MOST_HELD" else tmp_path
    records = prepare(SETTINGS, INFO, pictures(), keep=lambda: keep).inputs
    np.testing.assert_array_equal(np.asarray(records), expected)
    rows = np.array([COUNT - 1, 3, 3, kept_features.BLOCK])
    store = records.store
    np.testing.assert_array_equal(store.read(rows), expected[rows])
    assert ".npy" not in files(tmp_path)
    held = store._rows._rows
    assert (held is None) == (bound == "MOST_HELD")


def test_a_file_that_is_there_is_read_however_full_the_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = features(tmp_path)
    monkeypatch.setattr(kept_features, "MOST_OF_DISK", 0.0)
    monkeypatch.setattr(kept_features, "_pieces", None)
    np.testing.assert_array_equal(features(tmp_path), expected)


def test_a_file_that_holds_something_else_is_made_anew(tmp_path: Path) -> None:
    expected = features(tmp_path)
    (kept,) = tmp_path.glob("*.npy")
    for damage in (kept.read_bytes()[:200], b"", b"junk"):
        kept.unlink()
        kept.write_bytes(damage)
        np.testing.assert_array_equal(features(tmp_path), expected)


@pytest.mark.parametrize(
    ("simulated", "partition", "own"), [(False, None, True), (False, 0, False), (True, None, False)]
)
def test_a_hospitals_own_features_never_leave_its_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulated: bool,
    partition: int | None,
    own: bool,
) -> None:
    cache, private = tmp_path / "cache", private_folder(tmp_path / "private")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    site = Site(name=A, folder=private, simulated=simulated, books=Books(), partition=partition)
    for records in (
        OwnDraws.records,
        lambda draws: draws.figures(lambda rows: np.zeros((COUNT, 2))),
    ):
        held = pictures()
        cohort = Cohort(
            info=INFO, names=(A,), holdout=held.take([]), records={A: held}, tests={A: held}
        )
        records(OwnDraws(site, SETTINGS, "t", cohort, SharedState()))
        assert files(private if own else cache) == [".lock", ".npy"]
        assert not files(cache if own else private)
        for path in tmp_path.rglob("*.npy"):
            path.unlink()


def draws_of(site: Site, records: Records) -> OwnDraws:
    cohort = Cohort(info=INFO, names=(A,), holdout=records.take([]), records={A: records})
    return OwnDraws(site, SETTINGS, "t", cohort, SharedState())


def drawn(site: Site, records: Records) -> np.ndarray:
    """A hospital's features, as a training asks for them."""
    return np.asarray(draws_of(site, records).records().inputs)


def kept_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_features_of_who_withdrew_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, private = tmp_path / "cache", private_folder(tmp_path / "private")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    site = Site(name=A, folder=private, simulated=False, books=Books())
    (private / "hospital.log").touch()
    before = drawn(site, pictures())
    first = kept_in(private)
    assert len(drawn(site, pictures(fewer=1))) == len(before) - 1
    assert kept_in(private) & first == {"hospital.log"}
    assert len(kept_in(private)) == len(first)
    published = Site(name=A, folder=private, simulated=False, books=Books(), partition=0)
    drawn(published, pictures())
    drawn(published, pictures(fewer=1))
    assert len(list(cache.rglob("*.npy"))) == 2  # of other data sets that others use


@pytest.mark.parametrize("ask", [OwnDraws.records, OwnDraws.look_ahead])
def test_what_a_run_may_have_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[OwnDraws], object]
) -> None:
    """A submitter chooses what is computed, and so how many files there are."""
    monkeypatch.setattr(kept_features, "MOST_FILES", 2)
    site = Site(name=A, folder=tmp_path, simulated=False, books=Books())
    for number in range(5):
        monkeypatch.setattr("clients.models.features.Features.identity", f"scattering-{number}")
        ask(draws_of(site, pictures()))
        assert any(f"scattering-{number}-" in name for name in kept_in(tmp_path))
    assert files(tmp_path) == [".lock", ".lock", ".npy", ".npy"]


def test_what_a_training_uses_is_kept_while_others_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be computed again in a round that is paid for, longer than a server waits."""
    monkeypatch.setattr(kept_features, "MOST_FILES", 2)
    site = Site(name=A, folder=tmp_path, simulated=False, books=Books())
    drawn(site, pictures())
    [used] = tmp_path.glob("*.npy")
    os.utime(used, ns=(0, 0))  # it was made long ago
    for number in range(3):
        drawn(site, pictures())
        with monkeypatch.context() as other:
            other.setattr("clients.models.features.Features.identity", f"scattering-{number}")
            draws_of(site, pictures()).look_ahead()
        assert used.exists(), number


def test_a_corrected_picture_is_another_one_whatever_its_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    store = PictureStore([file], PictureForm(size=8, channels=1))
    before, state = store.identity(), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert store.identity() != before


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 16, 16)])
def test_scattering_of_a_picture_is_the_same_in_any_company(shape: tuple[int, ...]) -> None:
    """Else whoever is taken out moves the gradients of those who are left in a smaller block."""
    compute = features_for(shape)
    shown = np.random.default_rng(0).random((kept_features.BLOCK, *shape), dtype=np.float32)
    whole = compute(shown)
    for count in (1, 2, 3, 5, 8, 17, 31):
        assert np.array_equal(compute(shown[-count:]), whole[-count:]), count
