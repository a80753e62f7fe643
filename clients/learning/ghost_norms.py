"""Patients' gradients of a weight as factors that are never multiplied out, and their norms.

The gradient of a weight is a sum of outer products over the positions t where it was used (the
pixels of a convolution's output; one for a linear layer): sum of b_t a_t', with b_t the gradient of
the loss at the output there and a_t the inputs that the weight met. A clip needs its norm, and a
sum of clipped gradients is one weighted product of all patients' factors; neither needs it written
out. The norm is that of Li et al. (2022), "Large language models can be strong differentially
private learners", section 4,

    |sum_t b_t a_t'|^2 = sum over t, u of (b_t . b_u) (a_t . a_u),

and the one product after a single backward pass is Bu et al. (2023), "Differentially private
optimization on large model at small cost", section 3. For a patient of several records t runs over
the positions of all of them, which is the norm of their sum, cross terms included.

Formal guarantee: factors are float32 and what is computed from them is float64, where products of
two are exact and no square of a square leaves the range. With K = sum_t |a_t| |b_t|, a squared norm
over n terms is off by n * 2^-53 * K^2 at the most (Cauchy and Schwarz, term by term), which is
returned beside it, and a patient's part of a sum by n * 2^-53 * K. In the nets of the field K is
below twice the norm. A patient whose K is more than 64 times the norm is told apart, because terms
cancel: their gradient has to be written out, and in `rows` it is a function of their records alone,
whose norm is taken itself. For all others a norm is off by 2^-21 of itself and a part of the sum by
2^-32 of the clip, which leaves room in its margin of 1e-5 for 10,000 patients in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from clients.learning.windows import Window

#: What a float64 operation is off by, relative to its result.
UNIT = 2.0**-53
#: The least that a squared norm is said to be off by, over K^2: where that has to be within 2^-20
#: of it, K is within 2^6 norms.
LEAST_ERROR = 2.0**-32
#: Multiplications in float32 that take as long as writing a value of a row and reading it twice.
VALUE_COST = 100
#: A convolution's own backward pass, called for each patient, takes half as long as a product with
#: copies of its windows where a record's maps have more values: torch gives one record's to oneDNN
#: from there on. (A GPU would wait for so many calls.)
OWN_PASS = 20480
#: Multiplications that products of pixels have to spare a record before they are made instead.
PIXELS_COST = 2**20
#: Factors of a pass in float64 are kept from the norms to the sum where they take no more bytes.
KEPT_BYTES = 2**20


@dataclass(frozen=True)
class Owners:
    """Whose the records of a pass are; those of one patient follow one another.

    Attributes:
        index: int64 ``[records]``, the number of each record's patient, from 0.
        counts: how many records each patient has.
    """

    index: torch.Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(cls, patients: torch.Tensor) -> tuple[list[int], Owners]:
        """Return the patients of records that lie patient by patient, and whose each record is."""
        members, index, counts = torch.unique_consecutive(
            patients, return_inverse=True, return_counts=True
        )
        return members.tolist(), cls(index, tuple(counts.tolist()))

    def to(self, device: torch.device) -> Owners:
        """Return the same on a device."""
        return self if device == self.index.device else Owners(self.index.to(device), self.counts)

    @cached_property
    def by_count(self) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """For each k: k, patients with k records int64 ``[m]``, and these ``[m, k]``."""
        device = self.index.device
        counts = torch.tensor(self.counts, device=device)
        starts, found = counts.cumsum(0) - counts, []
        for count in sorted(set(self.counts)):
            patients = torch.nonzero(counts == count).flatten()
            records = starts[patients, None] + torch.arange(count, device=device)
            found.append((count, patients, records))
        return found

    @property
    def patients(self) -> int:
        """How many there are."""
        return len(self.counts)

    def part(self, patients: slice) -> tuple[Owners, slice]:
        """Return the owners among patients who follow one another, and where their records are.

        All parameters of a pass share what is returned.
        """
        start, stop, _ = patients.indices(len(self.counts))
        if (start, stop) not in self._parts:
            before = sum(self.counts[:start])
            records = slice(before, before + sum(self.counts[start:stop]))
            owners = Owners(self.index[records] - start, self.counts[start:stop])
            self._parts[start, stop] = owners, records
        return self._parts[start, stop]

    @cached_property
    def _parts(self) -> dict[tuple[int, int], tuple[Owners, slice]]:
        return {}

    @cached_property
    def shares(self) -> torch.Tensor:
        """One over how many records each patient has, float64 ``[patients]``."""
        return 1.0 / torch.tensor(self.counts, dtype=torch.float64, device=self.index.device)

    def means(self, rows: torch.Tensor) -> torch.Tensor:
        """Average the records' rows of each patient: ``[records, ...] -> [patients, ...]``."""
        if len(self.counts) == len(self.index):
            return rows
        counts = torch.tensor(self.counts, dtype=rows.dtype, device=rows.device)
        summed = rows.new_zeros((len(self.counts), *rows.shape[1:]))
        summed.index_add_(0, self.index, rows)
        return summed / counts.reshape(-1, *([1] * (rows.dim() - 1)))


def ordered(products: torch.Tensor, places: int) -> torch.Tensor:
    """Return ``[..., places * inputs]`` in the order of a weight: ``[..., inputs, places]``."""
    return products.reshape(*products.shape[:-1], places, -1).mT


@dataclass(frozen=True, slots=True)
class Rows:
    """Gradients of a convolution's weight, written out, but in another order than the weight's.

    Attributes:
        values: float32 ``[patients, outputs, places * inputs]``.
        places: of the kernel.
    """

    values: torch.Tensor
    places: int

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, patients: slice) -> Rows:
        return Rows(self.values[patients], self.places)

    def written(self, patients: torch.Tensor) -> torch.Tensor:
        """Return some patients' gradients in the weight's order."""
        return ordered(self.values[patients], self.places).flatten(1)


@dataclass(frozen=True)
class Factors:
    """Gradients of a weight as the two factors of their sum of products.

    Attributes:
        at_outputs: float32 ``[records, positions, outputs]``, the loss's gradient there.
        at_inputs: float32 ``[records, positions, inputs]``, or, of a convolution, its maps.
        window: of a convolution.
        owners: whose the records are.
    """

    at_outputs: torch.Tensor
    at_inputs: torch.Tensor
    window: Window | None
    owners: Owners

    def __len__(self) -> int:
        return self.owners.patients

    def __getitem__(self, patients: slice) -> Factors:
        owners, records = self.owners.part(patients)
        return Factors(self.at_outputs[records], self.at_inputs[records], self.window, owners)

    @property
    def values(self) -> int:
        """How many values each patient's gradient has."""
        return self.at_outputs.shape[2] * self._inputs

    @property
    def _inputs(self) -> int:
        """How many values an output was made of."""
        if self.window is None:
            return self.at_inputs.shape[2]
        return self.window.places * self.at_inputs.shape[1]

    def squares(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patients' squared norms, and what they are off by at the most; float64."""
        found = [self._squares(records) for _, _, records in self.owners.by_count]
        if len(found) == 1:
            return found[0]
        both = self.at_outputs.new_empty((2, self.owners.patients), dtype=torch.float64)
        for pair, (_, patients, _) in zip(found, self.owners.by_count, strict=True):
            both[:, patients] = torch.stack(pair)
        return both[0], both[1]

    def _squares(self, records: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same of patients with k records each: int64 ``[m, k]``, their numbers.

        In whichever way costs less: the sums of products written out, or each factor times itself.
        """
        count, window = records.shape[1], self._window_of_pixels
        positions, *sides = count * self.at_outputs.shape[1], self.at_outputs.shape[2], self._inputs
        across = positions**2 * sides[1]
        if window is not None:
            across = (count * math.prod(self.at_inputs.shape[2:])) ** 2 * self.at_inputs.shape[1]
        if count > 1 and positions**2 * sides[0] + across > positions * math.prod(sides):
            outputs, inputs = self._of(records)
            each = [(b.mT @ a).square().sum() for b, a in zip(outputs, inputs, strict=True)]
            lengths = outputs.square().sum(dim=2) * inputs.square().sum(dim=2)
            return _with_errors(torch.stack(each), lengths, sides, count)
        if window is not None:
            outputs = self.at_outputs[records].double().flatten(1, 2)
            met = window.gram(self.at_inputs[records].double())
        else:
            outputs, inputs = self._of(records)
            met = inputs @ inputs.mT
        products = (outputs @ outputs.mT) * met
        lengths = products.diagonal(dim1=1, dim2=2)
        return _with_errors(products.sum(dim=(1, 2)), lengths, sides, count)

    @property
    def _window_of_pixels(self) -> Window | None:
        """The window, if products of pixels are far fewer than of patches: shapes alone decide."""
        if self.window is None:
            return None
        pixels, positions = math.prod(self.at_inputs.shape[2:]), self.at_outputs.shape[1]
        spared = self.window.places * positions**2 - pixels**2
        return self.window if spared * self.at_inputs.shape[1] > PIXELS_COST else None

    def written(self, patients: torch.Tensor) -> torch.Tensor:
        """Return some patients' gradients, written out in float64 and in the weight's order."""
        found: dict[int, torch.Tensor] = {}
        for count, members, records in self.owners.by_count:
            chosen = torch.isin(members, patients)
            if bool(chosen.any()):
                outputs, inputs = self._of(records[chosen])
                means = self._ordered(outputs.mT @ inputs).flatten(1) / count
                found |= zip(members[chosen].tolist(), means, strict=True)
        return torch.stack([found[patient] for patient in patients.tolist()])

    def add_to(
        self, total: torch.Tensor, scale: torch.Tensor, records: torch.Tensor | None
    ) -> None:
        """Add all gradients to float64 ``[values]``, each scaled, in one product.

        Args:
            total: what they are added to.
            scale: float64 ``[patients]``.
            records: numbers of the records whose patients' scale is not 0; None: all.
        """
        weights = (scale * self.owners.shares)[self.owners.index]
        if records is not None:
            # Zero times what is no number would be none.
            weights = weights[records]
        outputs, inputs = self._exact(records)
        left = (outputs * weights[:, None, None]).flatten(0, 1)
        # A pass's own sum first, whatever it is added to: other processes make it by itself.
        summed = self._ordered(left.mT @ inputs.flatten(0, 1))
        total.view(summed.shape).add_(summed)

    @cached_property
    def _kept(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """All records' factors in float64, where they are small: both norms and sum want them."""
        records, positions, outputs = self.at_outputs.shape
        if 8 * records * positions * (outputs + self._inputs) > KEPT_BYTES:
            return None
        return _doubled(self.at_outputs, self.at_inputs, self.window)

    def _exact(self, records: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some or all records' factors, float64 ``[n, positions, outputs or inputs]``."""
        made = self._kept
        outputs, inputs = made or (self.at_outputs, self.at_inputs)
        if records is not None:
            outputs, inputs = outputs[records], inputs[records]
        return (outputs, inputs) if made else _doubled(outputs, inputs, self.window)

    def _ordered(self, products: torch.Tensor) -> torch.Tensor:
        return ordered(products, 1 if self.window is None else self.window.places)

    def _of(self, records: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both factors of patients with k records each, ``[m, k * positions, _]``."""
        all_of_them = records.numel() == len(self.at_outputs)
        outputs, inputs = self._exact(None if all_of_them else records.flatten())
        return (
            outputs.reshape(len(records), -1, outputs.shape[-1]),
            inputs.reshape(len(records), -1, inputs.shape[-1]),
        )


def _doubled(
    outputs: torch.Tensor, inputs: torch.Tensor, window: Window | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors as float64, a convolution's inputs as what each output was made of."""
    exact = inputs.double() if window is None else window.patches(inputs, torch.float64)
    return outputs.double(), exact


def _with_errors(
    squares: torch.Tensor, lengths: torch.Tensor, sides: Sequence[int], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared norms of patients' means, and what they are off by at the most.

    Args:
        squares: float64 ``[m]``, of sums over records.
        lengths: float64 ``[m, positions]``, squared norms of each position's product.
        sides: values of both factors at a position.
        count: records of each patient.
    """
    off = max((sum(sides) + lengths.shape[1] ** 2 + 8) * UNIT, LEAST_ERROR)
    return squares / count**2, lengths.sqrt().sum(dim=1).square() * (off / count**2)


def weight_gradients(
    at_outputs: torch.Tensor,
    at_inputs: torch.Tensor,
    window: Window | None,
    owners: Owners,
    own_pass: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor | Rows | Factors:
    """Return patients' gradients of a weight as what costs less for a record: factors, or rows.

    The layer's shapes alone decide. Rows are float32, and overflow where factors do not: if records
    of others decided, one patient could take the gradients of others out of a sum.

    Args:
        at_outputs: float32 ``[records, positions, outputs]``, the loss's gradient there.
        at_inputs: float32 ``[records, positions, inputs]``, or, of a convolution, its maps.
        window: of a convolution.
        owners: whose the records are.
        own_pass: makes rows ``[patients, values]`` otherwise, as the layer does for each patient.
    """
    factors = Factors(at_outputs, at_inputs, window, owners)
    positions, outputs = at_outputs.shape[1:]
    inputs = factors.values // outputs
    norms, product = 2 * (inputs + outputs) * positions**2, factors.values * positions
    if norms + product <= VALUE_COST * factors.values:
        return factors
    large = at_inputs.device.type == "cpu" and at_inputs[0].numel() > OWN_PASS
    if own_pass is not None and large:
        return own_pass()
    seen = at_inputs if window is None else window.patches(at_inputs, at_inputs.dtype)
    # Products are up to twice as fast with the narrower of the two first.
    rows = (seen.mT @ at_outputs).mT if inputs < outputs else at_outputs.mT @ seen
    rows = owners.means(rows)
    return rows.flatten(1) if window is None or window.places == 1 else Rows(rows, window.places)
