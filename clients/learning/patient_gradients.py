"""Patients' gradients, one of each parameter: their norms, and their scaled sums.

Either they are written out, a row for each patient, or they are factors of `ghost_norms`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clients.learning.ghost_norms import Factors
from clients.learning.squared_norms import squared_norms

#: The most that factors may leave a squared norm off by, relative to it.
TOLERANCE = 2.0**-20
#: Values of rows that are turned into float64 at once: they stay in a processor's cache.
BLOCK_VALUES = 2**17

#: Patients' mean gradients of a parameter: written out, float32 ``[patients, ...]``, or factors.
Gradients = torch.Tensor | Factors


def size_of(gradients: Gradients) -> int:
    """Return how many values each patient's gradient has."""
    if isinstance(gradients, Factors):
        return gradients.at_outputs.shape[2] * gradients.at_inputs.shape[2]
    return gradients.shape[1:].numel()


def written(gradients: Gradients, patients: torch.Tensor | None = None) -> torch.Tensor:
    """Return all or some patients' gradients, written out: ``[patients, values]``."""
    if patients is None:
        patients = torch.arange(len(gradients), device=_held(gradients)[0].device)
    if isinstance(gradients, Factors):
        return gradients.rows(patients)
    return gradients[patients].reshape(len(patients), -1)


def bytes_of(gradients: Gradients) -> int:
    """Return how much memory gradients take."""
    return sum(one.nbytes for one in _held(gradients))


def _held(gradients: Gradients) -> tuple[torch.Tensor, ...]:
    if isinstance(gradients, Factors):
        return gradients.at_outputs, gradients.at_inputs
    return (gradients,)


def add_scaled(
    totals: torch.Tensor,
    gradients: Gradients,
    scale: torch.Tensor,
    kept: torch.Tensor | None,
) -> None:
    """Add patients' scaled gradients to one total, or to several at once.

    Args:
        totals: float64 ``[values]``, or ``[n, values]``.
        gradients: of the patients.
        scale: float64 ``[patients]``, or ``[n, patients]``.
        kept: numbers of the patients who add something; None: all do. Zero times what is no number
            would be none.
    """
    if isinstance(gradients, Factors):
        for total, each in (
            zip(totals, scale, strict=True) if scale.dim() > 1 else [(totals, scale)]
        ):
            gradients.add_to(total, each)
        return
    rows = gradients.reshape(len(gradients), -1)
    if kept is not None:
        rows, scale = rows[kept], scale[..., kept]
    step = rows.shape[1]
    if rows.device.type == "cpu" and len(rows):
        step = max(64, BLOCK_VALUES // len(rows) // 64 * 64)
    for place in range(0, rows.shape[1], max(1, step)):
        here = slice(place, place + step)
        totals[..., here] += scale @ rows[:, here].double()


def adding(scale: torch.Tensor) -> torch.Tensor | None:
    """Return the numbers of patients whose scale is not 0; None where that is everybody's."""
    adds = scale != 0 if scale.dim() == 1 else (scale != 0).any(dim=0)
    return None if bool(adds.all()) else torch.nonzero(adds).flatten()


def add_all_scaled(
    totals: torch.Tensor,
    gradients: Sequence[Gradients],
    scale: torch.Tensor,
    apart: torch.Tensor,
) -> int:
    """Add patients' scaled gradients of all parameters, one after the other.

    Args:
        totals: float64 ``[d]``, or ``[n, d]``; they may go on after the last parameter.
        gradients: of the patients, for each parameter.
        scale: float64 ``[patients]``, or ``[n, patients]``; 0 adds nothing.
        apart: numbers of the patients whose gradients have to be written out.

    Returns:
        Where the parameters end.
    """
    together, offset = scale.index_fill(-1, apart, 0.0), 0
    kept, alone = adding(together), adding(scale[..., apart])
    for gradient in gradients:
        here = totals[..., offset : offset + size_of(gradient)]
        add_scaled(here, gradient, together, kept)
        if len(apart):
            add_scaled(here, written(gradient, apart), scale[..., apart], alone)
        offset += here.shape[-1]
    return offset


def squares_of(gradients: Sequence[Gradients]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each patient's squared norm over all parameters, and for whom factors cancel.

    Returns:
        float64 ``[patients]``, and the numbers of patients, int64, whose gradients have to be
        written out to be added: theirs are the norms of what `written` returns.
    """
    rows = [one for one in gradients if not isinstance(one, Factors)]
    factors = [one.squares() for one in gradients if isinstance(one, Factors)]
    squares = squared_norms(rows) if rows else torch.zeros_like(factors[0][0])
    if not factors:
        return squares, torch.zeros(0, dtype=torch.int64, device=squares.device)
    for square, _ in factors:
        squares = squares + square
    errors = torch.stack([error for _, error in factors]).sum(dim=0)
    apart = torch.nonzero(errors > TOLERANCE * squares).flatten()
    if len(apart):
        each = [written(one, apart).double().square().sum(dim=1) for one in gradients]
        squares[apart] = torch.stack(each).sum(dim=0)
    return squares, apart
