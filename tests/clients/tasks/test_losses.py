"""Each task's loss is a sum over records, of each by itself, and so is each patient's gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.contract.own_task import OwnTask
from clients.learning.batch import Batch
from clients.learning.dp_sgd import MARGIN, clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.task_loss import loss_of
from clients.models.errors import ModelError
from clients.models.own_model import check_loss
from clients.tasks.catalogue import linked, task_of
from tests.clients.tasks.some_tasks import QUESTIONS, made_targets

TASKS = list(QUESTIONS)
SIDE = (4, 5)


def model_for(name: str) -> nn.Module:
    """Return a model whose outputs suit a task, from records of four by five values."""
    question = QUESTIONS[name]
    outputs = task_of(question).outputs
    torch.manual_seed(3)
    if name == "segmentation":
        return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, outputs, 1))
    body = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, outputs))
    return linked(question, body)


def summed_loss(name: str):
    """Return the loss that a training would teach by, cross-entropy where that is none."""
    return loss_of(SimpleNamespace(own=None, question=QUESTIONS[name]))


@pytest.mark.parametrize("name", TASKS)
def test_loss_of_a_record_is_the_same_alone_and_among_others(name: str) -> None:
    question, module = QUESTIONS[name], model_for(name).double()
    task, inputs = task_of(question), torch.randn(7, 1, *SIDE, dtype=torch.float64)
    outputs, targets = module(inputs).detach(), made_targets(question, 7)
    together = task.losses(outputs, targets)
    alone = torch.cat([task.losses(outputs[k : k + 1], targets[k : k + 1]) for k in range(7)])
    assert together.shape == (7,)
    assert bool(torch.isfinite(together).all())
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TASKS)
def test_loss_passes_the_check_that_somebodys_own_has_to_pass(name: str) -> None:
    check_loss(_as_own(name, task_of(QUESTIONS[name]).losses), model_for(name), (1, *SIDE))


@pytest.mark.parametrize("name", TASKS)
def test_loss_that_is_normalised_by_the_batch_is_refused(name: str) -> None:
    task = task_of(QUESTIONS[name])

    def normalised(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = task.losses(outputs, targets)
        return each / each.mean()

    with pytest.raises(ModelError, match="mixes patients of a batch") as caught:
        check_loss(_as_own(name, normalised), model_for(name), (1, *SIDE))
    assert caught.value.code == "not-private-ready"


def _as_own(name: str, loss) -> OwnTask:
    question = QUESTIONS[name]
    return OwnTask(
        module=lambda _: nn.Identity(),
        loss=loss,
        target_shape=question.shape,
        target_dtype=question.dtype,
        target_values=question.values,
    )


@pytest.mark.parametrize("way", ["hooks", "recorded"])
@pytest.mark.parametrize("name", TASKS)
def test_clipped_sum_is_that_of_a_loop_over_patients(name: str, way: str) -> None:
    """Five patients with one to four records; the clip is reached by some and not by others."""
    question, module = QUESTIONS[name], model_for(name)
    patients = torch.tensor([4, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    inputs, targets = torch.randn(11, 1, *SIDE), made_targets(question, 11)
    norms = [float(g.norm()) for g in _gradients(name, module, inputs, targets, patients)]
    l2_clip = sorted(norms)[2] * 1.01
    expected = torch.zeros(sum(p.numel() for p in module.parameters()), dtype=torch.float64)
    for gradient in _gradients(name, module, inputs, targets, patients):
        bound = l2_clip * (1 - MARGIN)
        expected += gradient * min(1.0, bound / float(gradient.norm()))
    batch = Batch(inputs=inputs, labels=targets, patients=patients)
    made = PerSample(module, loss=summed_loss(name), way=way)
    found = clipped_gradient_sum(made, batch, l2_clip=l2_clip)
    assert made.recorded == (way == "recorded")
    assert (found.patients, found.discarded) == (5, 0)
    torch.testing.assert_close(torch.from_numpy(found.total), expected, rtol=2e-4, atol=2e-5)


def _gradients(name, module, inputs, targets, patients) -> list[torch.Tensor]:
    """Return each patient's mean gradient, record by record, with nobody else in sight."""
    task, found = task_of(QUESTIONS[name]), []
    for one in torch.unique(patients):
        rows = torch.nonzero(patients == one).flatten()
        total = 0.0
        for row in rows.tolist():
            loss = task.losses(module(inputs[row : row + 1]), targets[row : row + 1]).sum()
            parts = torch.autograd.grad(loss, list(module.parameters()))
            total = total + torch.cat([part.reshape(-1) for part in parts]).double()
        found.append(total / len(rows))
    return found


@pytest.mark.parametrize("name", TASKS)
def test_made_up_targets_of_devices_are_taken(name: str) -> None:
    """A device is tried on made-up records, whose targets are whole numbers, one each."""
    from clients.learning.device_check import check_computes

    model = PerSample(model_for(name), loss=summed_loss(name))
    check_computes(model, (1, *SIDE), QUESTIONS[name].values)
