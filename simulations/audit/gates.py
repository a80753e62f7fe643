"""Gates: what must hold of everything that left the hospitals, each with the chance that it fails.

A gate gives the chance that an honest run looks as odd as this one did, every look at it counted.
An audit fails if any is below the total error over the most gates that there may be, so an honest
one fails once in a million at the most. What must hold exactly has a chance of 1 or 0.

Noise is judged in units of its stated standard deviation, rounding to the grid included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from accounting.audit_gates import Gate
from accounting.audit_repeats import repeat_gate
from accounting.audit_tails import Draws, lag_chance, sum_chance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Chance that an honest audit fails, all gates together.
TOTAL_ERROR = 1e-6
#: Gates of an audit at the most, and the error of each.
MOST_GATES = 2000
ERROR = TOTAL_ERROR / MOST_GATES
END = "the training comes to its end"
#: Standard deviations beyond which noise is counted, to see whether its tails are there.
TAILS = (3.0, 4.0)


def exact_gate(name: str, faults: Sequence[str]) -> Gate:
    """Return a gate that no chance is involved in: its subject is the first of its faults."""
    return Gate(
        name=name,
        subject=faults[0] if faults else "",
        found=float(len(faults)),
        expected=0.0,
        chance=0.0 if faults else 1.0,
    )


def end_gate(stopped: str) -> Gate:
    """Return whether a training came to its end; `stopped` says why it did not."""
    return exact_gate(END, [stopped] if stopped else [])


def most_odd(chances: Floats) -> float:
    """Return the chance that the oddest of so many looks as it does (Bonferroni)."""
    return float(min(1.0, np.min(chances) * np.size(chances))) if np.size(chances) else 1.0


def two_sided(lower: Floats | float, upper: Floats | float) -> Floats:
    """Return the chance of either tail, from those of both."""
    return np.minimum(1.0, 2.0 * np.minimum(lower, upper))


def normal_chance(z: Floats | float) -> Floats:
    """Return the two-sided chance of a standard normal value."""
    return np.asarray(2.0 * stats.norm.sf(np.abs(z)))


def chi2_chance(squares: Floats | float, degrees: Floats | int) -> Floats:
    """Return the two-sided chance of a sum of squares of that many standard normal values."""
    return two_sided(stats.chi2.cdf(squares, degrees), stats.chi2.sf(squares, degrees))


def binomial_chance(found: Floats | int, count: Floats | int, rate: float) -> Floats:
    """Return the two-sided chance of so many successes."""
    lower = stats.binom.cdf(found, count, rate)
    return two_sided(lower, stats.binom.sf(np.asarray(found) - 1, count, rate))


def noise_gates(noise: Floats, names: Sequence[str], step: float) -> list[Gate]:
    """Return the gates of noise that should be standard normal and independent throughout.

    Args:
        noise: in units of its stated standard deviation, ``[releases, coordinates]``.
        names: of the releases.
        step: width of a grid step in the same units.
    """
    count, width = noise.shape
    # Few rounded values can all be the same, so a coordinate's are blurred by a step first.
    blurred = _blurred(noise, step)
    squares, columns = (noise**2).sum(axis=1), (blurred**2).sum(axis=0)
    each, places = chi2_chance(squares, width), chi2_chance(columns, count)
    odd, place = int(each.argmin()), int(places.argmin())
    means = noise.mean(axis=0) * np.sqrt(count)
    together = float(chi2_chance((means**2).sum(), width))
    return [
        Gate(
            name="noise, as a share of what is stated",
            subject="all of it",
            found=float(np.sqrt(squares.sum() / noise.size)),
            expected=1.0,
            chance=float(chi2_chance(squares.sum(), noise.size)),
        ),
        Gate(
            name="noise of each release",
            subject=names[odd],
            found=float(np.sqrt(squares[odd] / width)),
            expected=1.0,
            chance=most_odd(each),
        ),
        Gate(
            name="noise in each coordinate",
            subject=f"coordinate {place}",
            found=float(np.sqrt(columns[place] / count)),
            expected=1.0,
            chance=most_odd(places),
        ),
        Gate(
            name="noise has no mean, in its standard errors",
            subject="over coordinates",
            found=float(np.sqrt((means**2).mean())),
            expected=1.0,
            chance=min(1.0, 2 * min(together, most_odd(normal_chance(means)))),
        ),
        *_distribution_gates(blurred.ravel()),
        pair_gate(noise, names),
        repeat_gate(noise.ravel(), name="noise that repeats, in standard errors"),
    ]


def _blurred(noise: Floats, step: float) -> Floats:
    """Return noise with normal values of one grid step added: of the grid, e^-19 is left."""
    added = step * np.random.default_rng().standard_normal(noise.shape)
    return np.asarray((noise + added) / np.hypot(1.0, step))


def _distribution_gates(noise: Floats) -> list[Gate]:
    """Return whether noise is normal, tails included."""
    distance, chance = stats.kstest(noise, "norm")
    gates = [
        Gate(
            name="noise is normal (Kolmogorov and Smirnov's distance)",
            subject="all of it",
            found=float(distance),
            expected=float(0.87 / np.sqrt(noise.size)),
            chance=float(chance),
        )
    ]
    for tail in TAILS:
        beyond, rate = int((np.abs(noise) > tail).sum()), float(2 * stats.norm.sf(tail))
        gates.append(
            Gate(
                name=f"values of noise beyond {tail:g} standard deviations",
                subject="all of it",
                found=float(beyond),
                expected=rate * noise.size,
                chance=float(binomial_chance(beyond, noise.size, rate)),
            )
        )
    return gates


def pair_gate(
    noise: Floats, names: Sequence[str], name: str = "correlation of the noise of two releases"
) -> Gate:
    """Return whether any two releases share noise: rounds, hospitals and runs alike."""
    count, width = noise.shape
    products = noise @ noise.T
    np.fill_diagonal(products, 0.0)
    first, second = divmod(int(np.abs(products).argmax()), count)
    return Gate(
        name=name,
        subject=f"{names[first]} with {names[second]}",
        found=float(products[first, second] / width),
        expected=0.0,
        chance=most_odd(lag_chance(products[np.triu_indices(count, 1)], width)),
    )


def sampling_gates(taken: dict[str, Floats], rate: float) -> list[Gate]:
    """Return the gates of Poisson sampling.

    Args:
        taken: hospital -> 1 for who was in which batch, 0 for who was not, ``[rounds, patients]``;
            not a number where nobody can tell.
        rate: q.
    """
    known = {name: ~np.isnan(one) for name, one in taken.items()}
    drawn = {name: np.nan_to_num(one) for name, one in taken.items()}
    batches = np.concatenate([one.sum(axis=1) for one in drawn.values()])
    sizes = np.concatenate([one.sum(axis=1) for one in known.values()])
    patients = np.concatenate([one.sum(axis=0) for one in drawn.values()])
    rounds = np.concatenate([one.sum(axis=0) for one in known.values()])
    # Nobody can tell of a hospital whose few patients all have gradients that can vanish.
    batches, sizes = batches[sizes > 0], sizes[sizes > 0]
    patients, rounds = patients[rounds > 0], rounds[rounds > 0]
    each, times = binomial_chance(batches, sizes, rate), binomial_chance(patients, rounds, rate)
    return [
        Gate(
            name="sampling rate",
            subject="all patients and rounds",
            found=float(batches.sum() / sizes.sum()),
            expected=rate,
            chance=float(binomial_chance(batches.sum(), sizes.sum(), rate)),
        ),
        _oddest_gate("size of each batch", each, batches, sizes * rate),
        _oddest_gate("how often each patient is drawn", times, patients, rounds * rate),
        _spread_gate("spread of the batches' sizes", batches, sizes, rate),
        _spread_gate("spread of how often patients are drawn", patients, rounds, rate),
        _empty_gate(batches, sizes, rate),
        companions_gate(taken, rate),
    ]


def _empty_gate(batches: Floats, sizes: Floats, rate: float) -> Gate:
    """Return whether batches of few patients are empty as often as they must be, and no less."""
    numbers, often = np.unique(sizes, return_counts=True)
    draws = [
        Draws(
            values=np.array([0.0, 1.0]),
            log_chances=np.array([np.log1p(-((1.0 - rate) ** size)), size * np.log1p(-rate)]),
            count=int(count),
        )
        for size, count in zip(numbers, often, strict=True)
    ]
    found = float((batches == 0).sum())
    return Gate(
        name="empty batches",
        subject="of few patients",
        found=found,
        expected=float(((1.0 - rate) ** sizes).sum()),
        chance=sum_chance(found, draws),
    )


def _oddest_gate(name: str, chances: Floats, found: Floats, expected: Floats) -> Gate:
    odd = int(np.argmin(chances))
    return Gate(
        name=name,
        subject="the oddest",
        found=float(found[odd]),
        expected=float(expected[odd]),
        chance=most_odd(chances),
    )


def _spread_gate(name: str, found: Floats, counts: Floats, rate: float) -> Gate:
    """Return whether counts spread as binomial ones do: not less, as of a fixed size, nor more."""
    squares = (found - counts * rate) ** 2 / (counts * rate * (1.0 - rate))
    draws = []
    for count, often in zip(*np.unique(counts, return_counts=True), strict=True):
        numbers = np.arange(count + 1.0)
        draws.append(
            Draws(
                values=(numbers - count * rate) ** 2 / (count * rate * (1.0 - rate)),
                log_chances=stats.binom.logpmf(numbers, count, rate),
                count=int(often),
            )
        )
    return Gate(
        name=name,
        subject="against a binomial one",
        found=float(squares.mean()) if len(squares) else 1.0,
        expected=1.0,
        chance=sum_chance(float(squares.sum()), draws),
    )


def companions_gate(taken: dict[str, Floats], rate: float) -> Gate:
    """Return whether batches are independent between rounds and hospitals, patient by patient.

    Patients of two hospitals are compared by their order, which is that of the draws. Of n patients
    Binomial(n, q^2) are in both of two batches. As for `sampling_gates`.
    """
    names = [f"{name}, batch {row + 1}" for name, one in taken.items() for row in range(len(one))]
    width = max(one.shape[1] for one in taken.values())

    def padded(rows: Iterable[NDArray[Any]]) -> Floats:
        wide = [np.pad(one, [(0, 0), (0, width - one.shape[1])]) for one in rows]
        return np.concatenate(wide).astype(np.float64)

    drawn = padded(np.nan_to_num(one) for one in taken.values())
    told = padded(~np.isnan(one) for one in taken.values())
    first, second = np.triu_indices(len(drawn), 1)
    both, least = (drawn @ drawn.T)[first, second], (told @ told.T)[first, second]
    chances = binomial_chance(np.rint(both), np.rint(least), rate**2)
    at = int(chances.argmin())
    return Gate(
        name="patients whom two batches share",
        subject=f"{names[first[at]]} and {names[second[at]]}",
        found=float(both[at]),
        expected=float(least[at] * rate**2),
        chance=most_odd(chances),
    )
