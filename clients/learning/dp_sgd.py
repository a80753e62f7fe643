"""The private gradient of a batch: one clip per patient, summed, nothing else.

Abadi et al. (2016), Algorithm 1, with two differences that matter in medicine. The unit that is
clipped is the *patient*: all records of one patient are averaged before the clip, so that a patient
with thirty images weighs no more than one with a single image. And what is returned is the *sum*:
dividing by the realised batch size would release it.

Everything here is a pure function of tensors. Noise, sampling and sealing live elsewhere.

    >>> import torch
    >>> model = torch.nn.Linear(3, 2)
    >>> inputs, labels = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)
    >>> batch = Batch(inputs=inputs, labels=labels, patients=torch.tensor([7, 7, 8, 9]))
    >>> clipped_gradient_sum(PerSample(model), batch, l2_clip=1.0).patients
    3
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.private import Unreleased
from clients.learning.batch import Batch, joined, passes, take
from clients.learning.class_shares import PART, REST
from clients.learning.device import to_processor
from clients.learning.device_check import check_computes
from clients.learning.pass_gradients import Found, gradients_of, readable
from clients.learning.patient_gradients import Gradients, add_scaled, squares_of
from clients.learning.per_sample import PerSample
from clients.learning.shared_passes import may_share, share_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.learning.class_shares import Marks

#: The share by which the clip undercuts C, for the part of a norm that is float32.
MARGIN = 1e-5
_NOT_FINITE = "the gradient is not finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSum(Unreleased):
    """A sum of clipped gradients over patients, in gradient units.

    Attributes:
        total: float64 ``[d]``, trainable parameters in the model's order, flattened; where classes
            are counted, their counts after them.
        patients: how many patients were in the batch. Private: it never leaves the hospital.
        discarded: patients whose gradient was not finite, or whose records could not be read or
            computed; they count as zero. Private as well.
        reasons: a sentence for each kind of failure, for the hospital's own log alone.
    """

    total: NDArray[np.float64]
    patients: int
    discarded: int
    reasons: tuple[str, ...] = field(default=(), repr=False)


def clipped_gradient_sum(
    model: PerSample, batch: Batch, *, l2_clip: float, chunk_records: int = 0
) -> GradientSum:
    """Sum the clipped per-patient gradients of a batch.

    Formal guarantee: adding or removing all records of one patient changes ``total`` by at most
    ``l2_clip`` in Euclidean norm, whatever the magnitude of the gradients, and whether or not that
    patient's records can be read and computed. Scaling and adding are done in float64; the clip
    undercuts C by `MARGIN`, more than the float32 part of a norm can be off. Of factors
    (`clients.learning.ghost_norms`) a norm is off by 2^-21 of itself at the most, and a patient's
    part of the sum by 2^-32 of C. On a processor each pass has one size, so that what others'
    gradients are rounded to does not turn on who else is there; a GPU's last pass may be smaller.

    A record whose inputs are not finite could not be read, and is left out. A chunk that raises is
    done again by halves, and a patient that raises counts as zero. The batch is never given up:
    removing that patient would bring back all others, a change of up to |B|*C.

    Args:
        model: the model at the current round.
        batch: records of the sampled patients; may be empty.
        l2_clip: C, the bound on one patient's gradient, in gradient units; finite.
        chunk_records: records whose gradients are held in memory at once; patients are never split
            up to ``pass_gradients.PATIENT_RECORDS``. 0: as many as suit the device.

    Returns:
        The sum, float64 ``[d]``; zeros for an empty batch.

    Raises:
        ValueError: if ``l2_clip`` is not positive and finite.
        DeviceError: no patient could be computed, nor can made-up records be.
    """
    return clipped_gradient_sums(model, [batch], l2_clip=l2_clip, chunk_records=chunk_records)[0]


def clipped_gradient_sums(
    model: PerSample, batches: Sequence[Batch], *, l2_clip: float, chunk_records: int = 0
) -> list[GradientSum]:
    """Sum the clipped per-patient gradients of several hospitals' batches, a sum for each.

    Records of several hospitals go through the model in one pass, at the same weights; what a
    patient contributes is added to their own hospital's sum and to no other. Arguments, guarantee
    and errors are those of `clipped_gradient_sum`, for each sum by itself.
    """
    if not 0 < l2_clip < math.inf:
        raise ValueError(f"l2_clip must be positive and finite, found {l2_clip}")
    model.refresh()
    for batch in batches[:1]:
        model.choose_pass(tuple(batch.inputs.shape[1:]))
    sums = _Sums(model, batches, l2_clip, chunk_records or model.chunk_records)
    count = len(sums.passes)
    if len(batches) == 1 and may_share(model, count):
        share_passes(model, sums, count)
    else:
        for number in range(count):
            sums.add_here(number)
    return sums.closed()


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of a hospital's patients."""

    patients: int
    raised: int = 0
    unread: int = 0
    discarded: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class _Sums:
    """Hospitals' sums while they are added up, float64 ``[hospitals, d]``."""

    def __init__(
        self, model: PerSample, batches: Sequence[Batch], l2_clip: float, at_once: int
    ) -> None:
        self._model, self._l2_clip = model, l2_clip
        self._full = at_once if model.device.type == "cpu" else 0
        self._shapes = [tuple(one.inputs.shape[1:]) for one in batches]
        self._tallies = [_Tally(patients=_distinct(one.patients)) for one in batches]
        #: Without the records that could not be read, where that is known already.
        self.batches = [one if one.late else readable(one, model.device) for one in batches]
        for tally, given, batch in zip(self._tallies, batches, self.batches, strict=True):
            if batch is not given:
                tally.unread = tally.patients - _distinct(batch.patients)
        #: What goes through the model together: hospitals' numbers and rows of each.
        self.passes = list(passes([one.patients for one in self.batches], at_once))

    @cached_property
    def _totals(self) -> torch.Tensor:
        """Made when the first gradients are there, and the pass has given its memory back."""
        size = (len(self._tallies), self._model.dimensions)
        return torch.zeros(size, dtype=torch.float64, device=self._model.device)

    def add_here(self, number: int) -> None:
        """Compute a pass and add what it found."""
        pieces = self.passes[number]
        chunk, counts = joined([take(self.batches[whose], rows) for whose, rows in pieces])
        found = gradients_of(self._model, chunk, max(self._full, len(chunk)))
        self._add([whose for whose, _ in pieces], counts, found)

    def add_made(self, made: NDArray[np.float64]) -> None:
        """Add the sum of a pass that a copy of this process has made."""
        self._totals[0] += torch.from_numpy(made)

    def make(self, number: int, out: NDArray[np.float64]) -> bool:
        """In a copy of this process: write a pass's sum to zeros, if that is all there is to it."""
        self._totals, only = torch.from_numpy(out)[None], _Tally(patients=0)
        self._tallies = [only]
        self.add_here(number)
        return not (only.raised or only.unread or only.discarded)

    def _add(self, numbers: list[int], counts: list[int], found: Found) -> None:
        """Add the clipped gradients of a pass.

        Args:
            numbers: of its hospitals, ascending.
            counts: patients of each in the pass.
            found: their gradients.
        """
        ends, rows = np.cumsum(counts), [len(found.members)]
        if len(numbers) > 1:
            rows = np.diff(np.searchsorted(found.members, ends), prepend=0).tolist()
        for number, count, kept in zip(numbers, counts, rows, strict=True):
            self._tallies[number].unread += count - kept
        for patient, error in found.errors.items():
            tally = self._tallies[numbers[int(np.searchsorted(ends, patient, side="right"))]]
            tally.raised += 1
            tally.unread -= 1
            _count(tally.reasons, error)
        if not found.gradients:
            return
        marks = self._model.marks_in(found.gradients)
        if len(numbers) == 1:
            only, total = self._tallies[numbers[0]], self._totals[numbers[0]]
            only.discarded += _add_clipped(
                total, found.gradients, self._l2_clip, only.reasons, marks
            )
            return
        at = torch.repeat_interleave(torch.tensor(numbers), torch.tensor(rows))
        wrong = _add_joined(
            self._totals, found.gradients, at.to(self._model.device), self._l2_clip, marks
        )
        for number in numbers if wrong else ():
            tally = self._tallies[number]
            tally.discarded += wrong[number]
            tally.reasons[_NOT_FINITE] = tally.reasons.get(_NOT_FINITE, 0) + wrong[number]

    def closed(self) -> list[GradientSum]:
        """Return the sums.

        Raises:
            DeviceError: no patient of one could be computed, nor can made-up records be.
        """
        totals = to_processor(self._totals).numpy()
        for tally, shape in zip(self._tallies, self._shapes, strict=True):
            if tally.raised and tally.raised == tally.patients - tally.discarded - tally.unread:
                check_computes(self._model, shape, classes=2)
            tally.reasons["no record could be read"] = tally.unread
        return [
            GradientSum(
                total=np.asarray(total),
                patients=one.patients,
                discarded=one.discarded + one.raised + one.unread,
                reasons=tuple(f"{n} patients: {why}" for why, n in one.reasons.items() if n),
            )
            for total, one in zip(totals, self._tallies, strict=True)
        ]


def _count(reasons: dict[str, int], error: Exception) -> None:
    """Count a failure by its kind; one text is kept of each."""
    kind = f"{type(error).__name__}: "
    known = next((reason for reason in reasons if reason.startswith(kind)), f"{kind}{error}")
    reasons[known] = reasons.get(known, 0) + 1


def _add_clipped(
    total: torch.Tensor,
    gradients: list[Gradients],
    l2_clip: float,
    reasons: dict[str, int],
    marks: Marks | None = None,
) -> int:
    """Add patients' clipped gradients to a total; return how many are not finite and left out.

    Where classes are counted, each part has a bound of its own; both together have C.
    """
    scaling = _scaling(gradients, l2_clip, marks)
    offset = add_scaled(total, gradients, scaling.scale, scaling.apart)
    if marks is not None and marks.counted:
        each = PART * l2_clip * (1.0 - MARGIN) * scaling.finite.double()
        total[offset:] += each @ marks.rows.double()
    wrong = int((~scaling.finite).sum())
    if wrong:
        reasons[_NOT_FINITE] = reasons.get(_NOT_FINITE, 0) + wrong
    return wrong


def _add_joined(
    totals: torch.Tensor,
    gradients: list[Gradients],
    hospitals: torch.Tensor,
    l2_clip: float,
    marks: Marks | None,
) -> list[int]:
    """Add patients' clipped gradients to their hospitals' totals ``[hospitals, d]``.

    One product for each parameter adds up all hospitals: a device waits longer for a call than for
    what is in it.

    Args:
        totals: float64.
        gradients: of the patients, for each parameter.
        hospitals: whose each patient is, int64 ``[m]``.
        l2_clip: C.
        marks: the patients' classes, where they are needed.

    Returns:
        How many of each hospital are not finite and left out; empty where all are finite.
    """
    scaling = _scaling(gradients, l2_clip, marks)
    finite = scaling.finite
    whose = hospitals[None] == torch.arange(len(totals), device=totals.device)[:, None]
    spread = torch.where(whose, scaling.scale, 0.0)
    offset = add_scaled(totals, gradients, spread, scaling.apart)
    if marks is not None and marks.counted:
        each = PART * l2_clip * (1.0 - MARGIN) * torch.where(whose, finite.double(), 0.0)
        totals[:, offset:] += each @ marks.rows.double()
    if bool(finite.all()):
        return []
    return torch.bincount(hospitals[~finite], minlength=len(totals)).tolist()


@dataclass(frozen=True, slots=True)
class _Scaling:
    """What patients' gradients are multiplied by.

    Attributes:
        scale, finite: float64 and bool ``[m]``; 0 where a gradient is not finite.
        apart: numbers of patients whose gradients have to be written out.
    """

    scale: torch.Tensor
    finite: torch.Tensor
    apart: torch.Tensor


def _scaling(gradients: list[Gradients], l2_clip: float, marks: Marks | None) -> _Scaling:
    squares, apart = squares_of(gradients)
    counted = marks is not None and marks.counted
    scale = clip_factors(squares, REST * l2_clip if counted else l2_clip)
    if marks is not None and marks.weights is not None:
        scale = scale * (marks.rows.double() @ marks.weights)
    return _Scaling(scale, torch.isfinite(squares), apart)


def _distinct(patients: torch.Tensor) -> int:
    return len(set(patients.tolist()))


def clip_factors(squared_norms: torch.Tensor, l2_clip: float) -> torch.Tensor:
    """Return ``min(1, C/norm)`` for each row, 0 where the norm is not finite; float64 ``[n]``."""
    norms = squared_norms.double().sqrt()
    bound = l2_clip * (1.0 - MARGIN)
    return torch.where(torch.isfinite(norms), bound / norms.clamp_min(bound), 0.0)
