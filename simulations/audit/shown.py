"""What a cut model shows of canaries: rows of single records, and the sum for the layers at home.

Every canary's activation is far above the clip, so a slot that somebody fills shows a row of norm C
and noise, and an empty one noise alone. With faint noise the two are told apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from accounting.audit_gates import Gate, spread_gate
from clients.contract.kinds import Kind
from clients.contract.layer_messages import ACTIVATIONS, FEATURE_GRADIENTS, arrays_of
from simulations.audit.canary_data import HOSPITALS
from simulations.audit.canary_model import PLACES, WIDTH
from simulations.audit.gates import most_odd, normal_chance, two_sided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulations.audit.canary_run import CanaryRun
    from simulations.audit.opened import Release
    from simulations.audit.wire import Wire

    Floats = NDArray[np.float64]

#: Where in a batch is what: hospital and round -> rows, ``[slots, width]``.
Rows = Mapping[tuple[str, int], "Floats"]


def rows_of(wire: Wire, kind: Kind, name: str) -> Rows:
    """Return the rows of a turn that left at the first attempt of each round."""
    return {
        (one.hospital, one.place[0]): np.asarray(arrays_of(one.content)[name], dtype=np.float64)
        for one in wire.sent
        if one.kind is kind and one.content is not None and one.place[1] == 1
    }


def shown_gates(run: CanaryRun, *, clip: float, noise_stddev: float) -> list[Gate]:
    """Return the gates of what single records show.

    Args:
        run: a training whose model is cut, with faint noise.
        clip: C.
        noise_stddev: of a value, rounding included, gradient units.
    """
    activations = rows_of(run.wire, Kind.FORWARD, ACTIVATIONS)
    gradients = rows_of(run.wire, Kind.HEAD, FEATURE_GRADIENTS)
    least = (clip / noise_stddev) ** 2
    edge, error = _edge(least)
    filled = {
        at: (rows**2).sum(axis=1) / noise_stddev**2 > edge for at, rows in activations.items()
    }
    gates = []
    for name, rows in (("activation", activations), ("loss gradient", gradients)):
        every = np.concatenate([one / noise_stddev for one in rows.values()])
        away = np.concatenate([one[~filled[at]] / noise_stddev for at, one in rows.items()])
        norms = (every**2).sum(axis=1)
        gates += [
            Gate(
                name=f"no record moves its {name} by more than the clip",
                subject="the largest norm, in clips",
                found=float(np.sqrt(norms.max() / least)),
                expected=1.0,
                chance=most_odd(stats.ncx2.sf(norms, every.shape[1], least)),
            ),
            together_gate(
                norms[np.concatenate([filled[at] for at in rows])],
                every.shape[1],
                least,
                f"records move their {name} by no more than the clip, all together",
            ),
            spread_gate(
                f"noise of empty slots, {name}",
                "as a share of what is stated",
                squares=float((away**2).sum()),
                count=away.size,
                stddev=1.0,
            ),
        ]
    empty = {at: np.flatnonzero(~slots) for at, slots in filled.items()}
    both = [rows[at][empty[at]].ravel() for at in empty for rows in (activations, gradients)]
    gates += [_counts_gate(run, filled, error), _places_gate(run, filled)]
    gates += [_norms_gate(activations, filled, noise_stddev, least), _shared_gate(both)]
    return gates


def together_gate(norms: Floats, width: int, least: float, name: str) -> Gate:
    """Return whether rows with noise are no longer, all together, than rows of norm C with noise.

    Args:
        norms: squared, in units of the noise.
        width: values of a row.
        least: squared norm of C, in the same units.
        name: of the gate.
    """
    count, total = norms.size, float(norms.sum())
    return Gate(
        name=name,
        subject="mean of the squares, in clips",
        found=total / (count * least) if count else 1.0,
        expected=1.0 + width / least,
        chance=float(stats.ncx2.sf(total, count * width, count * least)) if count else 1.0,
    )


def _norms_gate(
    rows: Rows, filled: Mapping[tuple[str, int], NDArray[np.bool_]], stddev: float, least: float
) -> Gate:
    """Return whether filled slots show a row of norm C and noise."""
    there = [(one[filled[at]] ** 2).sum(axis=1) / stddev**2 for at, one in rows.items()]
    norms = np.concatenate(there)
    distance, chance = stats.kstest(norms, stats.ncx2(WIDTH, least).cdf)
    return Gate(
        name="norms of filled slots (Kolmogorov and Smirnov's distance)",
        subject="activation",
        found=float(distance),
        expected=float(0.87 / np.sqrt(len(norms))),
        chance=float(chance),
    )


def _shared_gate(rows: list[Floats]) -> Gate:
    """Return whether two messages share noise, as far as their empty slots go."""
    chances, values = [], []
    for one, other in itertools.combinations(rows, 2):
        width = min(len(one), len(other))
        product = float(one[:width] @ other[:width])
        scale = float(np.linalg.norm(one[:width]) * np.linalg.norm(other[:width]))
        values.append(product / scale if scale else 0.0)
        chances.append(float(normal_chance(values[-1] * np.sqrt(width))))
    odd = int(np.argmin(chances))
    return Gate(
        name="correlation of the noise of two messages",
        subject="empty slots",
        found=values[odd],
        expected=0.0,
        chance=most_odd(np.array(chances)),
    )


def _passes(
    run: CanaryRun, filled: Mapping[tuple[str, int], NDArray[np.bool_]]
) -> Iterator[tuple[str, list[NDArray[np.bool_]]]]:
    """Yield each hospital's passes: which slots of all its batches are filled."""
    batches = run.terms.schedule.batches
    for name in run.canaries.places:
        rounds = [filled[name, one] for one in range(1, run.settings.training.rounds + 1)]
        yield (
            name,
            [
                np.concatenate(rounds[start : start + batches])
                for start in range(0, len(rounds), batches)
            ],
        )


def _edge(least: float) -> tuple[float, float]:
    """Return the squared norm that tells filled slots from empty ones, and the chance to err.

    Args:
        least: squared norm of a clipped row in units of the noise.
    """

    def excess(edge: float) -> float:
        empty, there = stats.chi2.logsf(edge, WIDTH), stats.ncx2.logcdf(edge, WIDTH, least)
        return float(empty - there)

    edge = float(optimize.brentq(excess, WIDTH, least))
    return edge, float(stats.chi2.sf(edge, WIDTH))


def _counts_gate(
    run: CanaryRun, filled: Mapping[tuple[str, int], NDArray[np.bool_]], error: float
) -> Gate:
    """Return whether each patient fills one slot of a pass, no more."""
    wrong = slots = 0
    where = "all hospitals and passes"
    for number, (name, passes) in enumerate(_passes(run, filled)):
        there = int((run.trained & (run.canaries.hospitals == number)).sum())
        for one, found in enumerate(passes, start=1):
            off = abs(int(found.sum()) - there)
            wrong, slots = wrong + off, slots + len(found)
            where = f"{name}, pass {one}" if off else where
    return Gate(
        name="slots that are filled and should not be, or the other way round",
        subject=where,
        found=float(wrong),
        expected=slots * error,
        chance=float(stats.binom.sf(wrong - 1, slots, error)),
    )


def _places_gate(run: CanaryRun, filled: Mapping[tuple[str, int], NDArray[np.bool_]]) -> Gate:
    """Return whether slots are dealt anew in each pass: how many are filled in both of two."""
    chances, counts = [], []
    for _, passes in _passes(run, filled):
        for first, second in itertools.pairwise(passes):
            law = stats.hypergeom(len(first), int(first.sum()), int(second.sum()))
            both = int((first & second).sum())
            chances.append(float(two_sided(law.cdf(both), law.sf(both - 1))))
            counts.append((both, float(law.mean())))
    odd = int(np.argmin(chances))
    return Gate(
        name="slots that are filled in both of two passes",
        subject="the oddest",
        found=float(counts[odd][0]),
        expected=counts[odd][1],
        chance=most_odd(np.array(chances)),
    )


def home_noise(run: CanaryRun, releases: list[Release], stddev: float) -> tuple[Floats, list[Gate]]:
    """Return the noise of the sums that teach the layers at home, and the gate of their clip.

    Returns:
        In units of `stddev`, ``[releases, coordinates]`` that no patient of the file touches; and
        whether a patient's block of coordinates moves by C at most.
    """
    whole = np.stack([one.vector for one in releases])[:, : WIDTH * PLACES] / stddev
    blocks = whole.reshape(len(releases), WIDTH, PLACES)
    free = np.ones(PLACES, dtype=bool)
    free[np.flatnonzero(run.canaries.coins)] = False
    least = (run.settings.privacy.l2_clip / stddev) ** 2
    norms = (blocks[:, :, ~free] ** 2).sum(axis=1)
    gate = Gate(
        name="no patient moves the sum of the layers at home by more than the clip",
        subject="the largest norm, in clips",
        found=float(np.sqrt(norms.max() / least)),
        expected=1.0,
        chance=most_odd(stats.ncx2.sf(norms, WIDTH, least)),
    )
    # Of a patient of another hospital a block is noise alone, which is less.
    own = np.stack([np.isin(HOSPITALS, one.hospital)[run.canaries.hospitals] for one in releases])
    there = own[:, run.canaries.coins]
    name = "patients move the sum of the layers at home by no more than the clip, all together"
    together = together_gate((blocks[:, :, ~free] ** 2).sum(axis=1)[there], WIDTH, least, name)
    return blocks[:, :, free].reshape(len(releases), -1), [gate, together]
