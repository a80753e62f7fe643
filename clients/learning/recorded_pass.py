"""One pass through a model that leaves every patient's gradients, and computes none of their sums.

A backward pass computes two things in each layer: the gradient at its inputs, which goes on to the
layer before, and that of its weights, summed over all records, of which a clipped sum has no use.
Here the second is left out. What it is made of is kept instead, as `clients.learning.ghost_norms`
says: one backward pass in all (Bu et al. 2023, "book-keeping").

Layers are found by what a model *calls* with a parameter that is trained (`torch.conv2d` and so
on), not by the types of its modules, which are left as they are. A parameter that is used in any
other way gets a gradient from autograd, and is seen by that: then the pass raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from clients.learning.device_check import DeviceError
from clients.learning.ghost_norms import Owners
from clients.learning.patient_gradients import Gradients, bytes_of, written
from clients.learning.recorded_layers import (
    Convolution,
    GroupNorm,
    LayerNorm,
    Linear,
    UnknownUse,
    recorded,
)
from clients.learning.windows import Window


class RecordedPass(TorchFunctionMode):
    """Keeps what gradients are made of; what is called within it is recorded.

    Args:
        parameters: those that are trained, in the model's order.
        owners: whose the records are.

    Attributes:
        values: float32 numbers that layers' outputs and gradients take.
        again: whether a parameter was used more than once.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], owners: Owners) -> None:
        super().__init__()
        self.owners, self.values, self.again = owners, 0, False
        self._parameters = parameters
        self._places = {id(parameter): place for place, parameter in enumerate(parameters)}
        self._kept: dict[int, Gradients] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function, or what records it where it uses a trained parameter."""
        known = _CALLS.get(func)
        if known is None:
            return func(*args, **(kwargs or {}))
        outputs = known(self, func, *args, **(kwargs or {}))
        self.values += outputs.numel()
        return outputs

    def trains(self, parameter: torch.Tensor | None) -> bool:
        """Whether a parameter is trained."""
        return id(parameter) in self._places

    def keep(self, parameter: torch.Tensor, found: Gradients) -> None:
        """Keep patients' gradients of a parameter; those of several uses add up."""
        place = self._places[id(parameter)]
        if place in self._kept:
            first, second = (written(use) for use in (self._kept[place], found))
            found, self.again = (first.double() + second.double()).float(), True
        self._kept[place] = found
        self.values += bytes_of(found) // 4

    def gradients(self) -> list[Gradients]:
        """Return patients' gradients of all parameters, in their order, after the backward pass.

        Raises:
            UnknownUse: a parameter was used in another way as well.
        """
        if any(parameter.grad is not None for parameter in self._parameters):
            raise UnknownUse("a parameter is used otherwise than by a layer that is known")
        none = {
            place: parameter.detach().new_zeros((self.owners.patients, parameter.numel()))
            for place, parameter in enumerate(self._parameters)
            if place not in self._kept
        }
        return [one for _, one in sorted((self._kept | none).items(), key=lambda item: item[0])]


def values_of_a_record(
    module: nn.Module,
    parameters: Sequence[nn.Parameter],
    shape: tuple[int, ...],
    device: torch.device,
) -> int | None:
    """Record a pass of one made-up record; weights and torch's generator are left as they were.

    Args:
        module: the model, on the device.
        parameters: those that are trained.
        shape: of a record as the model gets it.
        device: where the model is.

    Returns:
        How many float32 numbers a recorded pass holds for each record; None where the model uses a
        parameter in a way that is not known here, or more than once: recurrent nets gain nothing.

    Raises:
        DeviceError: the model does not compute it.
    """
    record = RecordedPass(
        parameters, Owners(torch.zeros(1, dtype=torch.int64, device=device), (1,))
    )
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            with record:
                outputs = module(torch.zeros(1, *shape, device=device))
            outputs.sum().backward()
        record.gradients()
    except UnknownUse:
        return None
    except Exception as error:
        raise DeviceError(
            f"a made-up record of shape {shape} cannot be computed here "
            f"({type(error).__name__}: {error})"
        ) from error
    finally:
        for parameter in parameters:
            parameter.grad = None
    return None if record.again else record.values


def _convolve(
    record: RecordedPass,
    call: Callable[..., torch.Tensor],
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> torch.Tensor:
    if not (record.trains(weight) or record.trains(bias)):
        return call(input, weight, bias, stride, padding, dilation, groups)
    kernel = tuple(weight.shape[2:])
    steps, reach = _each(stride, kernel), _each(dilation, kernel)
    if padding == "same":
        input = functional.pad(input, _same(kernel, reach))
    sides = (0,) * len(kernel) if isinstance(padding, str) else _each(padding, kernel)
    window = Window(kernel=kernel, stride=steps, padding=sides, dilation=reach)
    parts = _parts(record, weight, bias)
    return recorded(Convolution(**parts, call=call, window=window, groups=groups), input)


def _parts(
    record: RecordedPass, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> dict[str, Any]:
    return {"keeper": record, "weight": weight, "bias": bias}


def _each(value: int | tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return one number for each axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * len(axes) if len(values) == 1 else values


def _same(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """Return the padding that keeps the size: last axis first, before and after."""
    pads: list[int] = []
    for width, reach in zip(reversed(kernel), reversed(dilation), strict=True):
        whole = reach * (width - 1)
        pads += [whole // 2, whole - whole // 2]
    return pads


def _linear(
    record: RecordedPass,
    call: Callable[..., torch.Tensor],
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    if not (record.trains(weight) or record.trains(bias)):
        return call(input, weight, bias)
    return recorded(Linear(keeper=record, weight=weight, bias=bias), input)


def _normalise_groups(
    record: RecordedPass,
    call: Callable[..., torch.Tensor],
    input: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *more: Any,
    **named: Any,
) -> torch.Tensor:
    if not (record.trains(weight) or record.trains(bias)):
        return call(input, num_groups, weight, bias, eps, *more, **named)
    parts = _parts(record, weight, bias)
    return recorded(GroupNorm(**parts, groups=num_groups, epsilon=eps), input)


def _normalise_layer(
    record: RecordedPass,
    call: Callable[..., torch.Tensor],
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    *more: Any,
    **named: Any,
) -> torch.Tensor:
    if not (record.trains(weight) or record.trains(bias)):
        return call(input, normalized_shape, weight, bias, eps, *more, **named)
    parts = _parts(record, weight, bias)
    return recorded(LayerNorm(**parts, shape=tuple(normalized_shape), epsilon=eps), input)


#: What a model may call with a parameter -> what records it.
_CALLS: dict[Callable[..., Any], Callable[..., torch.Tensor]] = {
    torch.conv1d: _convolve,
    torch.conv2d: _convolve,
    torch.conv3d: _convolve,
    functional.linear: _linear,
    functional.group_norm: _normalise_groups,
    torch.group_norm: _normalise_groups,
    functional.layer_norm: _normalise_layer,
    torch.layer_norm: _normalise_layer,
}
