"""Whether a model treats each record alone, found out by running it on made-up records.

A patient's gradient can be clipped only if it is that patient's: neither the others of the batch
nor how many they are may enter it. No list of layers tells that of somebody's own code, so the
model is run: what it says of a record in a batch must be what it says of the record alone, and the
gradient of the record's loss must be the same and reach no other record's input. A run must also
leave the model's buffers as they were, or statistics of patients would gather there. It catches
mistakes, not malice: code that mixes patients only in large batches is not found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

#: By what two ways to a value may differ, relative to it.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-2}  # deep nets amplify rounding 1e4 times
#: Parameters beyond which a model is run on two small records rather than three of full size: a
#: model that treats small pictures one by one does so with large ones.
_LARGE = 300_000
_SIDES = (8, 16, 32)


def dependences(
    module: nn.Module, shape: tuple[int, ...], input_range: tuple[float, float] = (-1.0, 1.0)
) -> list[str]:
    """Return one line for each way in which the model mixes records or keeps something of them.

    The module, its buffers and torch's global generator are left as they were.

    Args:
        module: in training mode; float32 ``[n, *shape]`` -> logits ``[n, classes]``.
        shape: of one record as the model gets it, public.
        input_range: lowest and highest value of the made-up inputs.

    Raises:
        RuntimeError: the model does not run on records of this shape.
    """
    large = sum(p.numel() for p in module.parameters()) > _LARGE
    shapes = [*(smaller(shape) if large else ()), shape]
    ways = [(one, dtype) for one in shapes for dtype in (torch.float64, torch.float32)]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for one, dtype in ways[:-1]:
            # A model may not run on small records, or insist on float32.
            with suppress(RuntimeError, ValueError):
                return _Trial(module, one, input_range, dtype, 2 if large else 3).faults()
        one, dtype = ways[-1]
        return _Trial(module, one, input_range, dtype, 2 if large else 3).faults()


def smaller(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return shapes of smaller pictures or volumes of as many channels."""
    if len(shape) < 3:
        return []
    return [(shape[0], *(min(side, n) for n in shape[1:])) for side in _SIDES if side < shape[1]]


@dataclass
class _Seen:
    """What a layer said of one record, and whether it got the same as at another time."""

    name: str
    inputs: torch.Tensor | None
    output: torch.Tensor


@dataclass
class _Trace:
    """The layers' outputs in one pass, in the order in which they were ready."""

    row: int
    records: int
    seen: list[_Seen] = field(default_factory=list)

    def hook(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            given = inputs[0] if inputs else None
            if self._by_record(output):
                rows = given[self.row] if self._by_record(given) else None  # type: ignore[index]
                self.seen.append(_Seen(name, rows, output[self.row]))  # type: ignore[index]

        return note

    def _by_record(self, value: object) -> bool:
        return torch.is_tensor(value) and value.ndim > 0 and len(value) == self.records


class _Trial:
    """One draw of made-up records and weights.

    Weights that start equal are moved at random: a layer of zeros would hide what came before it.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: tuple[int, ...],
        input_range: tuple[float, float],
        dtype: torch.dtype,
        records: int,
    ) -> None:
        self._module, self._dtype, self._tolerance = module, dtype, TOLERANCES[dtype]
        self._random = torch.Generator().manual_seed(0)
        self._shape, self._range, self._count = shape, input_range, records
        self._weights = {n: self._moved(p) for n, p in module.named_parameters()}
        self._buffers = {n: self._cast(b) for n, b in module.named_buffers()}
        self._trained = [self._weights[n] for n, p in module.named_parameters() if p.requires_grad]

    def faults(self) -> list[str]:
        """Return what is wrong, at most one line for the buffers and one for the records."""
        records = self._records()
        first = self._run(records)
        changed = self._changed_buffers()
        if changed:
            return [
                f"{', '.join(changed)}: kept from batch to batch and changed by every one, so that "
                "it gathers statistics of patients: remove it, or use a layer without running "
                "state such as nn.GroupNorm"
            ]
        if not self._same(first.detach(), self._run(records).detach()):
            return [
                "the model draws its own randomness or remembers earlier batches: remove what "
                "does; the noise regularises"
            ]
        return self._mixed(records, first)

    def _mixed(self, records: torch.Tensor, logits: torch.Tensor) -> list[str]:
        for row in range(len(records)):
            single = records[row : row + 1].detach().requires_grad_(True)
            alone = self._run(single)
            if not self._same(logits[row].detach(), alone[0].detach()):
                return [self._named(records, single, row)]
            last = row == len(records) - 1  # going back costs most, and one record shows it
            if last and not self._same_gradient(records, logits, row, single, alone):
                return [_MIXES.format(where="the model's gradient")]
        return []

    def _same_gradient(
        self,
        records: torch.Tensor,
        logits: torch.Tensor,
        row: int,
        single: torch.Tensor,
        alone: torch.Tensor,
    ) -> bool:
        """Whether a record's loss has the gradient it has alone, and none at the other records."""
        found, at_inputs = self._gradients(logits[row], records)
        expected, at_input = self._gradients(alone[0], single)
        elsewhere = torch.cat([at_inputs[:row], at_inputs[row + 1 :]])
        if bool(elsewhere.abs().max() > self._tolerance * at_input.abs().max()):
            return False
        # Against the whole gradient: a bias before a normalisation has one of nothing but rounding.
        scale = max((float(one.abs().max()) for one in expected), default=0.0)
        return all(self._same(a, b, scale) for a, b in zip(found, expected, strict=True))

    def _gradients(
        self, logits: torch.Tensor, records: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        loss = functional.cross_entropy(logits.reshape(1, -1), torch.zeros(1, dtype=torch.int64))
        wanted = [records, *self._trained]
        if not loss.requires_grad:
            return [], torch.zeros_like(records)
        found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        filled = [
            torch.zeros_like(one) if gradient is None else gradient
            for one, gradient in zip(wanted, found, strict=True)
        ]
        return filled[1:], filled[0]

    def _named(self, records: torch.Tensor, single: torch.Tensor, row: int) -> str:
        """Name the first layer that was given the same record and said something else of it."""
        with self._traced(row, len(records)) as among:
            self._run(records)
        with self._traced(0, 1) as alone:
            self._run(single)
        for one, other in zip(among.seen, alone.seen, strict=False):
            if one.name != other.name:
                break
            given = one.inputs, other.inputs
            same_inputs = given[0] is None or given[1] is None or self._same(given[0], given[1])
            if same_inputs and not self._same(one.output, other.output):
                layer = self._module.get_submodule(one.name)
                where = f"{one.name or 'the model'} ({type(layer).__name__})"
                return _MIXES.format(where=where)
        return _MIXES.format(where="the model")

    @contextmanager
    def _traced(self, row: int, records: int) -> Iterator[_Trace]:
        trace = _Trace(row, records)
        layers = self._module.named_modules()
        hooks = [layer.register_forward_hook(trace.hook(name)) for name, layer in layers]
        try:
            yield trace
        finally:
            for hook in hooks:
                hook.remove()

    def _run(self, records: torch.Tensor) -> torch.Tensor:
        state = {**self._weights, **self._buffers}
        logits: torch.Tensor = functional_call(self._module, state, (records,))
        # A buffer that was set anew, rather than changed in place, comes back in the state.
        self._buffers = {name: state[name] for name in self._buffers}
        return logits

    def _changed_buffers(self) -> list[str]:
        return [
            f"{name} ({type(self._module.get_submodule(name.rpartition('.')[0])).__name__})"
            for name, buffer in self._module.named_buffers()
            if not torch.equal(self._cast(buffer), self._buffers[name])
        ]

    def _records(self) -> torch.Tensor:
        low, high = self._range
        made = torch.rand(self._count, *self._shape, generator=self._random, dtype=self._dtype)
        return (low + (high - low) * made).requires_grad_(True)

    def _moved(self, parameter: nn.Parameter) -> torch.Tensor:
        moved = parameter.detach().to(self._dtype)
        if bool((moved == moved.reshape(-1)[:1]).all()):
            width = moved[0].numel() if moved.ndim > 1 else 1
            noise = torch.randn(moved.shape, generator=self._random, dtype=self._dtype)
            moved = moved + 0.5 / width**0.5 * noise
        return moved.clone().requires_grad_(parameter.requires_grad)

    def _cast(self, buffer: torch.Tensor) -> torch.Tensor:
        buffer = buffer.detach().clone()
        return buffer.to(self._dtype) if buffer.is_floating_point() else buffer

    def _same(self, one: torch.Tensor, other: torch.Tensor, scale: float | None = None) -> bool:
        if one.shape != other.shape:
            return False
        if not one.numel():
            return True
        apart = float((one.detach() - other.detach()).abs().max())
        scale = float(one.detach().abs().max()) if scale is None else scale
        # What is not a number tells nothing.
        return apart <= self._tolerance * scale or not math.isfinite(apart)


_MIXES = (
    "{where} mixes patients of a batch: what it makes of a record depends on the other records; "
    "normalise within a record, for example by nn.GroupNorm or nn.LayerNorm"
)
