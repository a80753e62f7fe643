"""Epsilon by privacy random variables (Gopi, Lee and Wutschitz 2021), on Opacus' machinery.

The privacy loss of one event is put on a mesh, composed by FFT, and read as an upper bound on
epsilon. Here are the choice of mesh and domain, the mixture of a patient with several hospitals,
and the refusal of what the method cannot do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
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
from accounting.rdp import rdp_epsilon, shared_loss

if TYPE_CHECKING:
    from opacus.accountants.analysis.prv import Domain

Values = NDArray[np.float64]

_MAX_POINTS = 1 << 22
_MAX_LOSS = 650.0  # e^loss must stay a float64
_DEEP = 40.0  # standard deviations, beyond which there is no mass


class _Loss(Protocol):
    """A privacy loss log(P/Q)(x), x ~ P, known by its distribution function."""

    def cdf(self, t: Values) -> Values: ...


def prv_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon at `delta` of the composition of events: an upper bound, within 0.2% or 0.01.

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
    reverse = any(isinstance(event, SharedPatientEvent) for event in events)
    values = [_numerical(events, delta, bound, reverse=False)]
    if reverse:
        values.append(_numerical(events, delta, bound, reverse=True))
    return min(bound, max(0.0, *values))


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


def _numerical(events: tuple[Event, ...], delta: float, bound: float, *, reverse: bool) -> float:
    """Opacus' discretisation and composition with a domain and mesh fit for these events."""
    from opacus.accountants.analysis.prv import (
        Domain,
        TruncatedPrivacyRandomVariable,
        compose_heterogeneous,
        discretize,
    )

    counts = [event.count for event in events]
    delta_error, width, rate, error = _mesh(events, delta, bound)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            domain = Domain.create_aligned(-width, width, error / rate)
            losses = [_loss(event, reverse) for event in events]
            truncated = [TruncatedPrivacyRandomVariable(loss, -width, width) for loss in losses]
            composed = compose_heterogeneous([discretize(one, domain) for one in truncated], counts)
            _, _, upper = composed.compute_epsilon(delta, delta_error, error)
        except (RuntimeError, ValueError, IndexError, OverflowError) as fault:
            raise AccountingError(f"prv cannot account for this: {fault}; use rdp") from fault
    if not math.isfinite(upper):
        raise AccountingError(f"prv found epsilon {upper} where rdp has {bound:.3g}; use rdp")
    return float(upper)


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
        whole = _spectrum(replace(event, count=planned), delta)
    except AccountingError:
        return prv_epsilon([event], delta)
    bound = rdp_epsilon([event], delta)
    return min(bound, max(0.0, whole.epsilon(event.count, delta)))


class _Spectrum(NamedTuple):
    """The loss of one of many equal events on a mesh for all, transformed.

    Attributes:
        transform: of its masses, complex ``[size / 2 + 1]``.
        domain: where they lie.
        planned: events that the mesh is for.
        delta_error: what it may leave delta off by.
        error: what it may leave epsilon off by after all.
    """

    transform: NDArray[np.complex128]
    domain: Domain
    planned: int
    delta_error: float
    error: float

    def epsilon(self, count: int, delta: float) -> float:
        """Return the upper bound on epsilon after so many events."""
        from opacus.accountants.analysis.prv import DiscretePRV
        from scipy.fft import irfft

        size = self.domain.size
        masses = irfft(self.transform**count, size)
        # Losses' places add up, and zero is the place before the middle.
        masses = np.roll(masses, count - 1 + (size // 2 if count % 2 == 0 else 0))
        domain = self.domain.shift_right(self.domain.shifts * (count - 1))
        with np.errstate(all="ignore"):
            error = self.error * math.sqrt(count / self.planned)
            _, _, upper = DiscretePRV(masses, domain).compute_epsilon(
                delta, self.delta_error, error
            )
        return float(upper)


@lru_cache(maxsize=4)
def _spectrum(event: GaussianEvent, delta: float) -> _Spectrum:
    """Put the loss of one of `event.count` events on a mesh for all.

    Raises:
        AccountingError: there is none.
    """
    from opacus.accountants.analysis.prv import TruncatedPrivacyRandomVariable, discretize
    from scipy.fft import rfft

    delta_error, width, rate, error = _mesh((event,), delta, rdp_epsilon([event], delta))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            truncated = TruncatedPrivacyRandomVariable(_loss(event, False), -width, width)
            one = discretize(truncated, _smooth(width, error / rate))
        except (RuntimeError, ValueError, OverflowError) as fault:
            raise AccountingError(f"prv cannot account for this: {fault}; use rdp") from fault
    return _Spectrum(rfft(one.pmf), one.domain, event.count, delta_error, error)


def _smooth(width: float, step: float) -> Domain:
    """Return a domain of at least that half width whose size has small factors: FFTs are fast.

    Zero stays where it has to be, the last of the first half.
    """
    from opacus.accountants.analysis.prv import Domain
    from scipy.fft import next_fast_len

    domain = Domain.create_aligned(-width, width, step)
    half = next_fast_len(domain.size // 2, real=True)
    more = (half - domain.size // 2) * domain.dt
    return Domain(domain.t_min - more, domain.t_max + more, 2 * half)


def _mesh(
    events: tuple[Event, ...], delta: float, bound: float
) -> tuple[float, float, float, float]:
    """Return (delta's error, half width, rate, epsilon's error) of the mesh for these events."""
    delta_error = delta / 1000
    width = _domain(events, delta_error)
    rounds = sum(event.count for event in events)
    # The mesh that gives an epsilon within `error` (Gopi et al. 2021, Theorem 5.5).
    rate = math.sqrt(rounds * math.log(12 / delta_error) / 2)
    error = max(min(0.01, 2e-3 * bound), 1e-3 * bound, 2 * width * rate / _MAX_POINTS)
    if error > 0.05 * max(bound, 0.2):
        raise AccountingError(
            f"prv cannot account for {rounds} rounds of epsilon about {bound:.3g} within 5%: "
            "use the rdp accountant"
        )
    return delta_error, width, rate, error


def check_mesh(event: GaussianEvent, delta: float) -> None:
    """Insist that an event's epsilon can be found on a mesh, without making one.

    Raises:
        AccountingError: as `prv_epsilon` would, at once.
    """
    if event.sampling_rate < 1.0 and _chance(event) > delta:
        _mesh((event,), delta, rdp_epsilon([event], delta))


def _domain(events: tuple[Event, ...], delta_error: float) -> float:
    """Half the width of the mesh's domain (Gopi et al. 2021, remark 5.6; as Opacus)."""
    total = sum(event.count for event in events)
    single = (rdp_epsilon([replace(e, count=1)], delta_error / (8 * total)) for e in events)
    width = max(rdp_epsilon(events, delta_error / 4), *single) + 3.0
    if width > _MAX_LOSS:
        raise AccountingError(
            f"prv needs privacy losses up to {width:.4g}, expected at most {_MAX_LOSS:g}: "
            "use the rdp accountant"
        )
    return width


def _loss(event: Event, reverse: bool) -> _Loss:
    from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV

    # Without sampling both directions have the same loss; with it, adding a patient is the cheaper
    # direction, and is computed only beside events where that is not known.
    if isinstance(event, GaussianEvent) and (not reverse or event.sampling_rate == 1.0):
        loss: _Loss = PoissonSubsampledGaussianPRV(event.sampling_rate, event.noise_multiplier)
        return loss
    assert not isinstance(event, ExactEvent | FreeEvent)
    hospitals = event.hospitals if isinstance(event, SharedPatientEvent) else 1
    return _SharedLoss(event.sampling_rate, event.noise_multiplier, hospitals, reverse)


class _SharedLoss:
    """The loss between a mixture P at 0..m, weights Binomial(m, q), and a Gaussian Q at 0.

    log(P/Q) grows with x, so its distribution follows from the x at which it is t.
    """

    def __init__(self, q: float, sigma: float, hospitals: int, reverse: bool) -> None:
        count = np.arange(hospitals + 1)
        self._weights = np.array(
            [math.comb(hospitals, int(i)) * q**i * (1 - q) ** (hospitals - i) for i in count]
        )
        self._means = count / sigma
        self._reverse = reverse
        # Beyond this x, loss > _MAX_LOSS: the top term alone is.
        top = self._means[-1]
        highest = max((_MAX_LOSS - math.log(self._weights[-1])) / top + top / 2, 1.0)
        below = np.linspace(-_DEEP, _DEEP, 1 << 17)
        above = np.linspace(_DEEP, max(highest, _DEEP + 1.0), 1 << 16)[1:]
        self._x = np.concatenate([below, above])
        self._t = shared_loss(self._x, q, sigma, hospitals)

    def cdf(self, t: Values) -> Values:
        """P(loss <= t); reversed, of log(Q/P) under Q."""
        shape = np.shape(t)
        values = np.atleast_1d(np.asarray(t, dtype=np.float64))
        x = self._where(-values if self._reverse else values)
        if self._reverse:
            result = ndtr(-x)
        else:
            below = [w * ndtr(x - mean) for w, mean in zip(self._weights, self._means, strict=True)]
            result = np.sum(below, axis=0)
        return np.asarray(result).reshape(shape)

    def _where(self, t: Values) -> Values:
        """The x at which log(P/Q) is t: from a table, then Newton's steps (the loss is convex)."""
        x: Values = np.interp(t, self._t, self._x)
        inside = (t > self._t[0]) & (t < self._t[-1])
        near, wanted = x[inside], t[inside]
        for _ in range(2):
            terms = [
                w * np.exp(mean * near - mean**2 / 2 - wanted)
                for w, mean in zip(self._weights, self._means, strict=True)
            ]
            slope = sum(mean * term for mean, term in zip(self._means, terms, strict=True))
            near = near - (np.sum(terms, axis=0) - 1.0) / np.maximum(slope, 1e-300)
        gap = self._x[1] - self._x[0]
        x[inside] = np.clip(near, x[inside] - gap, x[inside] + gap)
        x[t <= self._t[0]] = -np.inf
        return x
