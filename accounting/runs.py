"""A run as far as its observers matter, and which noise goes with which exchange."""

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
from accounting.noise import REGIME_PLANS, NoisePlan, make_noise_plan

SUMMED = ("gradients", "weights")  # exchanges whose sums alone are opened
VISITING = ("cyclic", "single", "ensemble")  # exchanges in which a model is private by itself
EXCHANGES = (*SUMMED, *VISITING, "layers")
SEALING_SCHEMES = ("bfv", "ckks", "masks")  # schemes that hide single updates from the server


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDescription:
    """A run, as far as its observers matter. Everything here is public.

    Attributes:
        regime: "C", "CDP", "F", "FPDP" or "FSCDP".
        exchange: one of `EXCHANGES`; pooled regimes have none, whatever stands here.
        scheme: the sealing scheme; "plain" and "modular" hide nothing.
        hospitals: K.
        dropouts: hospitals that may be missing from a sum.
        colluders: hospitals that may pool what they know.
        sampling_rate: q of every round; 1 for `layers`, which credits no sampling.
        noise_multiplier: sigma; 0 in regimes C and F.
        rounds: noised steps that a patient may enter, retries included: T; for cyclic, single and
            ensemble those at the patient's own hospital; for layers the releases of one record.
        delta: at which epsilon is stated.
        seeded: whether randomness came from a seed.
        sampling: "poisson"; anything else is accounted for without amplification.
        schedules: (sampling rate, rounds) of each hospital where they differ; the run's epsilon
            is the largest.
        shared_hospitals: the m of the rows "a patient in m hospitals".
        grid: the planned grid, whose slack is then charged.
        messages: of `layers`, noised messages about a record in each release: the activation and
            the head's loss gradient, and a third where sums of the layers at home are opened.
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
    sampling: str = "poisson"
    schedules: tuple[tuple[float, int], ...] = ()
    shared_hospitals: tuple[int, ...] = (2,)
    grid: GridPlan | None = None
    messages: int = 2

    def __post_init__(self) -> None:
        if self.regime not in REGIME_PLANS:
            known = ", ".join(REGIME_PLANS)
            raise AccountingError(f"regime is {self.regime!r}, expected one of {known}")
        if self.exchange not in EXCHANGES:
            known = ", ".join(EXCHANGES)
            raise AccountingError(f"exchange is {self.exchange!r}, expected one of {known}")
        if self.regime == "FSCDP" and self.exchange not in SUMMED:
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
        self.plan()

    @property
    def noisy(self) -> bool:
        """Whether the regime adds noise at all."""
        return REGIME_PLANS[self.regime] != "none"

    @property
    def pooled(self) -> bool:
        """Whether a curator holds all the data."""
        return self.regime in ("C", "CDP")

    @property
    def releases(self) -> tuple[tuple[float, int], ...]:
        """(sampling rate, noised messages) of a patient at each kind of hospital."""
        schedules = self.schedules or ((self.sampling_rate, self.rounds),)
        if self.exchange == "layers" and not self.pooled:
            return tuple((1.0, self.messages * rounds) for _, rounds in schedules)
        if self.sampling != "poisson":
            return tuple((1.0, rounds) for _, rounds in schedules)
        return schedules

    def plan(self) -> NoisePlan:
        """The run's noise plan."""
        return make_noise_plan(
            REGIME_PLANS[self.regime],
            noise_multiplier=self.noise_multiplier if self.noisy else 0.0,
            hospitals=self.hospitals,
            dropouts=self.dropouts,
            colluders=self.colluders,
        )
