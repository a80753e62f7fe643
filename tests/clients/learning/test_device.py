"""Devices: which one is found, and that a model's twin there computes what the model would."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clients.data.records import LazyInputs, PixelStore
from clients.learning import device_memory
from clients.learning.batch import Batch
from clients.learning.device import CPU, Forward, NoSuchDevice, Twin, describe, find_device
from clients.learning.dp_sgd import clipped_gradient_sum, clipped_gradient_sums
from clients.learning.late_rows import Alterations, LateRows
from clients.learning.per_sample import FULL_RECORDS, PerSample

CUDA = torch.cuda.is_available()
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
needs_cuda = pytest.mark.skipif(not CUDA, reason="there is no CUDA device")


def net() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.GroupNorm(2, 4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 8 * 8, 3),
    )


def batch(records: int, patients: int, seed: int) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(records, 1, 8, 8, generator=drawn),
        labels=torch.randint(0, 3, (records,), generator=drawn),
        patients=torch.arange(records) % patients,
    )


@pytest.mark.skipif(CUDA, reason="there is a CUDA device")
def test_without_cuda_auto_is_a_processor_and_cuda_is_refused_with_what_to_do(monkeypatch):
    assert find_device("auto") == find_device("cpu") == CPU
    with pytest.raises(NoSuchDevice, match=r"(without CUDA|no CUDA device).*'auto' computes on"):
        find_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:-1", "cuda:x", "", "CUDA", "cuda:1234"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(NoSuchDevice, match="none of auto, cpu, cuda and cuda:N"):
        find_device(name)


def test_a_processor_needs_no_copy():
    module = net()
    assert Twin(module).module is module
    assert describe(CPU) == "cpu"


def test_logits_of_other_weights_leave_the_model_as_it_was():
    module, inputs = net(), batch(5, 5, 1).inputs
    other = {name: torch.zeros_like(one) for name, one in module.named_parameters()}
    before = copy.deepcopy(module.state_dict())
    assert not Forward(module).logits(inputs, other, at_once=2).any()
    assert all(torch.equal(before[name], one) for name, one in module.state_dict().items())


@needs_cuda
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_cuda_is_found(name):
    assert find_device(name) == torch.device("cuda", 0)
    assert "cuda:0 (" in describe(find_device(name))


@needs_cuda
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(NoSuchDevice, match="numbered from 0"):
        find_device("cuda:99")


@needs_cuda
@pytest.mark.parametrize("patients", [9, 3])
def test_sums_on_a_device_are_those_of_a_processor(patients, monkeypatch):
    # By default convolutions of a device keep ten bits of a factor.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    module = net()
    there = PerSample(module, device=find_device("cuda"))
    found = [batch(9, patients, seed) for seed in range(3)]
    for _ in range(2):
        own = PerSample(copy.deepcopy(module))
        here = [clipped_gradient_sum(own, one, l2_clip=0.5) for one in found]
        sums = clipped_gradient_sums(there, found, l2_clip=0.5)
        for one, other in zip(here, sums, strict=True):
            assert abs(one.total - other.total).max() < 1e-4 * abs(one.total).max()
            assert one.patients == other.patients and not other.discarded
        with torch.no_grad():  # a step of the replica is seen by its twin
            for parameter in module.parameters():
                parameter += 0.1


@needs_cuda
def test_logits_on_a_device_are_those_of_a_processor():
    module, inputs = net(), batch(7, 7, 1).inputs
    there = Forward(module, find_device("cuda")).logits(inputs, at_once=3)
    assert abs(Forward(module).logits(inputs) - there).max() < 1e-3


@needs_cuda
@pytest.mark.parametrize("last", [False, True])
def test_bytes_of_pictures_become_the_same_numbers_on_a_device(last):
    drawn = np.random.default_rng(1)
    pixels = drawn.integers(0, 256, (6, 8, 8, 3) if last else (6, 8, 8), dtype=np.uint8)
    late = LateRows(LazyInputs(PixelStore(pixels, channels_last=last)), torch.tensor([4, 0, 4]))
    there = late.made(find_device("cuda"))
    assert there.is_cuda and torch.equal(there.cpu(), late.made())
    moved = late.copied(2, Alterations(shifts=shifts(6), mirrored=torch.arange(6) % 2 == 0))
    assert torch.equal(moved.made(find_device("cuda")).cpu(), moved.made())


def shifts(records: int) -> tuple[torch.Tensor, ...]:
    return tuple((torch.arange(records) - 2 + axis).to(torch.int16) for axis in range(2))


@pytest.mark.parametrize(("each", "fit"), [(1_000, 64), (10, 320), (1_000_000, 16)])
def test_how_many_records_fit_follows_from_what_passes_take(monkeypatch, each, fit):
    """Passes are filled up: of two filled to one size, records would seem to weigh nothing."""

    def peak(*_, records, **__):
        return 500 + each * (-(-records // FULL_RECORDS) * FULL_RECORDS)

    monkeypatch.setattr(device_memory, "peak_bytes", peak)
    monkeypatch.setattr(device_memory, "free_bytes", lambda _: 100_000)
    model = SimpleNamespace(device=torch.device("cuda"))
    assert device_memory.records_at_once(model, (1, 8, 8), 2, l2_clip=1.0) == fit
