"""Passes of a sum in several processes: the same bits, whoever computes them and whoever dies."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from clients.learning import shared_passes
from clients.learning.batch import Batch
from clients.learning.dp_sgd import GradientSum, clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.processors import Processors
from tests.clients.learning.test_faulty_records import BREAKS, _Fragile
from tests.clients.learning.test_recorded_sums import _net

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

OWNER = os.getpid()
RECORDS = 90


class _InCopies(nn.Module):
    """Does something where it is computed by a copy of the test's process."""

    def __init__(self, does: Callable[[], object]) -> None:
        super().__init__()
        self.does = does

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if os.getpid() != OWNER:
            self.does()
        return inputs


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As processes of hospitals have; any work is worth a process here."""
    monkeypatch.setattr(shared_passes, "WORTH_SECONDS", 1e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def made_by_copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of passes whose sums came from a copy."""
    real, numbers = shared_passes._Copies.made, list[int]()

    def made(self: shared_passes._Copies, number: int, seconds: float) -> object:
        # Copies are given the time that a larger model's passes would give them.
        time.sleep(0.02)
        found = real(self, number, seconds)
        numbers.extend([] if found is None else [number])
        return found

    monkeypatch.setattr(shared_passes._Copies, "made", made)
    return numbers


def _processors(count: int) -> Processors:
    return Processors(secrets.token_hex(8), count)


def _batch() -> Batch:
    drawn = torch.Generator().manual_seed(5)
    return Batch(
        inputs=torch.randn(RECORDS, 1, 8, 8, generator=drawn),
        labels=torch.arange(RECORDS) % 3,
        patients=torch.arange(RECORDS) // 2,
    )


def _sum_of(processors: Processors | None, way: str, *more: nn.Module) -> GradientSum:
    model = PerSample(
        nn.Sequential(*more, _net()),
        way="recorded" if way == "recorded" else "hooks",
        processors=processors,
    )
    return clipped_gradient_sum(model, _batch(), l2_clip=0.5, chunk_records=16)


@pytest.mark.parametrize("way", ["hooks", "recorded"])
def test_the_bits_do_not_depend_on_the_number_of_processes(
    way: str, made_by_copies: list[int]
) -> None:
    alone = _sum_of(None, way)
    for count in (1, 2, 3):
        made_by_copies.clear()
        found = _sum_of(_processors(count), way)
        assert found.total.tobytes() == alone.total.tobytes()
        assert (found.patients, found.discarded) == (RECORDS // 2, 0)
        assert made_by_copies == sorted(made_by_copies) and made_by_copies[-1] == 5
    assert _sum_of(_processors(0), way).total.tobytes() == alone.total.tobytes()


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raises() -> None:
    raise MemoryError


def _hangs() -> None:
    signal.pause()


@pytest.fixture
def no_shared_memory() -> Iterator[None]:
    """A limit under which the sums of some passes do not fit, and those of few do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_machine_that_allows_no_copies_decides_on_no_answer(no_shared_memory: None) -> None:
    # How many are drawn decides on how much memory copies need: refusals would tell it.
    alone, processors = _sum_of(None, "recorded"), _processors(2)
    found = _sum_of(processors, "recorded")
    assert found.total.tobytes() == alone.total.tobytes()
    held = processors.take()
    assert held is not None, "what was taken is given back"
    held.close()


@pytest.mark.parametrize("fails", [_dies, _raises, _hangs])
def test_a_copy_that_dies_or_hangs_or_has_no_memory_is_done_without(
    fails: Callable[[], None], monkeypatch: pytest.MonkeyPatch, made_by_copies: list[int]
) -> None:
    monkeypatch.setattr(shared_passes, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(shared_passes, "PATIENCE_PASSES", 0.0)
    alone, processors = _sum_of(None, "recorded"), _processors(2)
    found = _sum_of(processors, "recorded", _InCopies(fails))
    assert found.total.tobytes() == alone.total.tobytes()
    assert not made_by_copies and found.discarded == 0
    held = [processors.take() for _ in range(3)]
    assert [one is None for one in held] == [False, False, True], "all were given back"
    for one in held[:2]:
        assert one is not None
        one.close()


def test_a_patient_who_cannot_be_computed_is_the_owners_to_tell_of(
    made_by_copies: list[int],
) -> None:
    batch = _batch()
    batch.inputs[40, 0, 0, 0] = BREAKS
    batch.inputs[50, 0, 0, 0] = float("nan")
    batch.inputs[51, 0, 0, 0] = float("nan")
    assert any(isinstance(layer, _Fragile) for layer in _net().modules())
    sums = [
        clipped_gradient_sum(
            PerSample(_net(), way="recorded", processors=processors),
            batch,
            l2_clip=0.5,
            chunk_records=16,
        )
        for processors in (None, _processors(2))
    ]
    assert made_by_copies
    assert sums[0].total.tobytes() == sums[1].total.tobytes()
    assert sums[0].reasons == sums[1].reasons and len(sums[0].reasons) == 2
    assert sums[0].discarded == sums[1].discarded == 2


def test_sums_that_wait_to_be_added_take_so_much_memory_and_no_more(
    monkeypatch: pytest.MonkeyPatch, made_by_copies: list[int]
) -> None:
    alone = _sum_of(None, "recorded")
    monkeypatch.setattr(shared_passes, "MOST_BYTES", 2 * alone.total.nbytes)
    assert _sum_of(_processors(3), "recorded").total.tobytes() == alone.total.tobytes()
    assert made_by_copies == [4, 5]


def test_who_is_done_in_time_takes_no_processor(made_by_copies: list[int]) -> None:
    processors = _processors(2)
    processors.fair_until = time.time() + 3600
    _sum_of(processors, "hooks")
    assert not made_by_copies


def test_a_processor_is_one_processes_at_a_time_and_free_once_that_has_ended() -> None:
    processors = _processors(1)
    with processors.working():
        assert processors.take() is None
        with processors.working():
            pass
        assert processors.take() is None
    held = processors.take()
    assert held is not None
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    held.close()
    assert processors.take() is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    again = processors.take()
    assert again is not None
    again.close()
