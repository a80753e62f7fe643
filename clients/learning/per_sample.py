"""A model that yields one gradient per record, by Opacus' hooks.

Whatever a pass raises, the next one begins clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from clients.learning.batch import CHUNK_RECORDS
from clients.learning.device import CPU, Twin

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.learning.class_shares import ClassShares, Marks


class PerSample:
    """A model that yields one gradient per record, by Opacus' hooks.

    Hooks are attached once and stay; the wrapped module is the caller's own and keeps its
    parameters, so an optimiser step on it is seen here: at once, or on another device after
    :meth:`refresh`.

    Args:
        module: the model, on a processor.
        loss: (outputs, targets) -> the sum of the records' losses, none of which depends on another
            record; None for cross-entropy.
        shares: of the classes, and how uneven ones are made up for; None: not at all. Where they
            are needed, the classes of each record follow its gradients.
        device: where gradients are computed, and left.
    """

    shares: ClassShares | None = None

    def __init__(
        self,
        module: nn.Module,
        shares: ClassShares | None = None,
        device: torch.device = CPU,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        from opacus.grad_sample import GradSampleModule

        self._twin = Twin(module, device)
        self.device, self.module = device, self._twin.module
        self._loss = loss or partial(functional.cross_entropy, reduction="sum")
        #: Records whose gradients are held at once.
        self.chunk_records = CHUNK_RECORDS
        self._hooked = GradSampleModule(self.module, loss_reduction="sum")
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.dimensions = sum(p.numel() for p in self.parameters)
        if shares is not None:
            self.shares = shares
            self.dimensions += shares.counts.classes if shares.counts is not None else 0

    def refresh(self) -> None:
        """Take note of the caller's steps; to be called before a batch, not before each pass."""
        self._twin.refresh()

    def gradients(self, inputs: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        """Return one tensor ``[n, *parameter.shape]`` for each trainable parameter.

        Whatever a pass raises, the hooks are left ready for the next one.
        """
        shares, inputs, labels = self.shares, inputs.to(self.device), labels.to(self.device)
        try:
            logits = self._hooked(inputs)
            moved = shares.moved() if shares is not None else None
            if moved is not None:
                logits = logits + moved.to(self.device)
            loss = self._loss(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            found = take_gradients(self.parameters)
            if shares is not None and shares.marked:
                found.append(shares.marks_of(labels))
            return found
        except Exception:
            forget_pass(self.module)
            raise

    def marks_in(self, gradients: list[torch.Tensor]) -> Marks | None:
        """Take patients' classes out of their mean gradients, where they follow these."""
        shares = self.shares
        return shares.marks(gradients.pop()) if shares is not None and shares.marked else None


def forget_pass(module: nn.Module) -> None:
    """Clear what Opacus' hooks hold of a pass that did not come to its end.

    Activations of a broken pass would be taken for a part of the next one.
    """
    for layer in module.modules():
        for left in ("activations", "max_batch_len"):
            if left in layer.__dict__:
                delattr(layer, left)
        for parameter in layer.parameters(recurse=False):
            if hasattr(parameter, "_current_grad_sample"):
                del parameter._current_grad_sample
            if hasattr(parameter, "grad_sample"):
                parameter.grad_sample = None
            if hasattr(parameter, "_forward_counter"):
                parameter._forward_counter = 0
            parameter.grad = None


def take_gradients(parameters: Iterable[nn.Parameter]) -> list[torch.Tensor]:
    """Return what Opacus' hooks left, ``[n, *parameter.shape]`` for each, and clear it."""
    gradients = []
    for parameter in parameters:
        gradient = parameter.grad_sample  # type: ignore[attr-defined]
        # A module that is called twice in one pass leaves a list: its calls add up.
        if isinstance(gradient, list):
            gradient = torch.stack(gradient).sum(dim=0)
        gradients.append(gradient)
        parameter.grad_sample = None  # type: ignore[attr-defined]
        parameter.grad = None
    return gradients
