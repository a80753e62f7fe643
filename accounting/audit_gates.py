"""Gates: what must be true of noise and samples for any epsilon to mean something.

Every statistic of epsilon is blind to noise that is used twice: two rounds with the same noise look
like two rounds. So an audit also measures what the proof takes for granted. Each `Gate` says what
was found, what was expected, and the chance of a finding at least as far off if all is as it should
be; it is shut where that chance is below what the audit allows. Chances are exact, or bounds that
hold for any number of canaries and rounds (`accounting.audit_tails`).

    noise = NoiseTally(stddev=1.0, step=0.05)
    for values in rounds:
        noise.add(values)
    [gate for gate in noise.gates() if not gate.open(error=1e-8)]
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from accounting.audit_scores import Sampled, hospitals_of
from accounting.audit_tails import Draws, chance_at_most, sum_chance

Values = NDArray[np.float64]

#: Bins of a histogram of noise reach so far, in standard deviations, and are at least so wide.
_REACH, _WIDTH = 8.0, 0.125
#: Tails are counted beyond so many standard deviations.
TAILS = (3, 4, 5)
#: Draws expected in a bin of the test of shape; fewer are added to the next one.
_LEAST_EXPECTED = 300.0
#: Far out, counts of so many are further from what is expected than normal values would be: by the
#: bound of `accounting.audit_tails`, Pearson's statistic is up to 2.4 times as likely at 1e-9.
_ROOM = 3.0
#: Values by which a vector of noise is known again.
PRINT_VALUES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One thing that was measured.

    Attributes:
        name: what was measured.
        subject: whose, or where.
        found: the value.
        expected: what it should be.
        chance: of a value at least so far from it, if all is as it should be, at the most.
    """

    name: str
    subject: str
    found: float
    expected: float
    chance: float

    def open(self, error: float) -> bool:
        """Whether the finding may be chance, at this error."""
        return self.chance >= error

    def to_json(self) -> dict[str, str | float]:
        """Everything, JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


def spread_gate(name: str, subject: str, *, squares: float, count: int, stddev: float) -> Gate:
    """Whether Gaussian values of mean 0 have the standard deviation that they should have.

    Args:
        name: of the gate.
        subject: what the values are.
        squares: the sum of their squares.
        count: how many there are, independent of each other.
        stddev: expected.
    """
    found = squares / stddev**2
    below, above = stats.chi2.cdf(found, count), stats.chi2.sf(found, count)
    return Gate(
        name=name,
        subject=subject,
        found=math.sqrt(squares / count),
        expected=stddev,
        chance=_two_sided(float(below), float(above)),
    )


def moved_gate(
    name: str, subject: str, *, found: float, sides: tuple[int, int], looks: int, event: Sampled
) -> Gate:
    """Whether patients who take part move what is seen of them as far as they should.

    Args:
        name: of the gate.
        subject: who sees it.
        found: the mean of what is seen of those who take part less that of the others, a look, in
            units of the clip.
        sides: how many take part, and how many do not.
        looks: at each of them.
        event: the noise that is in a look, and how often a patient is in it.
    """
    here, away = sides
    hospitals, rate = hospitals_of(event), event.sampling_rate
    variance = event.noise_multiplier**2 * (1.0 / here + 1.0 / away) / looks
    samples, one = here * looks * hospitals, 1.0 / (here * looks)

    def cumulants(t: float) -> float:
        return t * t * variance / 2.0 + samples * math.log1p(rate * math.expm1(t * one))

    expected = hospitals * rate
    return Gate(
        name=name,
        subject=subject,
        found=found,
        expected=expected,
        chance=chance_at_most(
            found,
            cumulants,
            mean=expected,
            stddev=math.sqrt(variance + samples * one**2 * rate * (1.0 - rate)),
        ),
    )


def count_gate(name: str, subject: str, *, found: int, trials: int, probability: float) -> Gate:
    """Whether so many of independent trials came out as this probability says."""
    law = stats.binom(trials, probability)
    return Gate(
        name=name,
        subject=subject,
        found=found / max(trials, 1),
        expected=probability,
        chance=_two_sided(float(law.cdf(found)), float(law.sf(found - 1))),
    )


class NoiseTally:
    """The distribution of noise on its grid, tails included.

    Args:
        stddev: expected, in the units of the values.
        step: of the grid that values lie on.
        subject: whose noise it is.
    """

    def __init__(self, *, stddev: float, step: float, subject: str) -> None:
        self._subject = subject
        self._step = step
        self._grain = step / stddev
        #: Whole steps of a bin, so that edges lie between grid points and chances are exact.
        self._steps = max(1, math.floor(_WIDTH * stddev / step))
        half = math.ceil(_REACH * stddev / (step * self._steps))
        edges = (np.arange(-half, half + 1) * self._steps - 0.5) * step / stddev
        self._first = half * self._steps
        self._edges = edges
        chances = np.diff(ndtr(edges), prepend=0.0, append=1.0)
        self._chances = chances / chances.sum()
        self._counts = np.zeros(len(chances), dtype=np.int64)

    def add(self, values: Values) -> None:
        """Count values, float64 [n], each a whole number of steps."""
        bins = np.floor((np.rint(values / self._step) + self._first) / self._steps) + 1.0
        np.clip(bins, 0, len(self._counts) - 1, out=bins)
        self._counts += np.bincount(bins.astype(np.int64), minlength=len(self._counts))

    def gates(self) -> list[Gate]:
        """The shape as a whole, and each tail by itself."""
        count = int(self._counts.sum())
        if not count:
            return []
        gates = [self._shape(count)]
        for tail in TAILS:
            # The first edges beyond it by a step: what is cut right there may be rounded up.
            beyond = tail + self._grain
            right = int(np.searchsorted(self._edges, beyond))
            left = int(np.searchsorted(self._edges, -beyond, side="right")) - 1
            found = int(self._counts[right + 1 :].sum() + self._counts[: left + 1].sum())
            chance = float(ndtr(self._edges[left]) + ndtr(-self._edges[right]))
            gates.append(
                count_gate(
                    f"noise beyond {tail} standard deviations",
                    self._subject,
                    found=found,
                    trials=count,
                    probability=chance,
                )
            )
        return gates

    def _shape(self, count: int) -> Gate:
        """Pearson's chi-squared over bins that hold enough."""
        expected, found, group, inside = [], [], 0.0, 0
        for chance, counted in zip(self._chances, self._counts, strict=True):
            group, inside = group + chance * count, inside + int(counted)
            if group >= _LEAST_EXPECTED:
                expected.append(group)
                found.append(inside)
                group, inside = 0.0, 0
        if not expected:
            expected, found = [float(count)], [count]
        else:
            expected[-1] += group
            found[-1] += inside
        distance = float(sum((a - b) ** 2 / b for a, b in zip(found, expected, strict=True)))
        freedom = max(len(expected) - 1, 1)
        return Gate(
            name="shape of the noise (chi-squared)",
            subject=self._subject,
            found=distance,
            expected=float(freedom),
            chance=min(1.0, _ROOM * float(stats.chi2.sf(distance, freedom)))
            if len(expected) > 1
            else 1.0,
        )


class RepeatTally:
    """Noise that came twice: known again by its first values, wherever it came.

    Two rounds, hospitals or trainings that share their noise hide nothing from whoever subtracts.

    Args:
        step: of the grid that values lie on.
        stddev: of the noise.
    """

    def __init__(self, *, step: float, stddev: float) -> None:
        self._step = step
        # The chance of two draws to fall on one grid point: 1 / (2 sqrt(pi) stddev) a step.
        self._alike = min(1.0, step / (2.0 * math.sqrt(math.pi) * stddev))
        self._seen: dict[bytes, str] = {}
        self._count = 0
        self._values = PRINT_VALUES
        self._repeated: list[str] = []

    def add(self, values: Values, where: str) -> None:
        """Take one vector of noise.

        Args:
            values: float64 [n]; its first `PRINT_VALUES` are compared.
            where: for people.
        """
        self._values = min(self._values, len(values))
        whole = np.rint(values[:PRINT_VALUES] / self._step).astype(np.int64)
        mark = hashlib.blake2b(whole.tobytes(), digest_size=16).digest()
        self._count += 1
        if (before := self._seen.setdefault(mark, where)) != where:
            self._repeated.append(f"{where} as {before}")

    def gate(self) -> Gate:
        """Whether all were different."""
        pairs = self._count * (self._count - 1) / 2.0
        chance = min(1.0, pairs * self._alike**self._values) if self._repeated else 1.0
        return Gate(
            name="noise that came before",
            subject=self._repeated[0] if self._repeated else "all rounds, hospitals, trainings",
            found=float(len(self._repeated)),
            expected=0.0,
            chance=chance,
        )


@dataclass(kw_only=True)
class SamplingTally:
    """Who was sampled: the rate, the spread of batch sizes, and independence between rounds.

    Attributes:
        members: canaries that take part.
        rate: q.
        subject: whose samples they are.
    """

    members: int
    rate: float
    subject: str
    sizes: list[int] = field(default_factory=list)
    _times: NDArray[np.int64] | None = None

    def add(self, sampled: NDArray[np.bool_]) -> None:
        """Take one round's sample of the members, bool [members]."""
        self.sizes.append(int(sampled.sum()))
        if self._times is None:
            self._times = np.zeros(self.members, dtype=np.int64)
        self._times += sampled

    def gates(self) -> list[Gate]:
        """The rate; and where chance has a part, batch sizes and how often each one came."""
        rounds, rate = len(self.sizes), self.rate
        gates = [
            count_gate(
                "share of patients in a batch",
                self.subject,
                found=sum(self.sizes),
                trials=self.members * rounds,
                probability=rate,
            )
        ]
        if rate < 1.0 and rounds:
            gates.append(self._sizes())
        if rate < 1.0 and rounds > 1:
            gates.append(self._independence())
        return gates

    def _sizes(self) -> Gate:
        """Poisson samples have batches of random size, and nothing else has this spread."""
        mean, variance = self.members * self.rate, self.members * self.rate * (1.0 - self.rate)
        sizes = np.arange(self.members + 1.0)
        squares = (np.array(self.sizes) - mean) ** 2
        return Gate(
            name="spread of batch sizes",
            subject=self.subject,
            found=float(np.sqrt(squares.mean())),
            expected=math.sqrt(variance),
            chance=sum_chance(
                float(squares.sum()),
                [
                    Draws(
                        values=(sizes - mean) ** 2,
                        log_chances=stats.binom.logpmf(sizes, self.members, self.rate),
                        count=len(self.sizes),
                    )
                ],
            ),
        )

    def _independence(self) -> Gate:
        """How often each one was sampled is binomial, unless one round decides on another.

        The statistic is what the squares of these numbers say beyond the numbers themselves, so
        that a rate that is off is another gate's matter.
        """
        assert self._times is not None
        rounds, rate = len(self.sizes), self.rate
        times = np.arange(rounds + 1.0)
        logs = stats.binom.logpmf(times, rounds, rate)
        law, centred = np.exp(logs), times - rounds * rate
        variance = float(law @ centred**2)
        beyond = times**2 - float(law @ (times**2 * centred)) / variance * times
        return Gate(
            name="times that a patient was sampled: spread",
            subject=self.subject,
            found=float(self._times.std()),
            expected=math.sqrt(variance),
            chance=sum_chance(
                float(beyond[self._times].sum()),
                [Draws(values=beyond, log_chances=logs, count=self.members)],
            ),
        )


def exact_gate(name: str, wrong: int) -> Gate:
    """Whether what must be equal is: there is no chance in it."""
    return Gate(
        name=name,
        subject="all",
        found=float(wrong),
        expected=0.0,
        chance=0.0 if wrong else 1.0,
    )


def overlap_gate(subject: str, *, both: int, trials: int, rate: float) -> Gate:
    """Whether two hospitals sample the same patient independently of each other."""
    return count_gate(
        "patients in both hospitals' batches",
        subject,
        found=both,
        trials=trials,
        probability=rate * rate,
    )


def _two_sided(below: float, above: float) -> float:
    return min(1.0, 2.0 * min(below, above))
