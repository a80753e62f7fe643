"""The grid that sealed values live on, planned so that rounding lies inside the privacy proof.

A hospital clamps its sum, adds continuous noise, and rounds *once* to a grid; sealing then adds
whole numbers exactly. What the hospital sends is thus not quite a Gaussian, and `plan_grid` picks
the grid so that the difference costs at most a hundredth of delta, and says what it charged.

- Clamping every coordinate to [-clamp, clamp] is 1-Lipschitz: the sensitivity stays the clip.
- One hospital's rounding is post-processing of its own noisy vector: free. So is the tail clamp.
- A *sum* of m roundings is compared with the rounding of N(mu, S + (m-1)/12), S = m*s^2, s the
  noise of one hospital in grid steps (s >= 3). That one carries more noise than claimed, so it is
  private; it differs by KL <= ((m-1) / (120*S^2))^2 / 48 a coordinate: the variances agree, and the
  first cumulant that does not is the fourth, (m-1)/120. The tests check it by exact
  convolution. KL adds over coordinates and adaptive rounds; the total variation is at most
  sqrt(KL/2) (Pinsker), and delta grows by (1 + e^epsilon) times it.
- Cutting noise off at `tail` standard deviations costs, in total variation, the probability
  that any draw lies beyond.
- Floating point moves the edges of the grid's cells by a few 1e-15, so a draw's likelihood by a
  factor 1 +- r; over n draws the log-likelihood moves by at most n*r^2 + r*sqrt(2*n*log(1/delta'))
  but with probability delta' (Azuma 1967). That is charged to epsilon, twice.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from accounting.errors import AccountingError
from accounting.events import check_delta
from accounting.noise import NoisePlan
from accounting.randomness import NORMAL_ERROR, Stream

DELTA_SLACK = 0.01  # the share of delta that the grid may use
EPSILON_SLACK = 1e-3  # the share of epsilon that floating point may use
# Two parts for rounding, one for the tail clamp, two for floating point; a little is left over.
_PART = 0.9 * DELTA_SLACK / 5
MIN_STEPS = 3.0  # noise of one hospital in grid steps; the KL bound needs it
MAX_BITS = 40  # float64 holds value, noise and bound together with 12 bits to spare
# n*s, f + n*s: two roundings of a number of size (|n| + 1)*s, beside the sampler's own error.
_EDGE_ERROR = NORMAL_ERROR + 2.0**-52
# Dividing by the step rounds, so sensitivity grows by parts in 1e11 at most: cover it with noise.
_NOISE_MARGIN = 1.0 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlan:
    """A grid, and what it charges.

    Attributes:
        step: distance of two grid points, in gradient units.
        bound: values are clipped to [-bound, bound] after noise; a whole number of steps.
        clamp: values are clipped to [-clamp, clamp] before noise, coordinate by coordinate.
        tail: noise that `bound` leaves room for, in standard deviations.
        noise_stddev: standard deviation of one hospital's noise, in gradient units; 0: none.
        draws: noise values drawn in the whole run by all hospitals (K*d*T).
        kl: bound on the KL divergence of all opened sums from a Gaussian, rounded.
        total_variation: of rounding and of the tail clamp together, over the whole run.
        epsilon_slack: what floating point adds to the planned epsilon.
        delta_slack: what the grid takes from delta at the planned epsilon, all together.
    """

    step: float
    bound: float
    clamp: float
    tail: float
    noise_stddev: float
    draws: float
    kl: float
    total_variation: float
    epsilon_slack: float
    delta_slack: float

    @property
    def levels(self) -> int:
        """Number of grid points, 0 .. levels-1."""
        return 2 * round(self.bound / self.step) + 1

    @property
    def bits(self) -> int:
        """Bits of a field that holds one level."""
        return (self.levels - 1).bit_length()

    def slack_at(
        self, epsilon: float, delta: float, *, single_update: bool = False
    ) -> tuple[float, float]:
        """What the grid adds to an observer's epsilon and takes from its delta.

        If the ideal run is (epsilon, delta0)-private, the run on the grid is (epsilon + first,
        delta0 + second)-private. An observer of single updates is not charged for rounding: it
        is post-processing of one noisy vector.

        Args:
            epsilon: of the ideal run, or more.
            delta: of the claim, a part of which pays for floating point.
            single_update: whether the observer sees single updates rather than sums.
        """
        if self.noise_stddev == 0.0:
            return 0.0, 0.0
        log_part = _log_part(epsilon, delta)
        reach = _reach(log_part, self.draws)
        steps = self.noise_stddev / self.step
        drift = 2.0 * _likelihood_drift(steps, reach, self.draws, log_part)
        charged = delta * (2.0 * _PART * math.exp(drift) + math.expm1(drift))
        if not single_update:
            log_charge = math.log(self.total_variation) + float(np.logaddexp(0.0, epsilon + drift))
            charged += math.exp(min(log_charge, 700.0))
        return drift, charged

    def to_json(self) -> dict[str, float]:
        """Everything, JSON-ready, for `privacy.json`."""
        return {**asdict(self), "levels": self.levels, "bits": self.bits}


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
    """The coarsest grid on which the whole run's rounding costs at most delta/100.

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
        epsilon: the epsilon of the claim; the grid gets finer as e^(epsilon/4).
        delta: the delta of the claim.
        bits: precision where there is no noise.

    Raises:
        AccountingError: a parameter is out of range, or no grid of `MAX_BITS` bits is enough.
    """
    _check(dimensions, hospitals, plan, l2_clip, expected_patients, rounds, epsilon, delta)
    clamp = l2_clip * (expected_patients + 4.0 * math.sqrt(expected_patients) + 4.0)
    stddev = plan.stddev_per_hospital(l2_clip)
    if stddev == 0.0:
        return _plain_grid(clamp, bits)
    draws = float(dimensions) * hospitals * max(rounds, 1)
    log_part = _log_part(epsilon, delta)
    tail = _reach(log_part, draws)
    seen = _least_seen(plan)
    steps, kl = _noise_in_steps(seen, dimensions * max(rounds, 1), log_part)
    step = stddev / steps
    bound_steps = math.ceil((clamp + tail * stddev) / step)
    if 2 * bound_steps + 1 > 2**MAX_BITS:
        raise AccountingError(
            f"rounding at epsilon {epsilon:g} needs more than {MAX_BITS} bits a value: lower "
            "epsilon by a larger noise_multiplier, or use the local noise plan"
        )
    grid = GridPlan(
        step=step,
        bound=bound_steps * step,
        clamp=clamp,
        tail=tail,
        noise_stddev=stddev,
        draws=draws,
        kl=kl,
        total_variation=math.sqrt(kl / 2.0) + math.exp(log_part),
        epsilon_slack=0.0,
        delta_slack=0.0,
    )
    epsilon_slack, delta_slack = grid.slack_at(epsilon, delta)
    if epsilon_slack > EPSILON_SLACK * min(epsilon, 1.0):
        raise AccountingError(
            f"floating point costs epsilon {epsilon_slack:.2g} over {draws:.2g} draws, expected at "
            f"most {EPSILON_SLACK * min(epsilon, 1.0):.2g}: fewer rounds, or a larger epsilon"
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
    """One part of the slack, as the log of a total variation at this epsilon."""
    return math.log(_PART * delta) - float(np.logaddexp(0.0, epsilon))


def _reach(log_part: float, draws: float) -> float:
    """Standard deviations beyond which one of so many draws lies with that log-probability."""
    return -float(ndtri_exp(log_part - math.log(2.0 * draws)))


def _plain_grid(clamp: float, bits: int) -> GridPlan:
    if not 2 <= bits <= MAX_BITS:
        raise AccountingError(f"bits is {bits}, expected 2 .. {MAX_BITS}")
    steps = 2 ** (bits - 1) - 1
    step = clamp / steps
    return GridPlan(
        step=step,
        bound=steps * step,
        clamp=clamp,
        tail=0.0,
        noise_stddev=0.0,
        draws=0.0,
        kl=0.0,
        total_variation=0.0,
        epsilon_slack=0.0,
        delta_slack=0.0,
    )


def _least_seen(plan: NoisePlan) -> int:
    """The fewest honest shares, 2 or more, in a sum that some observer cannot take apart.

    1 means that rounding is post-processing for everybody: one party, or noise that is enough in
    each update alone. Any other hospital knows its own share, hence max(c, 1).
    """
    if plan.name != "semi-central" or plan.hospitals == 1:
        return 1
    return max(2, plan.hospitals - plan.dropouts - max(plan.colluders, 1))


def sum_rounding_kl(contributions: int, steps: float) -> float:
    """Bound on KL(sum of m rounded Gaussians || rounded Gaussian), one coordinate, in nats.

    The second Gaussian has variance m*steps^2 + (m-1)/12 in squared grid steps. Holds for
    steps >= 3 and any means. Leading term of the Edgeworth expansion in the fourth cumulant,
    kappa4^2 / (48 * S^4) with kappa4 = (m-1)/120; tests check it by exact convolution.
    """
    if contributions < 1 or steps < MIN_STEPS:
        raise AccountingError(f"{contributions} contributions at {steps} steps, expected >= 1, 3")
    variance = contributions * steps**2
    return ((contributions - 1) / (120.0 * variance**2)) ** 2 / 48.0


def _noise_in_steps(seen: int, coordinates: int, log_part: float) -> tuple[float, float]:
    """Noise of a hospital in steps so that rounding takes two parts, and the run's KL."""
    if seen == 1:
        return MIN_STEPS, 0.0
    log_kl = 2.0 * (log_part + math.log(2.0)) + math.log(2.0 / coordinates)  # a coordinate
    log_fourth = math.log((seen - 1) / (120.0 * seen**2)) - 0.5 * (math.log(48.0) + log_kl)
    steps = max(MIN_STEPS, math.exp(log_fourth / 4.0))
    return steps, coordinates * sum_rounding_kl(seen, steps)


def _likelihood_drift(steps: float, tail: float, draws: float, log_part: float) -> float:
    """How far floating point moves the log-likelihood of all draws, but for e^log_part."""
    # An edge at x moves by up to _EDGE_ERROR*(|x| + 1); a cell is 1/steps wide, and the density
    # varies in it and beside it by at most e^((tail + 1)/steps).
    edge = _EDGE_ERROR * (tail + 1.0)
    ratio = 2.0 * edge * steps * math.exp((tail + 1.0) / steps)
    return draws * ratio**2 + ratio * math.sqrt(-2.0 * draws * log_part)


def noised(
    values: NDArray[np.float64], grid: GridPlan, stream: Stream | None
) -> NDArray[np.float64]:
    """Clamp, add noise, round once: the only thing a hospital may seal.

    Guarantee: that of the plan the grid was made for, with the grid's slack.

    Args:
        values: the hospital's sum of clipped contributions, float64 [d], gradient units.
        grid: the plan; its `noise_stddev` is added.
        stream: where noise comes from; may be None where the plan adds none.

    Returns:
        float64 [d], every value a whole number of steps within +-bound (sealing it rounds to
        the same whole number again).

    Raises:
        AccountingError: a value is not finite, or noise is due and no stream is given.
    """
    if not np.all(np.isfinite(values)):
        raise AccountingError("a value to be noised is not finite")
    scaled = np.clip(values, -grid.clamp, grid.clamp) / grid.step
    whole = np.rint(scaled)
    if grid.noise_stddev > 0.0:
        if stream is None:
            raise AccountingError("noise is due, but no stream of randomness was given")
        # The fraction alone meets the noise, so that no digit of it is lost to a large sum.
        draws = stream.normal(values.size).reshape(values.shape)
        draws *= grid.noise_stddev / grid.step * _NOISE_MARGIN
        draws += scaled - whole
        whole += np.rint(draws)
    limit = (grid.levels - 1) // 2
    result: NDArray[np.float64] = np.clip(whole, -limit, limit) * grid.step
    return result
