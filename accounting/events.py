"""Privacy events: what was released, apart from what it costs.

An event says which mechanism touched a patient's records and how often. It is data (frozen,
comparable, JSON-ready), so a ledger can store it; `accounting.accountants` interprets it. Every
event is stated for the neighbouring relation *add or remove one patient at one hospital*, with
the sensitivity (the clip) as the unit of its noise.

    >>> to_json(GaussianEvent(sampling_rate=0.1, noise_multiplier=1.0, count=60))
    {'kind': 'gaussian', 'sampling_rate': 0.1, 'noise_multiplier': 1.0, 'count': 60}

Nothing but the standard library is imported here, so that a ledger opens in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

from accounting.errors import AccountingError

#: No event counts so far; what is computed of less stays within a float64.
TOO_MANY = 2**63


def check_sampling_rate(sampling_rate: float) -> None:
    """Raise unless 0 < q <= 1."""
    if not 0.0 < sampling_rate <= 1.0:
        raise AccountingError(f"sampling_rate is {sampling_rate}, expected 0 < q <= 1")


def check_noise_multiplier(noise_multiplier: float) -> None:
    """Raise unless the noise multiplier is a positive number whose square is one too."""
    if not (noise_multiplier > 0.0 and math.isfinite(noise_multiplier)):
        raise AccountingError(f"noise_multiplier is {noise_multiplier}, expected > 0 and finite")
    if not 1e-100 < noise_multiplier < 1e100:
        raise AccountingError(f"noise_multiplier is {noise_multiplier}, expected 1e-100 to 1e100")


def check_rounds(rounds: int) -> None:
    """Raise unless the number of rounds is a whole number, 0 or more."""
    _check_whole("rounds", rounds, least=0)


def _check_whole(name: str, value: int, *, least: int) -> None:
    number = isinstance(value, Integral | float) and not isinstance(value, bool)
    if not number or not least <= value < TOO_MANY or int(value) != value:
        raise AccountingError(f"{name} is {value!r}, expected a whole number, {least} .. 2**63 - 1")


def check_delta(delta: float) -> None:
    """Raise unless 0 < delta < 1."""
    if not 0.0 < delta < 1.0:
        raise AccountingError(f"delta is {delta}, expected 0 < delta < 1")


def hollow_delta(delta: float, sampling_rate: float, rounds: int) -> str:
    """Say why a delta protects nobody: a mechanism without noise would keep to it; "" if it does.

    A patient who is never drawn is not in any sum, so who publishes bare sums is (0, delta)-private
    at a delta of 1 - (1 - q)^T, the chance to be drawn at all.
    """
    drawn = 1.0 if sampling_rate >= 1.0 else -math.expm1(rounds * math.log1p(-sampling_rate))
    if delta < drawn:
        return ""
    return (
        f"delta is {delta:g}, no less than {drawn:.3g}, the chance that a patient is drawn at all "
        f"in {rounds} rounds at sampling rate {sampling_rate:g}: it would hold without any noise. "
        "Expected a delta well below 1/N, of N patients"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianEvent:
    """`count` sums over Poisson samples of patients, each with Gaussian noise.

    Each patient enters each sum independently with probability `sampling_rate`; a patient's
    contribution has L2 norm at most C; the noise has standard deviation `noise_multiplier` * C
    (Mironov, Talwar and Zhang 2019, the sampled Gaussian mechanism).
    """

    sampling_rate: float
    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        check_sampling_rate(self.sampling_rate)
        check_noise_multiplier(self.noise_multiplier)
        check_rounds(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPatientEvent:
    """A `GaussianEvent` seen by a patient whose records lie in `hospitals` hospitals.

    Every hospital samples and clips the patient on its own, so the patient moves the sum by up
    to C times a Binomial(`hospitals`, `sampling_rate`) count. Here the neighbouring relation is
    *add or remove one patient at all of these hospitals*.
    """

    sampling_rate: float
    noise_multiplier: float
    hospitals: int
    count: int = 1

    def __post_init__(self) -> None:
        check_sampling_rate(self.sampling_rate)
        check_noise_multiplier(self.noise_multiplier)
        check_rounds(self.count)
        _check_whole("hospitals", self.hospitals, least=1)
        object.__setattr__(self, "hospitals", int(self.hospitals))  # binomials count no 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactEvent:
    """`count` releases without noise: no finite epsilon covers them."""

    count: int = 1

    def __post_init__(self) -> None:
        check_rounds(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputNoiseEvent:
    """`count` draws of noise on all `values` of every record, before anything else sees them.

    It is stated for another neighbouring relation, *replace one value of a record's inputs*: each
    draw shows at most `epsilon_value` of it to anyone, draws add up (`input_epsilon`), and labels
    and presence are not covered. Noisy records are themselves no release, so nothing is added to
    the epsilon of adding or removing a patient; what is computed from them has events of its own.
    """

    epsilon_value: float
    values: int
    count: int = 1

    def __post_init__(self) -> None:
        check_rounds(self.count)
        if not (self.epsilon_value > 0.0 and math.isfinite(self.epsilon_value)):
            found = self.epsilon_value
            raise AccountingError(f"epsilon_value is {found}, expected > 0 and finite")
        _check_whole("values", self.values, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicEvent:
    """`count` answers about records that their owner has declared public, from a public model.

    Nothing of a patient is spent, so every accountant counts zero; it is an event all the same, so
    that an exact value leaves for a declaration that somebody has made, or not at all.
    """

    count: int = 1

    def __post_init__(self) -> None:
        check_rounds(self.count)


Event = GaussianEvent | SharedPatientEvent | ExactEvent | InputNoiseEvent | PublicEvent
#: Events that add nothing to the epsilon of adding or removing a patient.
FreeEvent = InputNoiseEvent | PublicEvent

KINDS: dict[str, type[Event]] = {
    "gaussian": GaussianEvent,
    "shared-patient": SharedPatientEvent,
    "exact": ExactEvent,
    "input-noise": InputNoiseEvent,
    "public": PublicEvent,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def to_json(event: Event) -> dict[str, str | int | float]:
    """The event as a JSON-ready dict; `from_json` gives back an equal event, bit for bit."""
    # Not asdict, which copies deeply and takes as long as the rest of a ledger's line.
    fields = {name: getattr(event, name) for name in event.__slots__}
    return {"kind": _NAMES[type(event)], **fields}


def from_json(data: Mapping[str, object]) -> Event:
    """The event that `to_json` wrote.

    Raises:
        AccountingError: the kind is unknown, or a field is missing, unknown or out of range.
    """
    fields = dict(data)
    name = fields.pop("kind", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise AccountingError(f"event kind is {name!r}, expected one of {', '.join(KINDS)}")
    wrong = [
        key
        for key, value in fields.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    if wrong:
        raise AccountingError(f"event fields {', '.join(wrong)} are not numbers")
    try:
        return kind(**fields)  # type: ignore[arg-type]
    except TypeError as error:
        raise AccountingError(f"event of kind {name} has wrong fields: {error}") from None


def input_epsilon(events: Sequence[Event]) -> float:
    """Epsilon of all inputs of one record, to anyone, by basic composition of the noise's draws.

    For neighbours that differ by one record's inputs; 0 where no input noise was ever drawn.
    """
    return math.fsum(
        event.count * event.values * event.epsilon_value
        for event in events
        if isinstance(event, InputNoiseEvent)
    )


def merge(events: Sequence[Event]) -> tuple[Event, ...]:
    """Equal mechanisms gathered into one event each, in order of first appearance.

    Composition does not depend on order, so nothing is lost: the accountants' cost then grows
    with the number of *different* mechanisms, never with the number of rounds.
    """
    if len(events) == 1:
        return tuple(events) if events[0].count else ()
    counts: dict[Event, int] = {}
    for event in events:
        mechanism = replace(event, count=1)
        counts[mechanism] = counts.get(mechanism, 0) + event.count
    return tuple(replace(event, count=count) for event, count in counts.items() if count > 0)
