"""Epsilon by privacy random variables (Gopi, Lee and Wutschitz 2021).

The privacy loss of one event is put on a mesh, composed by FFT, and read as an upper bound on
epsilon. Here are the choice of the mesh and the refusal of what the method cannot do. The numbers
are Opacus', which tests check; Opacus itself is not imported, because that takes seconds, and its
own accountant has no patients of several hospitals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import log_ndtr, ndtr

from accounting.errors import AccountingError
from accounting.events import (
    Event,
    ExactEvent,
    FreeEvent,
    GaussianEvent,
    SharedPatientEvent,
    check_delta,
    merge,
)
from accounting.loss_mesh import Mesh, Spectrum
from accounting.privacy_losses import MAX_LOSS, PrivacyLoss
from accounting.rdp import rdp_epsilon

_MAX_POINTS = 1 << 22


def prv_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon at `delta` of the composition of events: an upper bound, within 0.4% or 0.02.

    It is looser, by up to a tenth, after tens of millions of rounds, for a delta near what float64
    still tells (1e-12), and where RDP's bound, by which a mesh is chosen, is many times epsilon.

    Guarantee: for neighbours that differ by one patient at one hospital (for a
    `SharedPatientEvent`, at all of its hospitals). Never more than the RDP bound.

    Raises:
        AccountingError: epsilon above 650, or delta too small for double precision.

    Source: Gopi, Lee and Wutschitz 2021; without sampling the exact formula of Balle and Wang 2018.
    """
    check_delta(delta)
    merged = merge([_simplest(e) for e in events if not isinstance(e, FreeEvent)])
    if not merged:
        return 0.0
    if any(isinstance(event, ExactEvent) for event in merged):
        return math.inf
    return _composed(tuple(sorted(merged, key=repr)), delta)


def _simplest(event: Event) -> Event:
    """A shared patient who is always sampled, or in one hospital only, is an ordinary one."""
    if not isinstance(event, SharedPatientEvent):
        return event
    if event.sampling_rate < 1.0 and event.hospitals > 1:
        return event
    return GaussianEvent(
        sampling_rate=event.sampling_rate,
        noise_multiplier=event.noise_multiplier / event.hospitals,
        count=event.count,
    )


@lru_cache(maxsize=1024)
def _composed(events: tuple[Event, ...], delta: float) -> float:
    if all(isinstance(event, GaussianEvent) and event.sampling_rate == 1.0 for event in events):
        return gaussian_epsilon(math.fsum(_squared_shift(event) for event in events), delta)
    if math.fsum(map(_chance, events)) <= delta:
        return 0.0
    bound = rdp_epsilon(events, delta)
    if bound == 0.0:
        return 0.0
    mesh = _mesh(events, delta, bound)
    found = []
    # A patient's leaving or coming may be what costs more where different events are composed.
    for reverse in (False, True):
        with np.errstate(all="ignore"):
            parts = ((mesh.spectrum(_loss(event, reverse)), event.count) for event in events)
            found.append(mesh.epsilon(parts, delta))
    return min(bound, max(0.0, *found))


def _chance(event: Event) -> float:
    """Bound the probability that a patient is sampled at all: what they change at the most.

    Where it is below delta, (0, delta) holds whatever the noise. A mesh for so small a loss would
    take millions of points.
    """
    assert not isinstance(event, ExactEvent | FreeEvent)
    hospitals = event.hospitals if isinstance(event, SharedPatientEvent) else 1
    return event.count * hospitals * event.sampling_rate


def _squared_shift(event: Event) -> float:
    assert isinstance(event, GaussianEvent)
    return event.count / event.noise_multiplier**2


def gaussian_epsilon(squared_shift: float, delta: float) -> float:
    """Epsilon of a Gaussian with sensitivity/stddev mu, exact (Balle and Wang 2018, Theorem 8)."""
    mu = math.sqrt(squared_shift)

    def enough(epsilon: float) -> bool:
        first = float(ndtr(mu / 2 - epsilon / mu))
        second = math.exp(min(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
        return first - second <= delta

    low, high = 0.0, 1.0
    if enough(low):
        return 0.0
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def epsilon_on_the_way(event: GaussianEvent, planned: int, delta: float) -> float:
    """Epsilon after the first of many equal events: one mesh serves all that are planned.

    A mesh and a domain that are fine and wide enough for all are so for fewer, whose error is the
    smaller (Gopi et al. 2021, Theorem 5.5). After the last, or where the plan is too large for a
    mesh, or there is no sampling, this is `prv_epsilon`.

    Args:
        event: its `count` are those that happened.
        planned: how many there will be.
        delta: as for `prv_epsilon`, whose guarantee and errors hold.
    """
    check_delta(delta)
    if not 0 < event.count < planned or event.sampling_rate == 1.0 or _chance(event) <= delta:
        return prv_epsilon([event], delta)
    try:
        mesh, both = _one_of(replace(event, count=planned), delta)
    except AccountingError:
        return prv_epsilon([event], delta)
    error = mesh.epsilon_error * math.sqrt(event.count / planned)
    with np.errstate(all="ignore"):
        found = [mesh.epsilon([(one, event.count)], delta, error) for one in both]
    return min(rdp_epsilon([event], delta), max(0.0, *found))


@lru_cache(maxsize=4)
def _one_of(event: GaussianEvent, delta: float) -> tuple[Mesh, tuple[Spectrum, Spectrum]]:
    """Put the loss of one of `event.count` events on a mesh for all, in both directions.

    Raises:
        AccountingError: there is none.
    """
    mesh = _mesh((event,), delta, rdp_epsilon([event], delta))
    with np.errstate(all="ignore"):
        return mesh, (mesh.spectrum(_loss(event, False)), mesh.spectrum(_loss(event, True)))


def _mesh(events: tuple[Event, ...], delta: float, bound: float) -> Mesh:
    """Return the mesh for these events.

    Raises:
        AccountingError: it would have too many places, or losses beyond a float64.
    """
    delta_error = delta / 1000
    width = _width(events, delta_error)
    rounds = sum(event.count for event in events)
    # The mesh that gives an epsilon within `error` (Gopi et al. 2021, Theorem 5.5).
    rate = math.sqrt(rounds * math.log(12 / delta_error) / 2)
    error = max(min(0.01, 2e-3 * bound), 1e-3 * bound, 2 * width * rate / _MAX_POINTS)
    if error > 0.05 * max(bound, 0.2):
        raise AccountingError(
            f"prv cannot account for {rounds} rounds of epsilon about {bound:.3g} within 5%: "
            "use the rdp accountant"
        )
    whole = width + error
    return Mesh.covering(whole, error / rate, delta_error=delta_error, epsilon_error=error)


def check_mesh(event: GaussianEvent, delta: float) -> None:
    """Insist that an event's epsilon can be found on a mesh, without making one.

    Raises:
        AccountingError: as `prv_epsilon` would, at once.
    """
    if event.sampling_rate < 1.0 and _chance(event) > delta:
        _mesh((event,), delta, rdp_epsilon([event], delta))


def _width(events: tuple[Event, ...], delta_error: float) -> float:
    """Half the width of the mesh (Gopi et al. 2021, remark 5.6; as Opacus)."""
    total = sum(event.count for event in events)
    single = (rdp_epsilon([replace(e, count=1)], delta_error / (8 * total)) for e in events)
    width = max(rdp_epsilon(events, delta_error / 4), *single) + 3.0
    if width > MAX_LOSS:
        raise AccountingError(
            f"prv needs privacy losses up to {width:.4g}, expected at most {MAX_LOSS:g}: "
            "use the rdp accountant"
        )
    return width


def _loss(event: Event, reverse: bool) -> PrivacyLoss:
    assert not isinstance(event, ExactEvent | FreeEvent)
    hospitals = event.hospitals if isinstance(event, SharedPatientEvent) else 1
    # Without sampling both directions have the same loss.
    reverse = reverse and event.sampling_rate < 1.0
    return PrivacyLoss(event.sampling_rate, event.noise_multiplier, hospitals, reverse=reverse)
