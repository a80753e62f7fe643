"""A model that an app brings: checked together with its loss, and built from tensors where need be.

What a loss does with a batch cannot make one patient's gradient another's, since it is called with
one record at a time. But then a loss that was written to compare records with each other would
teach something else than its author meant, so that is found out here, on made-up records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from clients.contract.own_task import OwnTask
from clients.models.errors import ModelError
from clients.tasks.catalogue import imported, task_of

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data.records import DatasetInfo
    from clients.tasks.own import Own
    from clients.tasks.question import Question

_RECORDS, _TOLERANCE = 4, 1e-4


def build_own(info: DatasetInfo, digest: str) -> nn.Module:
    """Return the model of a data set that an app brought.

    Args:
        info: of the data set.
        digest: SHA-256 of the tensors that the training begins with.

    Raises:
        ModelError: no app brought any.
    """
    if info.own is None:
        raise ModelError(
            "model.name = 'own' is a model that an app brings; this app brings none: name one",
            code="unknown-model",
        )
    return info.own.module(digest)


def check_loop(settings: Settings, own: OwnTask | None) -> bool:
    """Insist that an app trains in its own way where the settings say so, and nowhere else.

    Returns:
        Whether it does.

    Raises:
        ModelError: they do not fit together.
    """
    loops = own is not None and own.loop is not None
    if loops == (settings.exchange.loop == "app"):
        return loops
    remedy = (
        "hospital_mod seals it and claims no epsilon; use private_client where gradients of single "
        "patients are asked for, or SecureFedAvg(own_training=True)"
        if loops
        else "use hospital_mod around one, or SecureFedAvg without own_training"
    )
    raise ModelError(
        f"exchange.loop = {settings.exchange.loop!r}, but this hospital's app has "
        f"{'a' if loops else 'no'} training loop of its own: {remedy}",
        code="wrong-kind",
    )


def own_task(question: Question) -> OwnTask | None:
    """Return a run's own task as what an app brings; None where the task is built in."""
    if not imported(question.asked):
        return None
    task = cast("Own", task_of(question))
    return OwnTask(
        module=lambda _: nn.Identity(),
        loss=task.batched,
        target_shape=question.shape,
        target_dtype=question.dtype,
        target_values=question.values,
    )


def check_loss(
    task: OwnTask,
    module: nn.Module,
    shape: tuple[int, ...],
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> None:
    """Insist that a loss of several records is made of the losses that they have alone.

    Args:
        task: whose loss it is.
        module: what the loss is of.
        shape: of one record as the model gets it, public.
        input_range: lowest and highest value of the made-up inputs.

    Raises:
        ModelError: it is not, or cannot be computed on records of this form.
    """
    if task.loss is None:
        return
    low, high = input_range
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        outputs = module(low + (high - low) * torch.rand(_RECORDS, *shape))
        outputs = outputs + torch.randn(outputs.shape)
        for targets in _made_up(task, outputs):
            try:
                whole = task.loss(outputs, targets)
                rows = [slice(row, row + 1) for row in range(_RECORDS)]
                alone = torch.stack([task.loss(outputs[r], targets[r]).mean() for r in rows])
                again = torch.stack([task.loss(outputs[r], targets[r]).mean() for r in rows[::-1]])
            except Exception as error:
                raise ModelError(
                    f"the loss cannot be computed on made-up outputs of shape "
                    f"{tuple(outputs.shape)} and {task.target_dtype} targets of shape "
                    f"{tuple(targets.shape)} ({error})",
                    code="wrong-kind",
                ) from error
            _check_alike(whole, alone, again)


def _check_alike(whole: torch.Tensor, alone: torch.Tensor, again: torch.Tensor) -> None:
    """Hold a loss of several records against those that they have alone, computed twice."""
    if not torch.equal(again.flip(0), alone):
        raise ModelError(
            "the loss of a record is another one when it comes again: one that remembers records "
            "or draws its own randomness would make one patient's gradient depend on others",
            code="not-private-ready",
        )
    if whole.ndim and len(whole) == _RECORDS:
        found, expected = [whole.reshape(_RECORDS, -1).mean(dim=1)], [alone]
    else:
        found, expected = (
            [whole.reshape(()) if whole.numel() == 1 else whole],
            [
                alone.mean(),
                alone.sum(),
            ],
        )
    if not any(_same(one, other) for one in found for other in expected):
        raise ModelError(
            "the loss mixes patients of a batch: of several records it is neither the sum nor the "
            "mean of what it is of each alone; compare no records with each other, and normalise "
            "by nothing that depends on others (a weighted mean does: use reduction='sum')",
            code="not-private-ready",
        )


def _made_up(task: OwnTask, outputs: torch.Tensor) -> list[torch.Tensor]:
    """Return targets as they fall, and uneven ones, for which a batch's own shares show."""
    shape, dtype = (_RECORDS, *task.target_shape), getattr(torch, task.target_dtype)
    if dtype.is_floating_point:
        drawn = torch.rand(shape, dtype=dtype)
        other = drawn[-1]
    else:
        classes = outputs.shape[1] if outputs.ndim > 1 else 2
        values = task.target_values or max(classes, 2)
        drawn = torch.randint(0, values, shape).to(dtype)
        other = (drawn[0] + 1) % values
    return [drawn, torch.stack([drawn[0]] * (_RECORDS - 1) + [other])]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(
        torch.allclose(one.double(), other.double(), rtol=_TOLERANCE, atol=_TOLERANCE)
    )


class TensorModel(nn.Module):
    """Tensors by name as a model that computes nothing: what an app's own loop brings back.

    Its order is that of the mapping, as far as layers allow.

    Args:
        tensors: name -> float tensor; dots in a name are layers.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *layers, last = name.split(".")
            layer: nn.Module = self
            for one in layers:
                if one not in layer._modules:
                    layer.add_module(one, nn.Module())
                layer = layer._modules[one]  # type: ignore[assignment]
            layer.register_parameter(last, nn.Parameter(tensor.detach().float().clone()))


@torch.no_grad()
def begin_at(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Set a model's parameters to those that a training begins with.

    Raises:
        ModelError: they are not exactly the model's own, or some are frozen.
    """
    own = dict(module.named_parameters())
    wrong = sorted(
        {*own, *tensors} - {n for n in own if n in tensors and own[n].shape == tensors[n].shape}
    )
    if wrong:
        raise ModelError(
            f"initial_arrays are not the parameters of model_fn() at {', '.join(wrong[:4])}: pass "
            "ArrayRecord(dict(model.named_parameters())) of the same model, without buffers",
            code="weights-mismatch",
        )
    if frozen := [name for name, one in own.items() if not one.requires_grad]:
        raise ModelError(
            f"{', '.join(frozen[:4])}: frozen; compute what frozen layers make of a record in "
            "data_fn, and train the others",
            code="weights-mismatch",
        )
    for name, parameter in own.items():
        parameter.copy_(tensors[name])
    return module
