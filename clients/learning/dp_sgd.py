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
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from accounting.private import Unreleased
from clients.learning.batch import CHUNK_RECORDS, Batch, chunks_of_patients, joined, passes, take
from clients.learning.class_shares import PART, REST
from clients.learning.device_check import check_computes
from clients.learning.late_rows import LateRows
from clients.learning.per_sample import PerSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.learning.class_shares import Marks

#: Records of one patient whose gradients are held at once; those of a patient with more are added
#: up piece by piece, so that nobody's number of records decides on how much memory is needed.
PATIENT_RECORDS = 1024
#: Values whose squares are added in float32, and the share by which the clip undercuts C for it.
NORM_BLOCK = 128
MARGIN = 1e-5
#: A squared norm below this for each of its terms is taken anew in float64: a square that float32
#: cannot hold is off by up to its least normal number, 2^-126, here 2^-20 of the sum at the most.
DOUBTFUL = 2.0**-106


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
    undercuts C by `MARGIN`, more than the float32 part of a norm can be off.

    A record whose inputs are not finite could not be read, and is left out. A chunk that raises is
    done again patient by patient, and a patient that raises counts as zero. The batch is never
    given up: removing that patient would bring back everybody else's gradients, a change of up to
    |B|*C where the noise covers C.

    Args:
        model: the model at the current round.
        batch: records of the sampled patients; may be empty.
        l2_clip: C, the bound on one patient's gradient, in gradient units; finite.
        chunk_records: records whose gradients are held in memory at once; patients are never split
            up to ``PATIENT_RECORDS``. 0: as many as suit the device.

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
    sums = [_Sum(model, batch) for batch in batches]
    at_once = chunk_records or model.chunk_records
    for pieces in passes([one.batch.patients for one in sums], at_once):
        chunk, counts = joined([take(sums[number].batch, rows) for number, rows in pieces])
        found, first = _patients_gradients(model, chunk), 0
        for (number, _), count in zip(pieces, counts, strict=True):
            sums[number].add(found.among(first, count), l2_clip)
            first += count
    return [one.closed() for one in sums]


class _Sum:
    """A hospital's sum while it is added up, and what became of its patients."""

    def __init__(self, model: PerSample, batch: Batch) -> None:
        self._model, self._shape = model, tuple(batch.inputs.shape[1:])
        self._total = torch.zeros(model.dimensions, dtype=torch.float64, device=model.device)
        self._patients, self._raised, self._discarded = _distinct(batch.patients), 0, 0
        self._reasons: dict[str, int] = {}
        self.batch = _readable(batch) if isinstance(batch.inputs, torch.Tensor) else batch
        self._unread = self._patients - _distinct(self.batch.patients)

    def add(self, found: _Found, l2_clip: float) -> None:
        """Add the clipped gradients of some patients."""
        self._raised += len(found.errors)
        self._unread += found.missing
        for error in found.errors.values():
            _count(self._reasons, error)
        if found.gradients:
            marks = self._model.marks_in(found.gradients)
            self._discarded += _add_clipped(
                self._total, found.gradients, l2_clip, self._reasons, marks
            )

    def closed(self) -> GradientSum:
        """Return the sum.

        Raises:
            DeviceError: no patient could be computed, nor can made-up records be.
        """
        if self._raised and self._raised == self._patients - self._discarded - self._unread:
            check_computes(self._model, self._shape, classes=2)
        reasons = self._reasons | {"no record could be read": self._unread}
        return GradientSum(
            total=np.asarray(self._total.cpu().numpy()),
            patients=self._patients,
            discarded=self._discarded + self._raised + self._unread,
            reasons=tuple(f"{count} patients: {why}" for why, count in reasons.items() if count),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found(Unreleased):
    """What a pass found of its patients, by their numbers from 0.

    Attributes:
        gradients: mean gradients, ``[m, ...]`` for each parameter; empty where there are none.
        members: whose they are, ascending.
        errors: what was raised for whom.
        missing: how many have no record that could be read.
    """

    gradients: list[torch.Tensor]
    members: list[int]
    errors: dict[int, Exception]
    missing: int

    def among(self, first: int, count: int) -> _Found:
        """Return what was found of so many patients from a number on."""
        start, stop = (bisect_left(self.members, end) for end in (first, first + count))
        gradients = [one[start:stop] for one in self.gradients] if stop > start else []
        errors = {n: one for n, one in self.errors.items() if first <= n < first + count}
        return _Found(
            gradients=gradients,
            members=self.members[start:stop],
            errors=errors,
            missing=count - (stop - start) - len(errors),
        )


def _readable(batch: Batch) -> Batch:
    """Leave out records whose inputs are not finite; they are made first."""
    batch = batch.made()
    inputs = torch.as_tensor(batch.inputs)
    if not len(batch) or _all_finite(inputs):
        return batch
    readable = torch.isfinite(inputs).flatten(1).all(dim=1)
    return take(batch, torch.nonzero(readable).flatten()) if not bool(readable.all()) else batch


def _patients_gradients(model: PerSample, chunk: Batch) -> _Found:
    """Compute patients' mean gradients; where that raises, each patient's by themselves."""
    try:
        gradients, members = _mean_gradients(model, chunk)
        return _Found(gradients=gradients, members=members, errors={}, missing=0)
    except Exception as error:
        alone = list(chunks_of_patients(chunk.patients, 1))
        if len(alone) == 1:
            number = int(chunk.patients[0])
            return _Found(gradients=[], members=[], errors={number: error}, missing=0)
    found, members, errors = [], [], dict[int, Exception]()
    for rows in alone:
        try:
            gradients, member = _mean_gradients(model, take(chunk, rows))
            members += member
            if gradients:
                found.append(gradients)
        except Exception as error:
            errors[int(chunk.patients[rows[0]])] = error
    gradients = [torch.cat(pieces) for pieces in zip(*found, strict=True)]
    return _Found(gradients=gradients, members=members, errors=errors, missing=0)


def _count(reasons: dict[str, int], error: Exception) -> None:
    """Count a failure by its kind; one text is kept of each."""
    kind = f"{type(error).__name__}: "
    known = next((reason for reason in reasons if reason.startswith(kind)), f"{kind}{error}")
    reasons[known] = reasons.get(known, 0) + 1


def _mean_gradients(model: PerSample, chunk: Batch) -> tuple[list[torch.Tensor], list[int]]:
    """Return the mean of each patient's gradients, ``[patients, *parameter.shape]``, and whose.

    A chunk holds its records patient by patient.
    """
    members, owner = torch.unique_consecutive(chunk.patients, return_inverse=True)
    if len(members) == 1 and len(chunk) > PATIENT_RECORDS:
        gradients = _mean_of_many(model, chunk)
        return gradients, members.tolist() if gradients else []
    if isinstance(chunk.inputs, LateRows):
        chunk = _readable(chunk)
        members, owner = torch.unique_consecutive(chunk.patients, return_inverse=True)
        if not len(chunk):
            return [], []
    gradients = model.gradients(torch.as_tensor(chunk.inputs), chunk.labels)
    if len(members) != len(chunk):
        owner = owner.to(model.device)
        gradients = [_mean_by_patient(g, owner, len(members)) for g in gradients]
    return gradients, members.tolist()


def _mean_of_many(model: PerSample, records: Batch) -> list[torch.Tensor]:
    """Return the mean gradient ``[1, ...]`` of a patient with more records than fit at once."""
    summed: list[torch.Tensor] = []
    count = 0
    for rows in torch.split(torch.arange(len(records)), CHUNK_RECORDS):
        piece = _readable(take(records, rows))
        count += len(piece)
        if len(piece):
            found = model.gradients(torch.as_tensor(piece.inputs), piece.labels)
            parts = [g.sum(dim=0, keepdim=True) for g in found]
            summed = [a + b for a, b in zip(summed, parts, strict=True)] if summed else parts
    return [gradient / count for gradient in summed]


def _add_clipped(
    total: torch.Tensor,
    gradients: list[torch.Tensor],
    l2_clip: float,
    reasons: dict[str, int],
    marks: Marks | None = None,
) -> int:
    """Add patients' clipped gradients to a total; return how many are not finite and left out.

    Where classes are counted, each part has a bound of its own; both together have C.
    """
    squared_norms = _squared_norms(gradients)
    counted = marks is not None and marks.counted
    bound = REST * l2_clip if counted else l2_clip
    scale, finite = clip_factors(squared_norms, bound), torch.isfinite(squared_norms)
    if marks is not None and marks.weights is not None:
        scale = scale * (marks.rows.double() @ marks.weights)
    offset, all_finite = 0, _all_finite(squared_norms)
    for gradient in gradients:
        flat = gradient.reshape(len(scale), -1)
        if not all_finite:
            flat = torch.where(finite[:, None], flat, 0.0)
        size = flat.shape[1]
        total[offset : offset + size] += scale @ flat.double()
        offset += size
    if marks is not None and marks.counted:
        each = PART * l2_clip * (1.0 - MARGIN) * finite.double()
        total[offset:] += each @ marks.rows.double()
    wrong = 0 if all_finite else int((~finite).sum())
    if wrong:
        reason = "the gradient is not finite"
        reasons[reason] = reasons.get(reason, 0) + wrong
    return wrong


def _distinct(patients: torch.Tensor) -> int:
    return len(np.unique(patients.numpy()))


def _all_finite(values: torch.Tensor) -> bool:
    """Whether all values are finite; may say no where their sum overflows."""
    return math.isfinite(float(values.sum()))


def clip_factors(squared_norms: torch.Tensor, l2_clip: float) -> torch.Tensor:
    """Return ``min(1, C/norm)`` for each row, 0 where the norm is not finite; float64 ``[n]``."""
    norms = squared_norms.double().sqrt()
    bound = l2_clip * (1.0 - MARGIN)
    return torch.where(torch.isfinite(norms), bound / norms.clamp_min(bound), 0.0)


def _squared_norms(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return each patient's squared norm over all parameters, float64 ``[n]``."""
    flat = [gradient.reshape(len(gradient), -1) for gradient in gradients]
    squared = torch.stack([_fast_squares(rows) for rows in flat]).sum(dim=0)
    least = DOUBTFUL * sum(rows.shape[1] for rows in flat)
    low, high = torch.aminmax(squared)
    if not (least <= float(low) and float(high) < math.inf):  # also where one is no number
        doubtful = torch.nonzero(~torch.isfinite(squared) | (squared < least)).flatten()
        exact = [rows[doubtful].double().square().sum(dim=1) for rows in flat]
        squared[doubtful] = torch.stack(exact).sum(dim=0)
    return squared


def _fast_squares(flat: torch.Tensor) -> torch.Tensor:
    """Return each row's squared norm, float64 ``[n]``, where squares stay in float32's range.

    Blocks are short enough for float32 (n terms are off by n * 2^-24 of their sum at the most, half
    of that for a norm); the blocks are added in float64. All in float64 takes four times as long.
    """
    whole = flat.shape[1] // NORM_BLOCK * NORM_BLOCK
    squared: torch.Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square()
    if whole:
        blocks = flat[:, :whole].reshape(len(flat), -1, NORM_BLOCK)
        squared = torch.linalg.vector_norm(blocks, dim=2).double().square().sum(dim=1) + squared
    return squared


def _mean_by_patient(gradient: torch.Tensor, owner: torch.Tensor, patients: int) -> torch.Tensor:
    """Average the records' gradients of each patient: ``[n, ...] -> [patients, ...]``."""
    counts = torch.bincount(owner, minlength=patients).to(gradient.dtype)
    summed = torch.zeros((patients, *gradient.shape[1:]), dtype=gradient.dtype)
    summed.index_add_(0, owner, gradient)
    return summed / counts.reshape(-1, *([1] * (gradient.dim() - 1)))
