"""What a run claims, computed another way: privacy losses put together on a grid of their own.

No accountant of the run is asked. Of the mechanism that the ledgers tell of, a Gaussian of their
noise over a Poisson sample of their rate, the law of the privacy loss is tabulated in both
directions and composed by Fourier transforms. Bins are rounded to the nearest, so a value is within
a thousandth of the truth, on either side.

Source: Koskela, Jälkö and Honkela (2020), "Computing tight differential privacy guarantees using
FFT".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from accounting.accountants import ACCOUNTANTS
from accounting.audit_gates import Gate
from accounting.events import GaussianEvent
from simulations.audit.gates import exact_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import Settings

    Floats = NDArray[np.float64]

#: Bins of a privacy loss, and points at which one is tabulated.
_BINS, _POINTS = 2**15, 20_001
#: How far out noise is tabulated, and losses are kept, in standard deviations.
_REACH = 12.0
#: By how much a claim may be below what is found here.
TOLERANCE = 5e-3
#: Rate, noise and number of sums at which accountants are tried: rare and frequent, faint and loud.
TRIED = (
    (0.01, 0.6, 1_000),
    (0.05, 1.0, 60),
    (0.2, 2.0, 60),
    (0.25, 0.5, 3),
    (0.5, 4.0, 400),
    (1.0, 3.0, 10),
)
_SHARED = re.compile(r"patient in (\d+) hospitals")


@lru_cache(maxsize=256)
def loss_epsilon(
    rate: float, noise: float, count: int, delta: float, *, hospitals: int = 1
) -> float:
    """Return epsilon at delta of so many noised sums.

    Args:
        rate: with which a patient is in a sum, at each hospital that knows them.
        noise: of a sum, in clips.
        count: of sums.
        delta: of the guarantee.
        hospitals: that know the patient, and add up to one sum.
    """
    x = np.linspace(-_REACH * noise, hospitals + _REACH * noise, _POINTS)
    moved = np.arange(hospitals + 1.0)
    weights = stats.binom.pmf(moved, hospitals, rate)
    # Where noise is faint a ratio itself can be beyond float64; its logarithm is not.
    ratios = (moved[:, None] * x - moved[:, None] ** 2 / 2) / noise**2
    ratio = logsumexp(stats.binom.logpmf(moved, hospitals, rate)[:, None] + ratios, axis=0)
    without = stats.norm.pdf(x, scale=noise)
    with_patient = weights @ stats.norm.pdf(x[None], loc=moved[:, None], scale=noise)
    return max(
        _composed(ratio, with_patient, count, delta), _composed(-ratio, without, count, delta)
    )


def _composed(losses: Floats, density: Floats, count: int, delta: float) -> float:
    """Return epsilon at delta of a loss with this density, on an even grid, composed."""
    chances = density / density.sum()
    mean = float(chances @ losses)
    stddev = math.sqrt(float(chances @ (losses - mean) ** 2))
    span = 2.0 * _REACH * stddev * math.sqrt(count) + 2.0 * float(np.ptp(losses))
    width = max(span, 1e-9) / _BINS
    bins = np.rint((losses - mean) / width).astype(np.int64) % _BINS
    law = np.bincount(bins, weights=chances, minlength=_BINS)
    total = np.fft.irfft(np.fft.rfft(law) ** count, _BINS)
    numbers = (np.arange(_BINS) + _BINS // 2) % _BINS - _BINS // 2
    order = np.argsort(numbers)
    values = count * mean + width * numbers[order]
    chance = np.maximum(total[order], 0.0)
    # delta(e) = sum over losses l > e of (1 - exp(e - l)) p(l), which falls as e grows
    low, high = 0.0, max(float(values[-1]), 0.0)
    for _ in range(60):
        middle = (low + high) / 2.0
        beyond = values > middle
        left = float(chance[beyond] @ -np.expm1(middle - values[beyond]))
        low, high = (middle, high) if left > delta else (low, middle)
    return high


def accountant_gate() -> Gate:
    """Return whether accountants claim no less than what is found here."""
    faults = []
    for rate, noise, count in TRIED:
        event = GaussianEvent(sampling_rate=rate, noise_multiplier=noise, count=count)
        least = loss_epsilon(rate, noise, count, 1e-5)
        for name, accountant in ACCOUNTANTS.items():
            if (said := accountant([event], 1e-5)) < (1.0 - TOLERANCE) * least:
                faults.append(f"{name} says {said:.4g} of {event}, which costs {least:.4g}")
    return exact_gate("accountants claim no less than privacy losses cost", faults)


def claim_faults(
    said: Mapping[str, Any],
    settings: Settings,
    faced: Mapping[str, float | None],
    counts: Sequence[int],
    rate: float,
) -> Iterator[str]:
    """Yield what a run's statement claims and its ledgers do not bear out.

    Args:
        said: `privacy.json`.
        settings: of the run.
        faced: noise that observers face, in clips, by a name in ledgers.
        counts: noised sums about a patient in each hospital's ledger.
        rate: with which patients are in one.
    """
    delta, most = settings.privacy.delta, max(counts, default=0)
    if said["delta"] != delta or any(one["delta"] != delta for one in said["observers"]):
        yield f"a claim is made at another delta than {delta:g}"
    for row in said["observers"]:
        observer, claimed = str(row["observer"]), row["epsilon"]
        noise = faced[_faces(observer)]
        if not most or not claimed or noise is None:
            continue
        shared = int(found[1]) if (found := _SHARED.search(observer)) else 1
        # Who sees every update by itself sees so many times as many; others see one sum of all.
        apart = settings.privacy.regime == "FPDP"
        least = loss_epsilon(
            rate,
            noise,
            most * (shared if apart else 1),
            delta,
            hospitals=1 if apart else shared,
        )
        for name, value in claimed.items():
            if value < (1.0 - TOLERANCE) * least:
                yield f"{observer}: {value:.4g} is claimed by {name}, the ledgers cost {least:.4g}"


def _faces(observer: str) -> str:
    """Return whose noise an observer of a run's table faces, by a ledger's name, or less."""
    if observer.startswith("server + "):
        return "server+hospitals:1"
    if observer.startswith("public"):
        return "public"
    return "hospital" if "other hospital" in observer else "server"
