"""The arithmetic of split learning: what each end computes, without messages, noise or files.

Per-record gradients of a part come from Opacus' hooks by backpropagating a given gradient through
it; a patient's gradient is spread over three parts, two of which never meet, so its norm is put
together from the parts' squared norms. The gradients of the records that come at once are held at
once, ``[n, d]`` float32 for each part: a hospital brings a few at a time, so that how many patients
fill a batch decides on no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from clients.learning.device import CPU, Twin
from clients.learning.device_check import check_computes
from clients.learning.dp_sgd import clip_factors
from clients.learning.per_sample import FULL_RECORDS, forget_pass, take_gradients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.learning.cuts import Parts


#: The loss of a part's outputs for some rows of a batch.
_Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Part:
    """A part of a model that yields one gradient per record.

    Args:
        module: on a processor, where inputs come from and results go.
        device: where it is computed.
    """

    def __init__(self, module: nn.Sequential, device: torch.device = CPU) -> None:
        self._twin = Twin(module, device)
        self.module = self._twin.module
        self._hooked: nn.Module = self.module
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        if self.parameters:
            from clients.models.opacus_parts import hooked

            self._hooked = hooked(self.module)

    @torch.no_grad()
    def outputs(self, inputs: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Return the part's outputs ``[n, *shape]``.

        Of a record that it cannot compute, or that could not be read, they are zeros.

        Raises:
            DeviceError: no record could be computed, nor can made-up ones be.
        """
        self._twin.refresh()
        try:
            rows = self._forward(inputs[_filled(len(inputs))])[: len(inputs)]
        except Exception:
            alone = [self._output(inputs, row) for row in range(len(inputs))]
            if all(one is None for one in alone):
                check_computes(self, tuple(inputs.shape[1:]), classes=2)
            zeros = torch.zeros(1, *shape)
            rows = torch.cat([zeros if one is None else one for one in alone])
        finite = torch.isfinite(rows).flatten(1).all(dim=1)
        return torch.where(finite.reshape(-1, *[1] * (rows.dim() - 1)), rows, 0.0)

    def _output(self, inputs: torch.Tensor, row: int) -> torch.Tensor | None:
        try:
            return self._forward(inputs[_filled(len(inputs), row)])[:1]
        except Exception:
            return None

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.module(inputs.to(self._twin.device))
        return outputs.cpu()

    def gradients(self, inputs: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Return each record's gradient of the sum of the outputs; whatever fails is raised."""
        if not len(self.module):
            return [torch.zeros(len(inputs), 0)]
        rows = torch.arange(len(inputs))
        return [self._pass(inputs, lambda outputs, _: outputs.sum(), rows)[0]]

    def backward(
        self, inputs: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each record's gradient ``[n, d]`` and that at the input, given that at the output.

        A record that cannot be computed has a gradient of NaN, so that its patient is clipped to
        zero, and zeros at the input.

        Args:
            inputs: of the part, ``[n, ...]``.
            gradient: of the loss at the part's output, ``[n, ...]``.
        """
        if not len(self.module):
            return torch.zeros(len(inputs), 0), gradient

        def loss(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return (outputs * gradient[rows].to(outputs.device)).sum()

        return self._run(inputs, loss)

    def backward_from_loss(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same, given labels ``[n]`` and what each record's loss weighs ``[n]``."""

        def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            right, weigh = labels[rows].to(logits.device), weights[rows].to(logits.device)
            return (functional.cross_entropy(logits, right, reduction="none") * weigh).sum()

        return self._run(inputs, loss)

    def _run(self, inputs: torch.Tensor, loss: _Loss) -> tuple[torch.Tensor, torch.Tensor]:
        if not len(inputs):
            width = sum(p.numel() for p in self.parameters)
            return torch.zeros(0, width), torch.zeros_like(inputs)
        records = len(inputs)
        try:
            found, at_input = self._pass(inputs, loss, _filled(records))
            return found[:records], at_input[:records]
        except Exception:
            # Done again record by record, so that one that raises is alone with it.
            alone = [self._alone(inputs, loss, row) for row in range(records)]
        return torch.cat([g for g, _ in alone]), torch.cat([at for _, at in alone])

    def _alone(
        self, inputs: torch.Tensor, loss: _Loss, row: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            found, at_input = self._pass(inputs, loss, _filled(len(inputs), row))
        except Exception:
            width = sum(p.numel() for p in self.parameters)
            return torch.full((1, width), torch.nan), torch.zeros_like(inputs[:1])
        return found[:1], at_input[:1]

    def _pass(
        self, inputs: torch.Tensor, loss: _Loss, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._twin.refresh()
        inputs = inputs.detach()[rows].to(self._twin.device).requires_grad_(True)
        try:
            loss(self._hooked(inputs), rows).backward()  # type: ignore[no-untyped-call]
            assert inputs.grad is not None
            return self._collect(len(inputs)).cpu(), inputs.grad.detach().cpu()
        except Exception:
            forget_pass(self.module)
            raise

    def _collect(self, records: int) -> torch.Tensor:
        pieces = [g.reshape(records, -1) for g in take_gradients(self.parameters)]
        return torch.cat(pieces, dim=1) if pieces else torch.zeros(records, 0)


def _filled(records: int, row: int | None = None) -> torch.Tensor:
    """Return the numbers of all records, or of one, with copies up to the one size of a pass.

    As for whole models (`clients.learning.per_sample.filled`): what a record's outputs are rounded
    to must not depend on how many are there beside it.
    """
    size = max(records, FULL_RECORDS)
    if row is not None:
        return torch.full((size,), row)
    return torch.arange(size) % records


class Ends:
    """The parts of a cut model that are at home; made once, for hooks stay where they are.

    Attributes:
        away: names of the parameters that are the server's, in the whole model.
        activation: shape of one record's activation at the cut.
        features: shape of one record's features at the head; () where the head is the server's.
    """

    def __init__(
        self, parts: Parts, whole: nn.Module, shape: Sequence[int], device: torch.device = CPU
    ) -> None:
        with torch.no_grad():
            activation = parts.bottom(torch.zeros(1, *shape))
            self.activation = tuple(activation.shape[1:])
            at_home = parts.head is not None
            self.features = tuple(parts.middle(activation).shape[1:]) if at_home else ()
        self.away = frozenset(parts.names_away(whole))
        self.bottom = Part(parts.bottom, device)
        self.head = None if parts.head is None else Part(parts.head, device)


def by_patient(gradients: torch.Tensor, owner: torch.Tensor, patients: int) -> torch.Tensor:
    """Add up the records' rows of each patient: ``[n, d] -> [patients, d]``, float64."""
    summed = torch.zeros(patients, gradients.shape[1], dtype=torch.float64)
    return summed.index_add_(0, owner, gradients.double())


def clip_rows(values: torch.Tensor, l2_clip: float) -> torch.Tensor:
    """Clip every row to norm C, rows that are not finite to zero; same shape, float64.

    Formal guarantee: replacing one row by zeros changes the whole by at most ``l2_clip``.
    """
    flat = values.detach().flatten(1).double()
    factors = clip_factors(flat.square().sum(dim=1), l2_clip)
    flat = torch.where((factors > 0)[:, None], flat, 0.0) * factors[:, None]
    return flat.reshape(values.shape)


def placed(values: torch.Tensor, places: torch.Tensor, slots: int) -> NDArray[np.float64]:
    """Return rows, float64, each in its own place among so many slots; the others are zero."""
    rows = np.zeros((slots, *values.shape[1:]))
    rows[places.numpy()] = values.numpy()
    return rows
