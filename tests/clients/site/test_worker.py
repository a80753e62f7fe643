"""What a process of hospitals keeps between messages, and what it lets go."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from clients.contract.faults import Fault
from clients.contract.settings import Settings
from clients.data import Cohorts
from clients.site.books import Books
from clients.site.hospital import Hospital
from clients.site.worker import MOST_TRAININGS, Worker
from tests.in_process import small_settings


def node(settings: Settings, partition: int = 0) -> Context:
    return Context(
        run_id=5,
        node_id=9,
        node_config={"partition-id": partition},
        state=RecordDict(),
        run_config=settings.to_config(),
    )


def open_ledgers(folder: Path) -> int:
    """Ledgers below a folder that this process has open."""
    held = Path("/proc/self/fd")
    targets = [os.readlink(file) for file in held.iterdir() if file.is_symlink()]
    return sum(one.startswith(str(folder)) and one.endswith("ledger.jsonl") for one in targets)


@pytest.fixture(scope="module")
def cohorts() -> Cohorts:
    return Cohorts()


def test_a_simulated_hospital_is_the_same_one_at_every_message_of_its_training(
    tmp_path: Path, cohorts: Cohorts
) -> None:
    settings = small_settings(tmp_path)
    with closing(Worker(cohorts)) as worker:
        first = worker.hospital("t", node(settings))
        assert worker.hospital("t", node(settings)) is first
        assert worker.hospital("t", node(settings, 1)).site.name == "hospital-01"
        assert worker.hospital("u", node(settings)) is not first
        assert Worker(cohorts).hospital("t", node(settings)) is not first


def test_a_training_that_has_ended_is_forgotten_and_its_ledgers_are_closed(
    tmp_path: Path, cohorts: Cohorts
) -> None:
    def spend_nothing(training: str) -> Hospital:
        found = worker.hospital(training, node(small_settings(tmp_path / training)))
        _ = found.book
        return found

    with closing(Worker(cohorts)) as worker:
        first = spend_nothing("first")
        for number in range(MOST_TRAININGS - 1):
            spend_nothing(f"t{number}")
        assert spend_nothing("first") is first
        assert open_ledgers(tmp_path) == MOST_TRAININGS
        for number in range(MOST_TRAININGS):
            spend_nothing(f"later{number}")
        assert open_ledgers(tmp_path) == MOST_TRAININGS
        assert open_ledgers(tmp_path / "first") == 0
        assert spend_nothing("first") is not first
    assert open_ledgers(tmp_path) == 0


@pytest.mark.parametrize("training", ["", "../t", "a/b", ".t", "t" * 65])
def test_a_training_whose_name_is_no_word_is_refused(
    tmp_path: Path, cohorts: Cohorts, training: str
) -> None:
    with pytest.raises(Fault, match="malformed"):
        Worker(cohorts).hospital(training, node(small_settings(tmp_path)))


@pytest.mark.parametrize("partition", [4, 99])
def test_a_node_beyond_the_hospitals_is_none_of_them(
    tmp_path: Path, cohorts: Cohorts, partition: int
) -> None:
    with pytest.raises(Fault, match="not-invited"):
        Worker(cohorts).hospital("t", node(small_settings(tmp_path), partition))


def test_few_books_are_open_at_a_time_and_all_can_be_used(tmp_path: Path) -> None:
    books = Books()
    paths = [tmp_path / f"{number}-ledger.jsonl" for number in range(130)]
    for _ in range(2):
        for path in paths:
            found = books.open(path, site=path.name, cohort="c", durable=False)
            assert found.head()[0] == 0 and found.entries() == ()
        assert open_ledgers(tmp_path) == 128
    books.close_all()
    assert open_ledgers(tmp_path) == 0


def test_a_run_takes_no_more_threads_than_the_machine_has_cores(
    tmp_path: Path, cohorts: Cohorts
) -> None:
    import torch

    from clients.site.session import make_session

    before = torch.get_num_threads()
    settings = small_settings(tmp_path, run__threads=1024)
    make_session(settings, cohorts.of(settings), "t", 1.0)
    try:
        assert torch.get_num_threads() <= (os.cpu_count() or 1)
    finally:
        torch.set_num_threads(before)
