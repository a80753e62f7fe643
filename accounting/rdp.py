"""Renyi differential privacy of events, remembered per mechanism.

The RDP of the sampled Gaussian mechanism is computed once per (q, sigma), so the running epsilon
of a training costs the same at round 100,000 as at round 1. The numbers are Opacus', which tests
check; Opacus itself is not imported, because that takes seconds, and a hospital's limits are
checked in a new process for every message.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from accounting.errors import AccountingError
from accounting.events import (
    Event,
    ExactEvent,
    FreeEvent,
    SharedPatientEvent,
    check_delta,
    merge,
)

Curve = NDArray[np.float64]

# Opacus' default orders; smaller ones for large epsilons, larger ones for small.
ORDERS: Curve = np.array(
    [1.01, 1.02, 1.05]
    + [1 + x / 10 for x in range(1, 100)]
    + list(range(11, 64))
    + [64, 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024]
)
ORDERS.setflags(write=False)

_MAX_POINTS = 200_000

CONVERSIONS = ("improved", "classic")


@lru_cache(maxsize=64)
def conversion(delta: float, name: str = "improved", orders: tuple[float, ...] = ()) -> Curve:
    """What is added to RDP at each order to give epsilon at `delta`.

    "improved": Balle et al. 2020, Theorem 21 (as Opacus and dp-accounting); "classic": Mironov
    2017, Proposition 3 (as TensorFlow Privacy once did, and the Dopamine paper).
    """
    check_delta(delta)
    alpha = np.array(orders) if orders else ORDERS
    if name == "classic":
        added: Curve = -math.log(delta) / (alpha - 1)
    elif name == "improved":
        added = np.log1p(-1 / alpha) - (math.log(delta) + np.log(alpha)) / (alpha - 1)
    else:
        raise AccountingError(f"conversion is {name!r}, expected one of {', '.join(CONVERSIONS)}")
    added.setflags(write=False)
    return added


def rdp_curve(event: Event, orders: tuple[float, ...] = ()) -> Curve:
    """RDP of one event, its count included, at `orders` (default `ORDERS`); float64 [orders].

    Neighbouring relation: add or remove one patient at one hospital (for a
    `SharedPatientEvent`, at all of its hospitals). Both directions are covered.
    """
    if isinstance(event, ExactEvent):
        return np.full(len(orders) or len(ORDERS), math.inf if event.count else 0.0)
    if isinstance(event, FreeEvent):
        return np.zeros(len(orders) or len(ORDERS))
    if isinstance(event, SharedPatientEvent):
        one = _shared_curve(event.sampling_rate, event.noise_multiplier, event.hospitals, orders)
    else:
        one = _gaussian_curve(event.sampling_rate, event.noise_multiplier, orders)
    return one * event.count


def rdp_epsilon(
    events: Sequence[Event],
    delta: float,
    *,
    conversion_name: str = "improved",
) -> float:
    """Epsilon at `delta` of the composition of events, by RDP; inf where there is none.

    Guarantee: an upper bound for neighbours that differ by one patient at one hospital. The
    events' parameters must not depend on earlier releases (else see `accounting.renyi_filter`).
    Source: Mironov 2017; Mironov, Talwar and Zhang 2019; conversion as named.
    """
    added = conversion(delta, conversion_name)
    spent = [event for event in merge(events) if not isinstance(event, FreeEvent)]
    curves = [rdp_curve(event) for event in spent if event.count]
    if not curves:
        return 0.0
    total = curves[0] if len(curves) == 1 else np.sum(curves, axis=0)
    return max(0.0, float((total + added).min()))


@lru_cache(maxsize=4096)
def _gaussian_curve(
    sampling_rate: float, noise_multiplier: float, orders: tuple[float, ...]
) -> Curve:
    alphas = np.array(orders) if orders else ORDERS
    if sampling_rate == 1.0:
        curve = alphas / (2 * noise_multiplier**2)
    else:
        whole = alphas == np.floor(alphas)
        curve = np.empty(len(alphas))
        curve[whole] = [_whole_order(sampling_rate, noise_multiplier, a) for a in alphas[whole]]
        try:
            curve[~whole] = _integrated(sampling_rate, noise_multiplier, 1, alphas[~whole])
        except AccountingError:  # RDP does not decrease with the order
            next_whole = np.ceil(alphas[~whole])
            curve[~whole] = [_whole_order(sampling_rate, noise_multiplier, a) for a in next_whole]
    curve.setflags(write=False)
    return curve


def _whole_order(sampling_rate: float, noise_multiplier: float, alpha: float) -> float:
    """RDP of the sampled Gaussian at a whole order: a finite sum of positive terms.

    Mironov, Talwar and Zhang 2019, section 3.3, as in Opacus. At fractional orders the paper (and
    Opacus) sum an alternating series, which takes millions of terms where sampling is frequent and
    noise is large, and cancels: those are integrated instead.
    """
    i = np.arange(int(alpha) + 1)
    terms = (
        gammaln(alpha + 1)
        - gammaln(i + 1)
        - gammaln(alpha - i + 1)
        + i * math.log(sampling_rate)
        + (alpha - i) * math.log1p(-sampling_rate)
        + (i * i - i) / (2 * noise_multiplier**2)
    )
    # Rounding of the terms, 1e-16 of at most a few thousand, is added.
    return (max(_log_sum(terms), 0.0) + 1e-12) / (alpha - 1)


@lru_cache(maxsize=256)
def _shared_curve(
    sampling_rate: float, noise_multiplier: float, hospitals: int, orders: tuple[float, ...]
) -> Curve:
    alphas = np.array(orders) if orders else ORDERS
    if sampling_rate == 1.0:
        curve: Curve = alphas * hospitals**2 / (2 * noise_multiplier**2)
    else:
        # Orders beyond 64 serve small epsilons, which a patient of several hospitals rarely has.
        curve = np.full(len(alphas), math.inf)
        near = alphas <= 64
        with contextlib.suppress(AccountingError):  # no finite bound at any order is an answer
            curve[near] = _integrated(sampling_rate, noise_multiplier, hospitals, alphas[near])
    curve.setflags(write=False)
    return curve


def _integrated(
    sampling_rate: float, noise_multiplier: float, hospitals: int, alphas: Curve
) -> Curve:
    """RDP of a mixture of Gaussians at 0..m, weights Binomial(m, q), against the one at 0.

    By the trapezoid rule, whose error vanishes faster than any power of the step for such
    integrands; the larger of both directions.
    """
    if not alphas.size:
        return alphas
    # In units of the noise: shifts i/sigma. The tilted integrand peaks at or before alpha*m/sigma.
    farthest = float(alphas.max()) * hospitals / noise_multiplier
    step = min(0.05, noise_multiplier / 10)
    points = int((farthest + 80.0) / step) + 1
    if points > _MAX_POINTS:
        raise AccountingError(f"noise_multiplier {noise_multiplier} is too small to integrate")
    x: Curve = -40.0 + step * np.arange(points, dtype=np.float64)
    loss = _shared_loss(x, sampling_rate, noise_multiplier, hospitals)
    log_density = -0.5 * x * x - 0.5 * math.log(2 * math.pi) + math.log(step)
    curve = np.empty(len(alphas))
    for index, alpha in enumerate(alphas):
        # E_Q[(P/Q)^alpha] and E_P[(Q/P)^alpha] = E_Q[(Q/P)^(alpha-1)].
        moments = (_log_sum(log_density + alpha * loss), _log_sum(log_density - (alpha - 1) * loss))
        # The sum's own rounding, 1e-14 or so of a number near 1, is added.
        curve[index] = (max(0.0, *moments) + 1e-13) / (alpha - 1)
    return curve


def _shared_loss(x: Curve, sampling_rate: float, noise_multiplier: float, hospitals: int) -> Curve:
    """Log dP/dQ at x (in units of the noise), P the mixture at 0..m, Q the Gaussian at 0."""
    count = np.arange(hospitals + 1)
    log_weights = np.array(
        [
            math.log(math.comb(hospitals, int(i)))
            + i * math.log(sampling_rate)
            + (hospitals - i) * math.log1p(-sampling_rate)
            for i in count
        ]
    )
    shift = count / noise_multiplier
    total = np.full(x.shape, -math.inf)
    for weight, mean in zip(log_weights, shift, strict=True):
        np.logaddexp(total, weight + mean * x - mean**2 / 2, out=total)
    return total


def _log_sum(values: Curve) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))
