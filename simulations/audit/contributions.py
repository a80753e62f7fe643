"""What each canary put into each noised sum, where the noise is so small that it can be read.

A sum's vector is projected on the canaries' directions, in units of the clip. With noise of a tenth
of a clip every patient's part in every sum is a whole number of its own norm, the times that it was
in a batch, and what is left of the vector is noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from accounting.audit_gates import Gate, count_gate
from accounting.audit_tails import chance_at_most
from simulations.audit.canary_data import CLASSES, HOSPITALS
from simulations.audit.canary_model import BELOW, FAINT
from simulations.audit.gates import companions_gate, most_odd, normal_chance, pair_gate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulations.audit.canary_data import Canaries
    from simulations.audit.opened import Release

    Floats = NDArray[np.float64]

#: The clip undercuts C by this share, so that nobody's norm is above it for rounding.
MARGIN = 1e-5
#: Deviations from a whole number from which on a loud canary's gradient is taken to vanish.
FADING = 4.0


@dataclass(frozen=True, kw_only=True)
class Read:
    """Releases, read with the canaries' directions.

    Attributes:
        releases: as they left.
        parts: each canary's part in each, in units of the clip, ``[releases, m]``.
        canaries: all of them.
        own: whether a canary is trained on at the release's hospital, bool ``[releases, m]``.
        noise_stddev: of a part, in the same units, for each release ``[releases]``.
    """

    releases: Sequence[Release]
    parts: Floats
    canaries: Canaries
    own: NDArray[np.bool_]
    noise_stddev: Floats

    @property
    def steps(self) -> NDArray[np.int64]:
        """Noised sums in each release."""
        return np.array([one.steps for one in self.releases])

    @property
    def names(self) -> list[str]:
        """A few words for each release."""
        return [one.name for one in self.releases]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each was in a batch: the nearest whole number that there can be."""
        whole = np.clip(np.rint(self.parts / self.canaries.norms), 0, self.steps[:, None])
        return np.where(self.own, whole, 0).astype(np.int64)

    @property
    def known(self) -> Floats:
        """What one batch must have of each of its members, in clips, ``[m]``."""
        return np.minimum(self.canaries.norms, (1.0 - MARGIN) * self.canaries.most)

    @property
    def off(self) -> Floats:
        """Parts less what they must be, in units of the noise, ``[releases, m]``."""
        return np.asarray((self.parts - self.counts * self.known) / self.noise_stddev[:, None])


def read(
    releases: Sequence[Release],
    canaries: Canaries,
    trained: NDArray[np.bool_],
    *,
    clip: float,
    noise_stddev: float | Floats,
) -> Read:
    """Read releases.

    Args:
        releases: of one run.
        canaries: all of them.
        trained: who is trained on, bool ``[m]``.
        clip: C.
        noise_stddev: of one noised sum of one hospital, as its ledger has it, rounding included, in
            gradient units; of all releases, or of each.
    """
    at, along = canaries.coordinates(), canaries.direction()
    parts = np.stack([(one.vector[at] * along).sum(axis=1) for one in releases]) / clip
    # Pooled data are one hospital's, whoever collected them.
    homes = np.array(
        [[name in _members(one) or not _members(one) for name in HOSPITALS] for one in releases]
    )
    draws = np.array([one.steps * max(1, len(one.members)) for one in releases])
    return Read(
        releases=releases,
        parts=parts,
        canaries=canaries,
        own=trained & homes[:, canaries.hospitals],
        noise_stddev=np.sqrt(draws) * noise_stddev / clip,
    )


def _members(release: Release) -> tuple[str, ...]:
    """The hospitals of a file whose patients are in a release; none: those of all."""
    return tuple(n for n in release.members or (release.hospital,) if n in HOSPITALS)


def noise_of(found: Read, canaries: Canaries, *, clip: float) -> Floats:
    """Return what is left without the canaries' parts, in units of its stated standard deviation.

    Returns:
        float64 ``[releases, d]``.
    """
    at, along = canaries.coordinates(), canaries.direction()
    left = np.stack([one.vector for one in found.releases]) / clip
    parts = found.counts * found.known
    left[:, at] -= parts[:, :, None] * along[None]
    # Of a gradient that is vanishing any part may be there, and rounding turns it: that tells
    # nothing of the noise, in whose place some is drawn.
    fading = found.own & ~canaries.quiet & ((np.abs(found.off) > FADING) | (found.counts != 0))
    rows, whose = np.nonzero(fading)
    drawn = np.random.default_rng().standard_normal((len(rows), at.shape[1]))
    left[rows[:, None], at[whose]] = drawn * found.noise_stddev[rows][:, None]
    if canaries.counted:
        classes = (1.0 - MARGIN) * canaries.classes()
        left[:, -classes.shape[1] :] -= found.counts @ classes
    return np.asarray(left / found.noise_stddev[:, None])


def groups_of(canaries: Canaries) -> dict[str, NDArray[np.bool_]]:
    """Return groups of canaries that must be treated alike, bool ``[m]`` each."""
    return {
        "patients with one record": canaries.records == 1,
        "patients with several records": (canaries.records > 1) & (canaries.records < 8),
        "patients with many records": canaries.records >= 8,
        **{f"patients of {n}": canaries.hospitals == k for k, n in enumerate(canaries.places)},
        **{f"patients of class {n}": canaries.labels == k for k, n in enumerate(CLASSES)},
        "patients whose features are rare": canaries.coordinates()[:, 0] < len(canaries) // 10,
        "patients of the first ids": np.argsort(np.argsort(canaries.ids)) < len(canaries) // 10,
        **(_faint(canaries) if (canaries.loudness >= FAINT).any() else {}),
    }


def _faint(canaries: Canaries) -> dict[str, NDArray[np.bool_]]:
    shares = enumerate(BELOW, start=FAINT)
    return {f"patients of {share} of a clip": canaries.loudness == k for k, share in shares}


def mean_gates(found: Read, canaries: Canaries, rate: float) -> list[Gate]:
    """Return the gates of the shift: over all rounds a patient moves each sum by q*C.

    It needs no part to be read by itself, so it holds under any noise.
    """
    own = {
        f"{name}, in clips": (found.own & canaries.quiet & who, rate)
        for name, who in groups_of(canaries).items()
    }
    groups = {
        **own,
        "patients who are in no file": (np.ones_like(found.own) & ~canaries.coins, 0.0),
        "patients of other hospitals": (~found.own & found.own.any(axis=0), 0.0),
    }
    return [_mean_gate(found, who, mean, name) for name, (who, mean) in groups.items() if who.any()]


def _mean_gate(found: Read, who: NDArray[np.bool_], rate: float, name: str) -> Gate:
    """Return whether parts are q a noised sum on average: binomial numbers, and noise.

    Rounding to the grid adds to noise no more than its variance, which is counted in.
    """
    values, steps = found.parts[who].sum(), found.steps[:, None]
    drawn = int(np.broadcast_to(steps, who.shape)[who].sum())
    squares = np.broadcast_to(found.noise_stddev[:, None] ** 2, who.shape)[who].sum()
    count, variance = int(who.sum()), float(squares)
    return Gate(
        name="how far patients move each sum",
        subject=name,
        found=float(values / count),
        expected=drawn * rate / count,
        chance=chance_at_most(
            float(values),
            lambda t: t * t * variance / 2.0 + drawn * _log_chosen(rate, t),
            mean=drawn * rate,
            stddev=math.sqrt(variance + drawn * rate * (1.0 - rate)),
        ),
    )


def _log_chosen(rate: float, t: float) -> float:
    """Log E exp(t*X) of X that is 1 with this chance, else 0."""
    if t > 0.0 and rate > 0.0:
        return t + math.log(rate + (1.0 - rate) * math.exp(-t))
    return math.log1p(rate * math.expm1(t)) if rate else 0.0


def drawn_by_hospital(found: Read) -> dict[str, Floats]:
    """Return who was in which batch, in the order in which a hospital draws its patients.

    Returns:
        hospital -> 1, 0, or not a number for a patient whose gradient can vanish,
        ``[releases, patients]``; one noised sum a release.
    """
    taken, canaries = {}, found.canaries
    for number, name in enumerate(HOSPITALS):
        rows = [row for row, one in enumerate(found.releases) if name in _members(one)]
        if not rows:
            continue
        here = np.flatnonzero(found.own[rows[0]] & (canaries.hospitals == number))
        here = here[np.argsort(canaries.ids[here])]
        counts = found.counts[rows][:, here].astype(np.float64)
        counts[:, ~canaries.quiet[here]] = np.nan
        taken[name] = np.minimum(counts, 1.0)
    return taken


def rate_gates(found: Read, canaries: Canaries, rate: float) -> list[Gate]:
    """Return whether each group of patients is drawn at the same rate in every noised sum."""
    gates = []
    for name, who in groups_of(canaries).items():
        here = found.own & (who & canaries.quiet)
        drawn, count = int(found.counts[here].sum()), int((here * found.steps[:, None]).sum())
        gates.append(count_gate("sampling rate", name, found=drawn, trials=count, probability=rate))
    return gates


def again_gate(found: Read, rate: float) -> Gate:
    """Return whether a place that is asked for again has a batch of its own each time."""
    last: dict[tuple[str, int], int] = {}
    both = trials = 0
    for row, one in enumerate(found.releases):
        before = last.get((one.hospital, one.round))
        if before is not None:
            here = found.own[row] & found.own[before] & found.canaries.quiet
            both += int(((found.counts[row] > 0) & (found.counts[before] > 0))[here].sum())
            trials += int(here.sum())
        last[one.hospital, one.round] = row
    return count_gate(
        "patients in the batches of two attempts at a place",
        "all places",
        found=both,
        trials=trials,
        probability=rate**2,
    )


def step_gates(found: Read, canaries: Canaries, rate: float) -> list[Gate]:
    """Return whether local steps draw their batches apart: how often somebody is in one of two."""
    gates = []
    for steps in sorted(set(found.steps.tolist()) - {1}):
        here = (found.own & canaries.quiet)[found.steps == steps]
        drawn = found.counts[found.steps == steps][here]
        gates.append(
            count_gate(
                f"in one batch of {steps} local steps",
                "all patients",
                found=int((drawn == 1).sum()),
                trials=len(drawn),
                probability=float(stats.binom.pmf(1, steps, rate)),
            )
        )
    return gates


def contribution_gates(found: Read, canaries: Canaries) -> list[Gate]:
    """Return the gates of the clip: nobody moves a sum by more than C, with however many records.

    Whoever is in a batch moves it by exactly its own norm or C, unless the gradient can vanish.
    """
    parts, counts, quiet = found.parts, found.counts, canaries.quiet[None, :]
    # A loud canary's gradient vanishes as the model learns it: any part up to C is its own.
    chances = np.where(quiet | ~found.own, normal_chance(found.off), 1.0)
    worst = np.unravel_index(chances.argmin(), chances.shape)
    above = parts - found.steps[:, None] * found.own * canaries.norms
    highest = np.unravel_index(above.argmax(), above.shape)
    gates = [
        Gate(
            name="no patient moves a sum by more than the clip",
            subject=_who(found, canaries, highest),
            found=float(parts[highest]),
            expected=float((found.own * canaries.norms)[highest] * found.steps[highest[0]]),
            chance=most_odd(stats.norm.sf(above / found.noise_stddev[:, None])),
        ),
        Gate(
            name="each patient's part in each sum is a number of its norms",
            subject=_who(found, canaries, worst),
            found=float(parts[worst]),
            expected=float((counts * found.known)[worst]),
            chance=most_odd(chances),
        ),
    ]
    groups = groups_of(canaries).items()
    return [*gates, *(_amplitude_gate(found, quiet & who, name) for name, who in groups)]


def _amplitude_gate(found: Read, who: NDArray[np.bool_], name: str) -> Gate:
    """Return whether a batch's members move its sum as they must, on average."""
    due = np.where(who & found.own, found.counts, 0) * found.known
    weights = due / found.noise_stddev[:, None] ** 2
    total = float((weights * due).sum())
    mean = float((weights * found.parts).sum()) / total if total else 1.0
    return Gate(
        name="what a patient in a batch adds, as a share of what it must",
        subject=name,
        found=mean,
        expected=1.0,
        chance=float(normal_chance((mean - 1.0) * np.sqrt(total))),
    )


def beside_gate(found: Read) -> Gate:
    """Return whether what members of a batch add has nothing to do with who else is in it.

    A clip that follows a batch scales all of it: then the members of one are off together. Halves
    of a batch, in the order of the draws, are looked at as well, since a batch is clipped in parts.
    """
    due = np.where(found.own & found.canaries.quiet, found.counts, 0) * found.known
    order = np.argsort(found.canaries.ids)
    due, off = due[:, order], found.off[:, order]
    parts = [np.ones(due.shape, dtype=bool)]
    middle = np.cumsum(due > 0, axis=1) <= (due > 0).sum(axis=1, keepdims=True) / 2
    parts += [middle, ~middle]
    strength = np.stack([np.sqrt((due**2 * one).sum(axis=1)) for one in parts])
    along = np.stack([(due * off * one).sum(axis=1) for one in parts])
    z = np.divide(along, strength, out=np.zeros_like(along), where=strength > 0)
    at = np.unravel_index(np.abs(z).argmax(), z.shape)
    return Gate(
        name="what members of one batch add, off together, in standard errors",
        subject=found.names[int(at[1])],
        found=float(z[at]),
        expected=0.0,
        chance=most_odd(normal_chance(z)),
    )


def copy_gates(
    first: tuple[Read, Floats],
    again: tuple[Read, Floats],
    rate: float,
) -> list[Gate]:
    """Return whether answers of copies share neither noise nor batches with any that left.

    Args:
        first: what left, and its noise ``[releases, d]``.
        again: what left copies, and its noise.
        rate: q.
    """
    names = [*first[0].names, *(f"{name}, in a copy" for name in again[0].names)]
    noise = pair_gate(np.concatenate([first[1], again[1]]), names)
    gates = [
        replace(noise, name="correlation of the noise of two copies of a folder"),
    ]
    if (first[0].steps == 1).all():
        taken = drawn_by_hospital(first[0])
        taken |= {f"{name}, a copy": one for name, one in drawn_by_hospital(again[0]).items()}
        if taken:
            shared = companions_gate(taken, rate)
            gates.append(replace(shared, name="patients whom batches of two copies share"))
    return gates


def _who(found: Read, canaries: Canaries, at: Sequence[np.intp]) -> str:
    number = int(at[1])
    return f"a patient with {canaries.records[number]} records, in {found.names[int(at[0])]}"
