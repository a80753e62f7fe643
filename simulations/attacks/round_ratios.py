"""What one opened sum tells of each patient: how much likelier it is if they were trained on.

Whoever sees a sum and the model that it was taken at can compute what each patient would have added
to it. If patients are in a training with chance 1/2, and those in a training are in a sum with
chance q, a sum is about normal, with mean ``p sum g_j`` and covariance
``p (1 - p) sum g_j g_j' + s^2 I``, where p = q/2, g_j is what patient j adds, and s is the noise.
For each patient in turn, all others are that law, and the sum is compared with and without them.
Without noise, and with more values than patients, this solves for who was in the sum.

    >>> gradients = np.eye(3, 5)
    >>> ratios = round_ratios(gradients, gradients[0] + gradients[2], 1e-6, 0.5)
    >>> [bool(ratio > 0) for ratio in ratios]
    [True, False, True]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]

#: Directions in which gradients are shorter than this share of the longest are rounding.
_NEGLIGIBLE = 1e-12


def round_ratios(
    gradients: Matrix, seen: Vector, noise_variance: float, sampling_rate: float
) -> Vector:
    """Return each patient's log-likelihood ratio, trained on against not, of one sum: ``[n]``.

    Ratios of several rounds add up: given who is trained on, rounds sample by themselves.

    Args:
        gradients: what each patient adds if sampled, ``[n, d]``, gradient units.
        seen: the sum, ``[d]``.
        noise_variance: of each value; positive, for sums are rounded to a grid even without noise.
        sampling_rate: q, of those who are trained on.
    """
    chance = 0.5 * sampling_rate
    spread = chance * (1.0 - chance)
    lengths, axes = _directions(gradients)
    total = noise_variance + spread * lengths
    rest = seen - chance * gradients.sum(axis=0)
    weight = axes**2
    # g' M^-1 rest and g' M^-1 g of every patient, M the covariance with all of them in it.
    found = axes @ ((axes.T @ (gradients @ rest)) / total)
    own = weight @ (lengths / total)
    # 1 - spread * own, without its cancellation: then the patient is taken out of M and rest.
    left = weight @ (noise_variance / total) + np.maximum(0.0, 1.0 - weight.sum(axis=1))
    left = np.maximum(left, 1e-300)
    sampled = (found + chance * own) / left - 0.5 * own / left
    if sampling_rate >= 1.0:
        return np.asarray(sampled)
    with_them = np.log(sampling_rate) + sampled
    return np.asarray(np.logaddexp(np.log1p(-sampling_rate), with_them))


def _directions(gradients: Matrix) -> tuple[Vector, Matrix]:
    """Return squared lengths ``[k]`` and axes ``[n, k]`` of gradients; k is at most n and d.

    Of more patients than values the work is that of the values: n d^2, where n^3 would be the most
    of an attack on a small model.
    """
    if len(gradients) > gradients.shape[1]:
        axes, stretches, _ = np.linalg.svd(gradients, full_matrices=False)
        lengths = stretches**2
    else:
        lengths, axes = np.linalg.eigh(gradients @ gradients.T)
    kept = lengths > _NEGLIGIBLE * max(float(lengths.max()), 1e-300)
    return lengths[kept], axes[:, kept]
