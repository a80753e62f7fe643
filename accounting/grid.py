"""The grid that sealed values live on, planned so that rounding lies inside the privacy proof.

A hospital clamps its sum, adds continuous noise, and rounds *once* to a grid; sealing then adds
whole numbers exactly. What the hospital sends is thus not quite a Gaussian. `plan_grid` picks the
coarsest grid for which the difference costs at most a hundredth of delta and a thousandth of
epsilon, and says what it charged.

- Clamping every coordinate to [-clamp, clamp] is 1-Lipschitz: the sensitivity stays the clip.
- One hospital's rounding is post-processing of its own noisy vector: free. So is cutting its tail.
- A *sum* of m roundings is compared with the rounding of one Gaussian N(mu, S + (m-1)/12), where
  S = m*s^2 and s is the noise of one hospital in grid steps, s >= 3. That Gaussian carries more
  noise than claimed, so its rounding is private. The characteristic functions differ by
  exp(-(m-1)*u^4/2880 + ...): variances agree, and the first difference is in the fourth cumulant.
  At z standard deviations the likelihoods differ by a factor within
  exp(+-c*(z^4 + 6*z^2 + 3)), c = (m-1)/(2880*S^2), and the divergence is 12*c^2; the tests
  check both by exact convolution, fractional means included.
- Floating point moves the edges of the grid's cells by a few 1e-15, so a draw's likelihood by a
  factor within 1 +- r.
- Over n adaptive draws such log-likelihoods add up to a drift at most, but with probability
  delta' (Freedman 1975). On both of two neighbours this adds twice the drift to epsilon, and
  (1 + e^epsilon)*delta' to delta. It needs far fewer bits than Pinsker's inequality, whose total
  variation would be multiplied by e^epsilon; there delta' appears in a logarithm only.
- Noise in parts (`accounting.parts`) that are taken out of a sum shifts means by what is known. So
  the likelihoods are those of the noise that *stays*: rounding is charged for the worst number of
  missing hospitals, floating point for what stays with nobody missing.
- Cutting noise off at `tail` standard deviations costs, in total variation, the probability
  that any draw lies beyond; `tail` has room for observers of a larger epsilon than planned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from accounting.errors import AccountingError
from accounting.events import check_delta
from accounting.noise import NoisePlan
from accounting.parts import NoiseParts
from accounting.rounding import coarsest_noise, floating_drift, rounding_drift, sum_rounding_kl

DELTA_SLACK = 0.01  # the share of delta that the grid may use
EPSILON_SLACK = 1e-3  # the share of epsilon (and at most this) that it may use
MAX_BITS = 40  # float64 holds value, noise and bound together with 12 bits to spare
# The share of delta for each of five events: a draw beyond the reach and log-likelihoods beyond the
# drift, of rounding and of floating point each, and a draw beyond the tail. Together they charge
# 5*_PART*delta = 0.9*DELTA_SLACK*delta; the last tenth is for delta*expm1(drift), see `slack_at`.
_PART = 0.9 * DELTA_SLACK / 5
_TAIL_ROOM = 20.0  # the tail is planned for this much more epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """A grid, and what it charges.

    Attributes:
        step: distance of two grid points, in gradient units.
        bound: values are clipped to [-bound, bound] after noise; a whole number of steps.
        clamp: values are clipped to [-clamp, clamp] before noise, coordinate by coordinate.
        tail: noise that `bound` leaves room for, in standard deviations.
        noise_stddev: standard deviation of one hospital's noise, in gradient units; 0: none.
        draws: noise values drawn in the whole run by all hospitals (K*d*T, for each part).
        sums: coordinates of all opened sums of the run (d*T).
        summed: the fewest honest contributions in a sum that an observer cannot take apart; 1
            where rounding is post-processing for everybody. It is with as many missing as planned.
        kl: divergence of all opened sums together from a Gaussian, rounded.
        epsilon_slack: what rounding and floating point add to the planned epsilon.
        delta_slack: what the grid takes from delta at the planned epsilon, all together.
        parts: of one hospital's noise, in gradient units; None where it is whole.
    """

    step: float
    bound: float
    clamp: float
    tail: float
    noise_stddev: float
    draws: float
    sums: float
    summed: int
    kl: float
    epsilon_slack: float
    delta_slack: float
    parts: NoiseParts | None = None

    @property
    def levels(self) -> int:
        """Number of grid points, 0 .. levels-1."""
        return 2 * round(self.bound / self.step) + 1

    @property
    def bits(self) -> int:
        """Bits of a field that holds one level."""
        return (self.levels - 1).bit_length()

    def slack_at(
        self, epsilon: float, delta: float, *, single_update: bool = False, unplanned: int = 0
    ) -> tuple[float, float]:
        """What the grid adds to an observer's epsilon and takes from its delta.

        If the ideal run is (epsilon, delta0)-private, the run on the grid is (epsilon + first,
        delta0 + second)-private. An observer of single updates is not charged for rounding: it
        is post-processing of one noisy vector.

        Args:
            epsilon: of the ideal run, or more.
            delta: of the claim, a part of which pays for floating point.
            single_update: whether the observer sees single updates rather than sums.
            unplanned: contributions of a sum that the observer takes off beyond those planned for.
        """
        if self.noise_stddev == 0.0:
            return 0.0, 0.0
        log_part = _log_part(epsilon, delta)
        reach = _reach(log_part, self.draws)
        drift = self._floating_drift(reach, log_part)
        charged = 2.0 * _PART * delta
        if not single_update and self.summed > 1:
            drift += max(
                rounding_drift(
                    max(1, summed - unplanned), kept / self.step, reach, self.sums, log_part
                )
                for summed, kept in _stays(self.summed, self.noise_stddev, self.parts)
            )
            beyond = math.log(2.0 * self.draws) + float(log_ndtr(-self.tail))
            beyond += float(np.logaddexp(0.0, epsilon))
            charged += 2.0 * _PART * delta + math.exp(min(beyond, 100.0))
        drift *= 2.0  # once on each of two neighbours
        grown = min(
            drift, 700.0
        )  # beyond which e^drift is no float64, and nothing is left of delta
        return drift, charged * math.exp(grown) + delta * math.expm1(grown)

    def _floating_drift(self, reach: float, log_part: float) -> float:
        stddevs = self.parts.stddevs if self.parts else (self.noise_stddev,)
        return floating_drift(
            stddevs[0] / self.step,
            reach,
            self.draws,
            log_part,
            parts=len(stddevs),
            spread=sum(stddevs) / stddevs[0],
        )

    def to_json(self) -> dict[str, object]:
        """Everything, JSON-ready, for `privacy.json`."""
        return {**asdict(self), "levels": self.levels, "bits": self.bits}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GridPlan:
        """Read `to_json`, and what it wrote before there were parts."""
        known = {one.name for one in fields(cls)} & set(record)
        parts = record.get("parts")
        read = NoiseParts(**{k: tuple(v) for k, v in parts.items()}) if parts else None
        return cls(**{**{name: record[name] for name in known}, "parts": read})


def plan_grid(
    *,
    dimensions: int,
    hospitals: int,
    plan: NoisePlan,
    l2_clip: float,
    expected_patients: float,
    rounds: int,
    epsilon: float,
    delta: float,
    bits: int = 20,
) -> GridPlan:
    """The coarsest grid on which the run's rounding costs at most delta/100 and epsilon/1000.

    Guarantee: if the ideal run (Gaussian noise, real numbers) is (epsilon - epsilon_slack,
    delta - delta_slack)-private for neighbours that differ by one patient at one hospital, then the
    run on this grid is (epsilon, delta)-private. Only public numbers enter.

    Args:
        dimensions: d, values in a vector.
        hospitals: K, as in the plan.
        plan: the noise plan; for "none" the grid has `bits` bits and charges nothing.
        l2_clip: C, in gradient units.
        expected_patients: largest expected batch of a hospital, q * max N_k. The clamp is reached
            only by a batch 4 standard deviations larger all of whose gradients point along one
            coordinate; it changes the result then, never the guarantee.
        rounds: T, attempts included.
        epsilon: the epsilon of the claim.
        delta: the delta of the claim.
        bits: precision where there is no noise.

    Raises:
        AccountingError: a parameter is out of range, or no grid of `MAX_BITS` bits is enough.
    """
    _check(dimensions, hospitals, plan, l2_clip, expected_patients, rounds, epsilon, delta)
    clamp = l2_clip * (expected_patients + 4.0 * math.sqrt(expected_patients) + 4.0)
    stddev = plan.stddev_per_hospital(l2_clip)
    if stddev == 0.0:
        return _noiseless_grid(clamp, bits)
    sums = float(dimensions) * max(rounds, 1)
    return _noised_grid(
        clamp,
        stddev,
        sums=sums,
        draws=sums * hospitals * (len(plan.parts.stddevs) if plan.parts else 1),
        summed=_least_summed(plan),
        parts=plan.parts.scaled(l2_clip) if plan.parts else None,
        epsilon=epsilon,
        delta=delta,
    )


def _noiseless_grid(clamp: float, bits: int) -> GridPlan:
    """A grid of so many bits up to the clamp: nothing is noised, nothing is charged."""
    if not 2 <= bits <= MAX_BITS:
        raise AccountingError(f"bits is {bits}, expected 2 .. {MAX_BITS}")
    half = 2 ** (bits - 1) - 1
    step = clamp / half
    return GridPlan(
        step=step,
        bound=half * step,
        clamp=clamp,
        tail=0.0,
        noise_stddev=0.0,
        draws=0.0,
        sums=0.0,
        summed=1,
        kl=0.0,
        epsilon_slack=0.0,
        delta_slack=0.0,
    )


def _noised_grid(
    clamp: float,
    stddev: float,
    *,
    sums: float,
    draws: float,
    summed: int,
    parts: NoiseParts | None,
    epsilon: float,
    delta: float,
) -> GridPlan:
    """The coarsest grid for noise: its step by what rounding may cost, its bound by the tail."""
    log_part = _log_part(epsilon, delta)
    allowed = EPSILON_SLACK * min(epsilon, 1.0)
    reach, stays = _reach(log_part, draws), _stays(summed, stddev, parts)
    step = min(
        kept / coarsest_noise(count, sums, reach, log_part, allowed / 4.0) for count, kept in stays
    )
    tail = _reach(_log_part(epsilon + _TAIL_ROOM, delta), draws)
    bound_steps = math.ceil((clamp + tail * stddev) / step)
    if 2 * bound_steps + 1 > 2**MAX_BITS:
        raise AccountingError(
            f"rounding at epsilon {epsilon:g} needs more than {MAX_BITS} bits per value, expected "
            "fewer patients in a round, fewer rounds, more noise, or a larger target"
        )
    grid = GridPlan(
        step=step,
        bound=bound_steps * step,
        clamp=clamp,
        tail=tail,
        noise_stddev=stddev,
        draws=draws,
        sums=sums,
        summed=summed,
        kl=sums * max(sum_rounding_kl(count, kept / step) for count, kept in stays),
        epsilon_slack=0.0,
        delta_slack=0.0,
        parts=parts,
    )
    return _charged(grid, epsilon, delta, allowed)


def _stays(summed: int, stddev: float, parts: NoiseParts | None) -> list[tuple[int, float]]:
    """Honest contributions of a sum and what stays of each one's noise, for all that may miss."""
    if parts is None:  # with fewer missing there is only more of the same
        return [(summed, stddev)]
    most = parts.levels[-1]
    return [(summed + most - missing, parts.kept(missing)) for missing in range(most + 1)]


def _charged(grid: GridPlan, epsilon: float, delta: float, allowed: float) -> GridPlan:
    """The grid with what it charges at the planned epsilon, which may be `allowed` at most."""
    epsilon_slack, delta_slack = grid.slack_at(epsilon, delta)
    if epsilon_slack > allowed:
        raise AccountingError(
            f"floating point costs epsilon {epsilon_slack:.2g} over {grid.draws:.2g} draws, "
            f"expected at most {allowed:.2g}: fewer rounds, more noise, or a larger target"
        )
    return replace(grid, epsilon_slack=epsilon_slack, delta_slack=delta_slack)


def _check(
    dimensions: int,
    hospitals: int,
    plan: NoisePlan,
    l2_clip: float,
    expected_patients: float,
    rounds: int,
    epsilon: float,
    delta: float,
) -> None:
    check_delta(delta)
    if dimensions < 1 or rounds < 0:
        raise AccountingError(f"dimensions {dimensions} (>= 1) or rounds {rounds} (>= 0)")
    if hospitals != plan.hospitals:
        raise AccountingError(f"the grid is for {hospitals} hospitals, the plan {plan.hospitals}")
    if not (l2_clip > 0.0 and math.isfinite(l2_clip)):
        raise AccountingError(f"l2_clip is {l2_clip}, expected > 0 and finite")
    if not (expected_patients >= 0.0 and math.isfinite(expected_patients)):
        raise AccountingError(f"expected_patients is {expected_patients}, expected >= 0")
    if plan.name != "none" and not (epsilon > 0.0 and math.isfinite(epsilon)):
        raise AccountingError(f"epsilon is {epsilon}, expected > 0 and finite")


def _log_part(epsilon: float, delta: float) -> float:
    """The log of delta', with (1 + e^epsilon)*delta' = _PART*delta: one event's probability.

    If P and Q, of two neighbours, are within total variation delta' of an (epsilon, delta0)-private
    pair P', Q', then P(S) <= P'(S) + delta' <= e^epsilon*Q'(S) + delta0 + delta'
    <= e^epsilon*Q(S) + delta0 + (1 + e^epsilon)*delta'.
    """
    return math.log(_PART * delta) - float(np.logaddexp(0.0, epsilon))


def _reach(log_part: float, draws: float) -> float:
    """The z with 2*draws*Phi(-z) = e^log_part: all draws lie within it, but for that probability.

    A union bound over both tails of every draw; Phi is the standard normal distribution function.
    """
    return -float(ndtri_exp(log_part - math.log(2.0 * draws)))


def _least_summed(plan: NoisePlan) -> int:
    """The fewest honest shares, 2 or more, in a sum that some observer cannot take apart.

    1 means that rounding is post-processing for everybody: one party, or noise that is enough in
    each update alone. Any other hospital knows its own share, hence max(c, 1).
    """
    if plan.name != "semi-central" or plan.hospitals == 1:
        return 1
    return max(2, plan.hospitals - plan.dropouts - max(plan.colluders, 1))
