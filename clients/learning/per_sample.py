"""A model that yields gradients by record or by patient: by Opacus' hooks, or by a recorded pass.

Whatever a pass raises, the next one begins clean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from clients.learning.adversary import Adversary
from clients.learning.batch import CHUNK_RECORDS
from clients.learning.device import CPU, Twin
from clients.learning.ghost_norms import Owners
from clients.learning.patient_gradients import written
from clients.learning.recorded_pass import RecordedPass, values_of_a_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.learning.class_shares import ClassShares, Marks
    from clients.learning.patient_gradients import Gradients
    from clients.learning.processors import Processors

#: Sizes of passes are multiples of it: there products of matrices round each row alike. MKL and
#: others multiply rows that are left over by other code, which would make a record's place in the
#: pass matter.
FULL_RECORDS = 16
#: Parameters from which on a model's gradients are not written out record by record: below, those
#: of a chunk stay in a processor's caches, and nothing is won.
LARGE = 300_000


class PerSample:
    """A model that yields one gradient per record, or the mean gradient of each patient.

    Small models, and those that use a parameter twice or in a way not known, go by Opacus' hooks.
    Large ones are recorded (`clients.learning.recorded_pass`), where all their layers are known.
    Architecture and shape of a record decide, both public, so all hospitals of a training go the
    same way, simulated or deployed.

    Hooks are attached once and stay; the wrapped module is the caller's own and keeps its
    parameters, so an optimizer step on it is seen here: at once, or on another device after
    :meth:`refresh`.

    Args:
        module: the model, on a processor.
        loss: (outputs, targets) -> the sum of the records' losses, none of which depends on another
            record; None for cross-entropy.
        shares: of the classes, and how uneven ones are made up for; None: not at all. Where they
            are needed, the classes of each record follow its gradients.
        device: where gradients are computed, and left.
        way: "hooks" or "recorded", whatever the model is; None: as it suits the model.
        adversary: how far records are moved against the model before their gradient is taken, in
            widths of their range, and the range; None: they are as they are.
        processors: free ones, with which passes of one sum may be shared; None: none are.
    """

    shares: ClassShares | None = None
    #: What a pass took that was computed here last, in seconds; 0 where none was measured.
    pass_seconds = 0.0

    def __init__(
        self,
        module: nn.Module,
        shares: ClassShares | None = None,
        device: torch.device = CPU,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        way: Literal["hooks", "recorded"] | None = None,
        adversary: tuple[float, tuple[float, float]] | None = None,
        processors: Processors | None = None,
    ) -> None:
        self.processors = processors
        self._twin = Twin(module, device)
        self.device, self.module = device, self._twin.module
        self._loss = loss or partial(functional.cross_entropy, reduction="sum")
        self._adversary = None
        if adversary is not None:
            radius, bounds = adversary
            self._adversary = Adversary(self.module, self._loss, radius=radius, bounds=bounds)
        #: Records whose gradients are held at once; on a processor each pass is filled to so many.
        self.chunk_records = CHUNK_RECORDS
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.dimensions = sum(p.numel() for p in self.parameters)
        self._large = self.dimensions >= LARGE
        self._way = way
        self._shape: tuple[int, ...] | None = None
        self._recorded = False
        self._hooked: nn.Module | None = None
        if shares is not None:
            self.shares = shares
            self.dimensions += shares.counts.classes if shares.counts is not None else 0

    @property
    def recorded(self) -> bool:
        """Whether gradients come from a recorded pass, as :meth:`choose_pass` has decided."""
        return self._recorded

    def refresh(self) -> None:
        """Take note of the caller's steps; to be called before a batch, not before each pass."""
        self._twin.refresh()

    def choose_pass(self, shape: tuple[int, ...]) -> None:
        """Decide how gradients are computed, and on a processor, of how many records at once.

        Args:
            shape: of one record as the model gets it, public.

        Raises:
            DeviceError: a large model does not compute a made-up record.
        """
        if shape == self._shape:
            return
        values = None
        if self._way == "recorded" or (self._way is None and self._large):
            values = values_of_a_record(self.module, self.parameters, shape, self.device)
        if values is not None and self.device.type == "cpu":
            # More at once are not faster, and each pass is filled.
            self.chunk_records = FULL_RECORDS
        self._recorded, self._shape = values is not None, shape

    def means(
        self, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners, records: int = 0
    ) -> list[Gradients]:
        """Return the mean gradients of all patients, for each trainable parameter.

        Where classes are needed, the mean classes ``[patients, classes]`` follow.

        Args:
            inputs: float32 ``[n, *shape]``, patient by patient.
            labels: int64 ``[n]``.
            owners: whose the records are.
            records: at least so many go through the model, with copies that are nobody's.
        """
        self.choose_pass(tuple(inputs.shape[1:]))
        patients, records = owners.patients, max(records, len(labels))
        if self.device.type == "cuda":
            records += -records % FULL_RECORDS
        inputs, labels, owners = filled(inputs, labels, owners, records)
        owners = owners.to(self.device)
        if self._recorded:
            found = self._pass(inputs, labels, owners)
        else:
            rows = self.gradients(inputs, labels)
            found = [owners.means(one) if isinstance(one, torch.Tensor) else one for one in rows]
        return found if owners.patients == patients else [one[:patients] for one in found]

    def gradients(self, inputs: torch.Tensor, labels: torch.Tensor) -> list[Gradients]:
        """Return the gradients of all records, for each trainable parameter.

        Whatever a pass raises, the next one begins clean.
        """
        self.choose_pass(tuple(inputs.shape[1:]))
        if self._recorded:
            alone = torch.arange(len(labels), device=self.device)
            return self._pass(inputs, labels, Owners.of(alone)[1])
        inputs, labels = self._met(inputs.to(self.device), labels.to(self.device))
        try:
            self._loss_of(self._hooks()(inputs), labels).backward()  # type: ignore[no-untyped-call]
            found = take_gradients(self.parameters)
            if any(len(rows) != len(labels) for rows in found):
                raise ValueError("a layer has not one input for each record, along the first axis")
            return [*found, *self._marks_of(labels)]
        except Exception:
            forget_pass(self.module)
            raise

    def _pass(self, inputs: torch.Tensor, labels: torch.Tensor, owners: Owners) -> list[Gradients]:
        """Return patients' mean gradients from a recorded pass."""
        inputs, labels = self._met(inputs.to(self.device), labels.to(self.device))
        record = RecordedPass(self.parameters, owners)
        if inputs.dim() == 4 and self.device.type == "cpu":
            # Pools and patches of maps are several times faster so.
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            with record:
                outputs = self.module(inputs)
            self._loss_of(outputs, labels).backward()  # type: ignore[no-untyped-call]
            return [*record.gradients(), *map(owners.means, self._marks_of(labels))]
        except Exception:
            for parameter in self.parameters:
                parameter.grad = None
            raise

    def marks_in(self, gradients: list[Gradients]) -> Marks | None:
        """Take patients' classes out of their mean gradients, where they follow these."""
        shares = self.shares
        if shares is None or not shares.marked:
            return None
        return shares.marks(written(gradients.pop()))

    def _loss_of(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        moved = self.shares.moved() if self.shares is not None else None
        return self._loss(outputs if moved is None else outputs + moved.to(self.device), labels)

    def _marks_of(self, labels: torch.Tensor) -> list[torch.Tensor]:
        shares = self.shares
        return [shares.marks_of(labels)] if shares is not None and shares.marked else []

    def _met(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return records as the model meets them, and their labels."""
        if self._adversary is None:
            return inputs, labels
        return self._adversary.meet(inputs, labels), labels

    def _hooks(self) -> nn.Module:
        """Return the model with Opacus' hooks."""
        if self._hooked is None:
            from clients.models.opacus_parts import hooked

            # Records need no gradients of their own, and nobody asks for those of a layer's inputs.
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            for layer in self.module.modules():
                if getattr(layer, "inplace", False):
                    # Hooks must see what was, not what became of it.
                    layer.inplace = False  # type: ignore[assignment]
            self._hooked = hooked(self.module)
        return self._hooked


def filled(
    inputs: torch.Tensor, labels: torch.Tensor, owners: Owners, records: int
) -> tuple[torch.Tensor, torch.Tensor, Owners]:
    """Repeat the first record, for patients after all others, up to so many records.

    Libraries round passes of another size in another way: were passes as large as their records are
    many, a patient who is taken out would move others who lie within rounding of a kink. And a
    GPU's libraries look for a way to compute each new size, longer than they compute it.
    """
    short = records - len(labels)
    if not short:
        return inputs, labels, owners
    more = torch.arange(owners.patients, owners.patients + short, device=owners.index.device)
    index, counts = torch.cat([owners.index, more]), (*owners.counts, *[1] * short)
    first, label = (one[:1].expand(short, *one.shape[1:]) for one in (inputs, labels))
    return torch.cat([inputs, first]), torch.cat([labels, label]), Owners(index, counts)


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
