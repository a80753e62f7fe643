"""Layers whose backward pass leaves each patient's gradients instead of the sum over all records.

Each goes forward as torch's own does, and backward to its inputs alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch.nn import functional

from clients.learning.ghost_norms import Owners, weight_gradients
from clients.learning.patient_gradients import Gradients
from clients.learning.windows import Window

_convolution_backward = torch.ops.aten.convolution_backward
_layer_norm_backward = torch.ops.aten.native_layer_norm_backward

#: Of weights with more values, gradients take less time from maps whose channels lie first.
_MANY_VALUES = 2**17
#: Positions that one pass for a patient adds up in float32, where they have several records.
_POSITIONS = 2**16


class UnknownUse(ValueError):
    """A model uses a parameter in a way whose gradients cannot be told patient by patient here."""


class Keeper(Protocol):
    """Keeps patients' gradients of the parameters that are trained."""

    owners: Owners

    def trains(self, parameter: torch.Tensor | None) -> bool:
        """Whether a parameter is trained."""

    def keep(self, parameter: torch.Tensor, found: Gradients) -> None:
        """Keep patients' gradients of a parameter that is trained."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A use of a weight and a bias.

    Attributes:
        keeper: takes their gradients.
        weight: trained or not.
        bias: trained or not, if there is one.
    """

    keeper: Keeper
    weight: torch.Tensor | None
    bias: torch.Tensor | None

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output, and what is to be kept for the way back."""
        raise NotImplementedError

    def backward(
        self, gradient: torch.Tensor, wanted: bool, inputs: torch.Tensor, *kept: torch.Tensor
    ) -> torch.Tensor | None:
        """Keep the parameters' gradients; return that at the inputs, if it is wanted."""
        raise NotImplementedError

    def keep_bias(self, at_outputs: torch.Tensor) -> None:
        """Keep gradients of the bias: float32 ``[records, positions, outputs]``, summed."""
        self._keep_rows(self.bias, lambda: at_outputs.sum(dim=1))

    def _keep_rows(
        self, parameter: torch.Tensor | None, records: Callable[[], torch.Tensor]
    ) -> None:
        if parameter is not None and self.keeper.trains(parameter):
            self.keeper.keep(parameter, self.keeper.owners.means(records()))

    def _keep_factors(
        self,
        at_outputs: torch.Tensor,
        at_inputs: torch.Tensor,
        window: Window | None,
        own_pass: Callable[[], torch.Tensor] | None = None,
    ) -> None:
        if self.weight is not None and self.keeper.trains(self.weight):
            found = weight_gradients(at_outputs, at_inputs, window, self.keeper.owners, own_pass)
            self.keeper.keep(self.weight, found)


class _Recorded(torch.autograd.Function):
    """A layer in autograd's graph; parameters are among the inputs so that there is a graph."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, inputs: torch.Tensor, *parameters: Any) -> torch.Tensor:
        output, *kept = layer.forward(inputs)
        ctx.layer, ctx.parameters = layer, len(parameters)
        ctx.save_for_backward(inputs, *kept)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kept = [one.detach() for one in ctx.saved_tensors]  # or the graph would be kept with them
        found = ctx.layer.backward(gradients[0], ctx.needs_input_grad[1], *kept)
        return (None, found, *[None] * ctx.parameters)


def recorded(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """Return a layer's output; its parameters' gradients are kept on the way back."""
    if len(inputs) != len(layer.keeper.owners.index):
        raise UnknownUse(f"a layer has {len(inputs)} inputs, not one for each record")
    for one in (layer.weight, layer.bias):
        if one is not None and one.requires_grad and not layer.keeper.trains(one):
            raise UnknownUse("a layer's weight is made of parameters, which would have no gradient")
    apply: Callable[..., torch.Tensor] = _Recorded.apply
    return apply(layer, inputs, layer.weight, layer.bias)


@dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """A convolution over one, two or three axes."""

    call: Callable[..., torch.Tensor]
    window: Window
    groups: int

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output ``[records, outputs, *space]``."""
        at = self.window
        tail = (at.stride, at.padding, at.dilation, self.groups)
        return (self.call(inputs, self.weight, self.bias, *tail),)

    def backward(
        self, gradient: torch.Tensor, wanted: bool, inputs: torch.Tensor, *kept: torch.Tensor
    ) -> torch.Tensor | None:
        """Keep the parameters' gradients; return that at the inputs, if it is wanted."""
        at_outputs, at = gradient.flatten(2).mT, self.window
        self.keep_bias(at_outputs)
        if self.groups == 1:
            # Along three axes a pass for each patient takes longer than copies of windows.
            own_pass = partial(self._by_patient, gradient, inputs)
            pays = at.copies and len(at.kernel) == 2
            self._keep_factors(at_outputs, inputs, at, own_pass if pays else None)
        else:
            self._keep_rows(self.weight, lambda: self._grouped(at_outputs, inputs))
        return self._pass(gradient, inputs, [True, False, False])[0] if wanted else None

    def _pass(
        self, gradient: torch.Tensor, inputs: torch.Tensor, wants: list[bool]
    ) -> tuple[torch.Tensor, ...]:
        """Return the gradients at the inputs, of the weight and of the bias that are wanted."""
        at, none = self.window, [0] * len(self.window.kernel)
        where = (at.stride, at.padding, at.dilation, False, none, self.groups)
        return _convolution_backward(  # type: ignore[no-any-return]
            gradient, inputs, self.weight, None, *where, wants
        )

    def _by_patient(self, gradient: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return patients' mean gradients of the weight, each by a pass of their own records."""
        assert self.weight is not None
        counts = list(self.keeper.owners.counts)
        rows = gradient.new_empty((len(counts), *self.weight.shape))
        if self.weight.numel() > _MANY_VALUES:
            gradient, inputs = gradient.contiguous(), inputs.contiguous()
        together = max(1, _POSITIONS // math.prod(gradient.shape[2:]))
        pairs = zip(torch.split(gradient, counts), torch.split(inputs, counts), strict=True)
        for row, (theirs, seen) in zip(rows, pairs, strict=True):
            parts = zip(torch.split(theirs, together), torch.split(seen, together), strict=True)
            found = [self._pass(one, met, [False, True, False])[1] for one, met in parts]
            summed = found[0] if len(found) == 1 else torch.stack(found).double().sum(dim=0)
            torch.div(summed, len(theirs), out=row)
        return rows.flatten(1)

    def _grouped(self, at_outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return records' gradients of a weight that joins channels within groups alone."""
        seen = self.window.patches(inputs, inputs.dtype)
        split = seen.reshape(*seen.shape[:2], self.window.places, self.groups, -1)
        outputs = at_outputs.mT.reshape(len(at_outputs), self.groups, -1, at_outputs.shape[1])
        return (outputs @ split.permute(0, 3, 1, 4, 2).flatten(3)).flatten(1)


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A linear layer, at one position or at many."""

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output ``[records, ..., outputs]``."""
        assert self.weight is not None
        return (functional.linear(inputs, self.weight, self.bias),)

    def backward(
        self, gradient: torch.Tensor, wanted: bool, inputs: torch.Tensor, *kept: torch.Tensor
    ) -> torch.Tensor | None:
        """Keep the parameters' gradients; return that at the inputs, if it is wanted."""
        at_outputs, at_inputs = (
            one.reshape(len(one), -1, one.shape[-1]) for one in (gradient, inputs)
        )
        self.keep_bias(at_outputs)
        self._keep_factors(at_outputs, at_inputs, None)
        return gradient @ self.weight if wanted and self.weight is not None else None


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Layer):
    """Groups of channels, normalised within a record."""

    groups: int
    epsilon: float

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output, and the groups' means and inverse deviations."""
        size = _size(inputs)
        return torch.native_group_norm(
            _dense(inputs, inputs), self.weight, self.bias, *size, self.groups, self.epsilon
        )

    def backward(
        self, gradient: torch.Tensor, wanted: bool, inputs: torch.Tensor, *kept: torch.Tensor
    ) -> torch.Tensor | None:
        """Keep the parameters' gradients; return that at the inputs, if it is wanted."""
        gradient, inputs = _dense(gradient, inputs), _dense(inputs, inputs)
        each, positions = (len(inputs), self.groups, -1), (*inputs.shape[:2], -1)
        means, deviations = (one.reshape(each) for one in kept)

        def spread(values: torch.Tensor) -> torch.Tensor:
            """Return what each group or channel of a record has, as maps of one position."""
            width = inputs.shape[1] // self.groups
            flat = values.expand(len(inputs), self.groups, width).reshape(inputs.shape[:2])
            return flat.reshape(*flat.shape, *[1] * (inputs.dim() - 2))

        # Centred first: what is left of a group whose mean is large is exact then.
        centred = inputs - spread(means)
        sums, met = (
            one.reshape(positions).sum(dim=2).reshape(each)
            for one in (gradient, gradient * centred)
        )
        self._keep_rows(self.weight, lambda: (met * deviations).flatten(1))
        self._keep_rows(self.bias, lambda: sums.flatten(1))
        if not wanted:
            return None
        # The groups' sums are those of channels, which are there: torch's own pass adds them up
        # anew, and takes three times as long as this where channels lie last.
        scale = inputs.new_ones(1, self.groups, sums.shape[2])
        if self.weight is not None:
            scale = self.weight.detach().reshape(scale.shape)
        over = deviations / (sums.shape[2] * math.prod(inputs.shape[2:]))
        along, across = ((scale * one).sum(dim=2, keepdim=True) for one in (sums, met))
        found = torch.addcmul(spread(-along * over), gradient, spread(scale * deviations))
        return found.addcmul_(centred, spread(-across * over * deviations.square()))


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Layer):
    """Values of a record's last axes, normalised together."""

    shape: tuple[int, ...]
    epsilon: float

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output, and the means and inverse deviations."""
        return torch.native_layer_norm(inputs, self.shape, self.weight, self.bias, self.epsilon)

    def backward(
        self, gradient: torch.Tensor, wanted: bool, inputs: torch.Tensor, *kept: torch.Tensor
    ) -> torch.Tensor | None:
        """Keep the parameters' gradients; return that at the inputs, if it is wanted."""
        means, deviations = kept

        def summed(values: torch.Tensor) -> torch.Tensor:
            return values.reshape(len(values), -1, math.prod(self.shape)).sum(dim=1)

        self._keep_rows(self.weight, lambda: summed(gradient * ((inputs - means) * deviations)))
        self._keep_rows(self.bias, lambda: summed(gradient))
        if not wanted:
            return None
        more = (means, deviations, self.weight, self.bias, [True, False, False])
        found = _layer_norm_backward(gradient.contiguous(), inputs, self.shape, *more)
        return found[0]  # type: ignore[no-any-return]


def _size(maps: torch.Tensor) -> tuple[int, int, int]:
    """Return records, channels, and positions."""
    return len(maps), maps.shape[1], math.prod(maps.shape[2:])


def _dense(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return maps without gaps: with the channels last where others have them so, on processors."""
    last = torch.channels_last
    if like.device.type == "cpu" and like.dim() == 4 and like.is_contiguous(memory_format=last):
        return maps.contiguous(memory_format=last)
    return maps.contiguous()
