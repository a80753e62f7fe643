"""What a patient's gradient is rounded to does not turn on who else is sampled, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from clients.data.records import DatasetInfo
from clients.learning.batch import Batch, take
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.ghost_norms import Owners
from clients.learning.patient_gradients import Gradients, written
from clients.learning.per_sample import PerSample
from clients.learning.split_ends import Part
from clients.models.deep import cnn3d, densenet121, resnet18
from clients.models.recurrent import gru
from clients.models.small import cnn, logistic, mlp
from clients.models.squeezenet import squeezenet
from clients.models.volume_graphs import graph

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

PATIENTS = 40
SMALL = {"logistic": (30,), "mlp": (30,), "gru": (13,), "wide": (700,), "cnn": (1, 8, 8)}
LARGE = {
    "cnn": (1, 64, 64),
    "squeezenet": (3, 28, 28),
    "resnet18": (1, 16, 16),
    "densenet121": (1, 32, 32),
    "cnn3d": (1, 16, 16, 16),
    "graph": (343, 9),
}


def wide(info: DatasetInfo) -> nn.Module:
    """A net whose linear layers go by a recorded pass, with kinks."""
    return nn.Sequential(nn.Linear(info.shape[0], 500), nn.ReLU(), nn.Linear(500, 2))


BUILDERS: dict[str, Callable[[DatasetInfo], nn.Module]] = {
    "logistic": logistic,
    "mlp": mlp,
    "gru": gru,
    "wide": wide,
    "cnn": cnn,
    "squeezenet": squeezenet,
    "resnet18": resnet18,
    "densenet121": densenet121,
    "cnn3d": cnn3d,
    "graph": graph,
}


def module_of(name: str, shape: tuple[int, ...]) -> nn.Module:
    kind = {1: "table", 2: "series", 3: "image", 4: "volume"}[len(shape)]
    info = DatasetInfo(
        name="made-up", title="", task="binary", shape=shape, classes=("a", "b"), kind=kind
    )
    torch.manual_seed(0)
    module = BUILDERS[name](info)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


class _Seen(PerSample):
    """Keeps the gradients of all patients of a sum, in their order, and how large passes were."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.rows: list[torch.Tensor] = []
        self.sizes: set[int] = set()
        module.register_forward_pre_hook(lambda _, given: self.sizes.add(len(given[0])))

    def means(
        self, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners, records: int = 0
    ) -> list[Gradients]:
        found = super().means(inputs, labels, owners, records)
        self.rows += torch.cat([written(one).float() for one in found], dim=1)
        return found


def drawn(shape: tuple[int, ...], counts: list[int]) -> Batch:
    """Records of patients, so many of each."""
    generator, records = torch.Generator().manual_seed(1), sum(counts)
    return Batch(
        inputs=torch.randn(records, *shape, generator=generator),
        labels=torch.randint(0, 2, (records,), generator=generator),
        patients=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)),
    )


def gradients_of(model: _Seen, batch: Batch) -> dict[int, torch.Tensor]:
    model.rows.clear()
    clipped_gradient_sum(model, batch, l2_clip=0.5)
    return dict(zip(batch.patients.unique().tolist(), model.rows, strict=True))


def assert_same_company(name: str, shape: tuple[int, ...], groups: list[set[int]]) -> None:
    """Compare patients' gradients in several groups with those in the whole, bit by bit."""
    model = _Seen(module_of(name, shape))
    batch = drawn(shape, [1 + (one % 7 == 0) for one in range(PATIENTS)])
    model.choose_pass(shape)
    model.sizes.clear()  # of the made-up record
    whole = gradients_of(model, batch)
    for group in groups:
        here = torch.isin(batch.patients, torch.tensor(sorted(group)))
        for patient, row in gradients_of(model, take(batch, here.nonzero().flatten())).items():
            assert torch.equal(row, whole[patient]), (patient, sorted(group))
    assert model.sizes == {model.chunk_records}


@pytest.mark.parametrize("name", sorted(SMALL))
@settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(groups=st.lists(st.sets(st.integers(0, PATIENTS - 1), min_size=1), min_size=4, max_size=4))
def test_a_patients_gradient_is_the_same_whoever_else_is_sampled(
    name: str, groups: list[set[int]]
) -> None:
    assert_same_company(name, SMALL[name], groups)


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_nets_give_a_patient_the_same_gradient_in_any_company(
    name: str, threads: int
) -> None:
    order = np.random.default_rng(2)
    groups = [set(order.permutation(PATIENTS)[:size].tolist()) for size in (1, 5, 17)]
    assert_same_company(name, LARGE[name], groups)


def test_a_record_at_a_kink_moves_nothing_when_another_patient_leaves() -> None:
    """Records are made so that one hidden value lies within rounding of 0, and turns its weight."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(33, 1), nn.ReLU(), nn.Linear(1, 2))
    batch = drawn((33,), [1] * 31)
    weight, bias = module[0].weight.detach().double(), module[0].bias.detach().double()
    for _ in range(3):  # each comes nearer to the kink, as near as float32 goes
        away = batch.inputs.double() @ weight.T + bias
        batch.inputs.sub_((away / weight.square().sum() * weight).float())
    model = _Seen(module)
    whole = gradients_of(model, batch)
    for left in (0, 12, 22, 30):
        rows = (batch.patients > left).nonzero().flatten()
        if len(rows):
            found = gradients_of(model, take(batch, rows))
            assert all(torch.equal(row, whole[patient]) for patient, row in found.items())
    # Control: the records do lie there, so a last bit decides for some.
    assert 0 < sum(bool(row[:33].any()) for row in whole.values()) < len(batch)


def test_a_split_end_gives_a_record_the_same_outputs_in_any_company() -> None:
    part = Part(nn.Sequential(nn.Linear(33, 3), nn.ReLU(), nn.Linear(3, 2)))
    batch, generator = drawn((33,), [1] * 16), torch.Generator().manual_seed(3)
    down = torch.randn(16, 2, generator=generator)

    def of(rows: torch.Tensor) -> list[torch.Tensor]:
        inputs, weights = batch.inputs[rows], torch.ones(len(rows))
        return [
            part.outputs(inputs, (2,)),
            *part.backward(inputs, down[rows]),
            *part.backward_from_loss(inputs, batch.labels[rows], weights),
        ]

    whole = of(torch.arange(16))
    for rows in (torch.arange(3, 16), torch.tensor([15, 2]), torch.tensor([7])):
        for found, expected in zip(of(rows), whole, strict=True):
            assert torch.equal(found, expected[rows])


@pytest.mark.parametrize("late", [False, True])
def test_a_process_says_whether_a_record_is_rounded_alike_beside_others(late):
    """Where MKL was asked before it was told, training goes on only if the last bit holds."""
    left = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    run = [sys.executable, "-c", _EARLY * late + _LOOK]
    done = subprocess.run(run, env=left, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    differs, said = json.loads(done.stdout)
    assert differs == bool(said), said
    assert not said or "MKL_CBWR=AUTO" in said
    assert late or not differs


def test_what_hospitals_compute_with_is_told_to_round_alike():
    run = [sys.executable, "-c", "import clients.learning, os; print(os.environ['MKL_CBWR'])"]
    left = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    done = subprocess.run(run, env=left, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "AUTO", done.stderr


_EARLY = """
import torch
torch.set_num_threads(1)
torch.randn(3, 3) @ torch.randn(3, 3)
"""
_LOOK = """
import json, torch
from torch import nn
from torch.nn import functional
from clients.learning.device_check import DeviceError, check_company

torch.set_num_threads(1)
rows, weight = torch.randn(16, 30), torch.randn(2, 30)
there, seen = functional.linear(rows, weight), False
for order in [torch.randperm(16) for _ in range(20)]:
    seen = seen or not torch.equal(functional.linear(rows[order], weight), there[order])
try:
    check_company(nn.Linear(30, 2), 16)
    said = ""
except DeviceError as error:
    said = str(error)
print(json.dumps([seen, said]))
"""
