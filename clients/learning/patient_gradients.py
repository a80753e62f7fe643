"""Patients' gradients, one of each parameter: their norms, and their scaled sums.

Either they are written out, a row for each patient, or they are factors of `ghost_norms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch

from clients.learning.ghost_norms import Factors, Rows, ordered
from clients.learning.squared_norms import squared_norms

#: The most that factors may leave a squared norm off by, relative to it.
TOLERANCE = 2.0**-20
#: Values of rows that are turned into float64 at once: they stay in a processor's cache.
BLOCK_VALUES = 2**17
#: The most values of a row that is copied beside others to spare calls.
_SHORT = 512

#: Patients' mean gradients of a parameter: written out, float32 ``[patients, ...]``, or factors.
Gradients = torch.Tensor | Rows | Factors


def size_of(gradients: Gradients) -> int:
    """Return how many values each patient's gradient has."""
    if isinstance(gradients, Factors):
        return gradients.values
    return _values(gradients).shape[1:].numel()


def written(gradients: Gradients, patients: torch.Tensor | None = None) -> torch.Tensor:
    """Return all or some patients' gradients, written out: ``[patients, values]``."""
    if patients is None:
        patients = torch.arange(len(gradients), device=_values(gradients).device)
    if isinstance(gradients, torch.Tensor):
        return gradients[patients].reshape(len(patients), -1)
    return gradients.written(patients)


def bytes_of(gradients: Gradients) -> int:
    """Return how much memory gradients take."""
    beside = gradients.at_inputs.nbytes if isinstance(gradients, Factors) else 0
    return _values(gradients).nbytes + beside


def _values(gradients: Gradients) -> torch.Tensor:
    """Return what gradients hold for each patient, or of factors for each record."""
    if isinstance(gradients, Factors):
        return gradients.at_outputs
    return gradients.values if isinstance(gradients, Rows) else gradients


class Scales:
    """What patients' gradients are multiplied by before they are added up.

    A patient whose scale is 0 adds nothing, whatever their gradient is.

    Args:
        scale: float64 ``[patients]`` for one total, or ``[n, patients]`` for several.
    """

    def __init__(self, scale: torch.Tensor) -> None:
        self._scale, self._adds = scale, scale != 0
        adds = self._adds
        self._rows = _but_for_all(adds if scale.dim() == 1 else adds.any(dim=0))

    @cached_property
    def _each(self) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """For each total: the scales, and who adds to it."""
        pairs = zip(_each(self._scale), _each(self._adds), strict=True)
        return [(one, _but_for_all(mine)) for one, mine in pairs]

    def add(self, totals: torch.Tensor, gradients: Gradients) -> None:
        """Add scaled gradients of a parameter to float64 ``[values]``, or ``[n, values]``."""
        if isinstance(gradients, Factors):
            index = gradients.owners.index
            for total, (scale, kept) in zip(_each(totals), self._each, strict=True):
                records = kept
                if kept is not None:
                    records = torch.nonzero(torch.isin(index, kept)).flatten()
                gradients.add_to(total, scale, records)
        elif isinstance(gradients, Rows):
            summed = torch.zeros_like(totals)
            self._add_rows(summed, gradients.values.flatten(1))
            shape = gradients.values.shape[1:]
            here = ordered(summed.reshape(*totals.shape[:-1], *shape), gradients.places)
            totals.view(here.shape).add_(here)
        else:
            self._add_rows(totals, gradients.reshape(len(gradients), -1))

    def _add_rows(self, totals: torch.Tensor, rows: torch.Tensor) -> None:
        scale = self._scale
        if self._rows is not None:
            rows, scale = rows[self._rows], scale[..., self._rows]
        patients, values = rows.shape
        step = values
        if rows.device.type == "cpu" and patients:
            step = max(64, BLOCK_VALUES // patients // 64 * 64)
        if values <= step:
            totals += scale @ rows.double()
            return
        for place in range(0, values, step):
            here = slice(place, place + step)
            totals[..., here] += scale @ rows[:, here].double()


def _each(values: torch.Tensor) -> torch.Tensor:
    """Return ``[n, ...]`` of what may be of one alone."""
    return values if values.dim() > 1 else values[None]


def _but_for_all(chosen: torch.Tensor) -> torch.Tensor | None:
    """Return the numbers of what is chosen; None: all is."""
    return None if bool(chosen.all()) else torch.nonzero(chosen).flatten()


def add_scaled(
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
    if not len(apart):
        return _add_all(totals, gradients, Scales(scale))
    # The sum of a pass is one vector, whoever makes it.
    made = torch.zeros_like(totals)
    end = _add_all(made, gradients, Scales(scale.index_fill(-1, apart, 0.0)))
    _add_all(made, (written(one, apart) for one in gradients), Scales(scale[..., apart]))
    totals += made
    return end


def _add_all(totals: torch.Tensor, gradients: Iterable[Gradients], scales: Scales) -> int:
    offset = 0
    for gradient in gradients:
        here = totals[..., offset : offset + size_of(gradient)]
        scales.add(here, gradient)
        offset += here.shape[-1]
    return offset


def _few(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the same rows, the short ones of them as one."""
    short = [one for one in rows if one.shape[1] <= _SHORT]
    if len(short) < 2:
        return rows
    return [*(one for one in rows if one.shape[1] > _SHORT), torch.cat(short, dim=1)]


def squares_of(gradients: Sequence[Gradients]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each patient's squared norm over all parameters, and for whom factors cancel.

    Returns:
        float64 ``[patients]``, and the numbers of patients, int64, whose gradients have to be
        written out to be added: theirs are the norms of what `written` returns.
    """
    rows = [_values(one).flatten(1) for one in gradients if not isinstance(one, Factors)]
    factors = [one.squares() for one in gradients if isinstance(one, Factors)]
    if factors:  # such nets have many parameters, half of them short: calls cost more than values
        rows = _few(rows)
    squares = squared_norms(rows) if rows else torch.zeros_like(factors[0][0])
    if not factors:
        return squares, torch.zeros(0, dtype=torch.int64, device=squares.device)
    squares = squares + torch.stack([square for square, _ in factors]).sum(dim=0)
    errors = torch.stack([error for _, error in factors]).sum(dim=0)
    apart = torch.nonzero(errors > TOLERANCE * squares).flatten()
    if len(apart):
        each = [written(one, apart).double().square().sum(dim=1) for one in gradients]
        squares[apart] = torch.stack(each).sum(dim=0)
    return squares, apart
