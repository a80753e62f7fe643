"""A run as far as its observers matter: public numbers, held against each other when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from accounting.errors import AccountingError
from accounting.events import (
    check_delta,
    check_noise_multiplier,
    check_rounds,
    check_sampling_rate,
)
from accounting.grid import GridPlan
from accounting.noise import NoisePlan, make_noise_plan
from accounting.vocabulary import EXCHANGES, REGIMES, SCHEMES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """A run, as far as its observers matter. Everything here is public.

    Attributes:
        regime: a name in `REGIMES`.
        exchange: a name in `EXCHANGES`; pooled regimes have none, whatever stands here.
        scheme: a name in `SCHEMES`.
        hospitals: K.
        dropouts: hospitals that may be missing from a sum.
        colluders: hospitals that may pool what they know.
        sampling_rate: q of every round; 1 for `layers`, which credits no sampling.
        noise_multiplier: sigma; 0 in regimes C and F.
        rounds: noised steps that a patient may enter, retries included: T; for cyclic, single and
            ensemble those at the patient's own hospital; for layers the releases of one record.
        delta: at which epsilon is stated.
        seeded: whether randomness came from a seed.
        schedules: (sampling rate, rounds) of each hospital where they differ; the run's epsilon
            is the largest.
        shared_hospitals: the m of the rows "a patient in m hospitals".
        grid: the planned grid, whose slack is then charged.
        messages: of `layers`, noised messages about a record in each release: the activation and
            the head's loss gradient, and a third where sums of the layers at home are opened.
        held: hospitals that may work with the server before shared keys open single updates.
        group: hospitals whose sum is opened apart from others'; 0: one sum of all.
    """

    regime: str
    hospitals: int
    sampling_rate: float
    noise_multiplier: float
    rounds: int
    delta: float
    exchange: str = "gradients"
    scheme: str = "bfv"
    dropouts: int = 0
    colluders: int = 0
    seeded: bool = False
    schedules: tuple[tuple[float, int], ...] = ()
    shared_hospitals: tuple[int, ...] = (2,)
    grid: GridPlan | None = None
    messages: int = 2
    held: int | None = None
    group: int = 0

    def __post_init__(self) -> None:
        for word, table in (("regime", REGIMES), ("exchange", EXCHANGES), ("scheme", SCHEMES)):
            if (name := getattr(self, word)) not in table:
                raise AccountingError(f"{word} is {name!r}, expected one of {', '.join(table)}")
        if self.regime == "FSCDP" and not self.sums_alone:
            raise AccountingError(
                f"exchange {self.exchange} with regime FSCDP: a share of the noise protects only "
                "inside a sum, use FPDP"
            )
        check_delta(self.delta)
        check_rounds(self.rounds)
        if self.noisy:
            check_noise_multiplier(self.noise_multiplier)
            for sampling_rate, rounds in self.releases:
                check_sampling_rate(sampling_rate)
                check_rounds(rounds)
        self._check_held()
        if self.group and (self.pooled or not self.sums_alone or self.hospitals % self.group):
            raise AccountingError(
                f"groups of {self.group}, expected a divisor of {self.hospitals} hospitals whose "
                "sums alone leave them"
            )
        self.plan()

    def _check_held(self) -> None:
        """Refuse a claim about shared keys that does not say whom they hold against."""
        shared = (
            SCHEMES[self.scheme].sums_alone
            and EXCHANGES[self.exchange].sums
            and bool(self.dropouts)
            and not self.pooled
        )
        if shared and self.held is None:
            raise AccountingError(
                f"dropouts is {self.dropouts} under {self.scheme}: expected as well how many "
                "hospitals its shared keys are held against"
            )
        if self.held is not None and not (shared and 0 <= self.held < self.in_sum):
            raise AccountingError(
                f"held is {self.held}, but keys are not shared, or not among so many"
            )

    @property
    def in_sum(self) -> int:
        """How many hospitals share the noise of one opened sum: K, or those of a group.

        Of sums of single updates nobody shares any, so it is planned as for all.
        """
        return self.group if self.group > 1 else self.hospitals

    @property
    def noisy(self) -> bool:
        """Whether the regime adds noise at all."""
        return REGIMES[self.regime].private

    @property
    def pooled(self) -> bool:
        """Whether a curator holds all the data."""
        return REGIMES[self.regime].pooled

    @property
    def sums_alone(self) -> bool:
        """Whether opened sums are all that leaves hospitals."""
        return EXCHANGES[self.exchange].sums_alone

    @property
    def sealed(self) -> bool:
        """Whether the scheme hides single updates from the server."""
        return SCHEMES[self.scheme].hides

    @property
    def releases(self) -> tuple[tuple[float, int], ...]:
        """(sampling rate, noised messages) of a patient at each kind of hospital."""
        schedules = self.schedules or ((self.sampling_rate, self.rounds),)
        if self.exchange == "layers" and not self.pooled:
            return tuple((1.0, self.messages * rounds) for _, rounds in schedules)
        return schedules

    def plan(self) -> NoisePlan:
        """The run's noise plan."""
        return make_noise_plan(
            REGIMES[self.regime].noise,
            noise_multiplier=self.noise_multiplier if self.noisy else 0.0,
            hospitals=self.in_sum,
            dropouts=self.dropouts,
            colluders=self.colluders,
            removable=SCHEMES[self.scheme].sums_alone,
        )
