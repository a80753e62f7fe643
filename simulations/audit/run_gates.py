"""The gates of a training over canary patients, and of what only several trainings show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import Gate, spread_gate
from accounting.vocabulary import EXCHANGES
from clients.contract.shares import in_shares
from clients.contract.terms import hospitals_expected
from simulations.audit.canary_data import CLASSES
from simulations.audit.canary_model import CLIP
from simulations.audit.canary_run import DIMENSIONS
from simulations.audit.claims import Claim, claims_of
from simulations.audit.contents import parameters_of
from simulations.audit.contributions import (
    Read,
    again_gate,
    beside_gate,
    contribution_gates,
    copy_gates,
    drawn_by_hospital,
    mean_gates,
    noise_of,
    rate_gates,
    read,
    step_gates,
)
from simulations.audit.gates import exact_gate, noise_gates, pair_gate, sampling_gates
from simulations.audit.learning import learning_gate
from simulations.audit.opened import closed_sums, opened_visits, released_models, snapshots
from simulations.audit.opened_sums import opened_sums, opener_keys, parts_gates
from simulations.audit.plans import FAINT_RATE, Reading
from simulations.audit.reconciliation import share_of
from simulations.audit.shown import home_noise, shown_gates
from simulations.audit.stretches import neighbours_gate, order_gate, part_gate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from simulations.audit.canary_data import Canaries
    from simulations.audit.canary_run import CanaryRun
    from simulations.audit.opened import Release


#: Coordinates whose noise is read, of a large model: those that canaries may move, and classes.
_READ = DIMENSIONS + len(CLASSES)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is known of one training.

    Attributes:
        title: of the training.
        gates: of it.
        found: its releases with each canary's part; None where they are read by rows.
        noise: what is left without the parts, in units of what is stated, ``[releases, d]``; where
            parts cannot be read, in the coordinates that no patient touches.
        claims: of its observers.
    """

    title: str
    gates: list[Gate]
    found: Read | None = None
    noise: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    claims: list[Claim] = field(default_factory=list)


def judge(title: str, reading: Reading, run: CanaryRun) -> Judged:
    """Return the gates of a training, read as its noise allows."""
    if reading is Reading.ROWS:
        return _by_rows(title, run)
    if reading is Reading.SUMS:
        return _by_sums(title, run)
    return _by_parts(title, run) if reading is Reading.PARTS else _by_coins(title, run)


def _read(run: CanaryRun, releases: Sequence[Release]) -> tuple[Read, float]:
    """Return releases of a run with the noise that the settings state, and a grid step in it."""
    share = share_of(run.settings, run.noise_multiplier)
    # Noise that a sum can spare is taken out of it.
    expected = hospitals_expected(run.settings)
    missing = np.array([expected - len(one.members) if one.members else -1 for one in releases])
    kept = [run.terms.noise.kept(int(one)) if one >= 0 else share for one in missing]
    step = run.terms.grid.step
    stated = np.hypot(np.array(kept) * CLIP, step / np.sqrt(12.0))
    found = read(releases, run.canaries, run.trained, clip=CLIP, noise_stddev=stated)
    return found, step / (CLIP * float(found.noise_stddev.max()))


def _by_parts(title: str, run: CanaryRun) -> Judged:
    """Judge a training in which each part can be read."""
    found, step = _read(run, run.releases)
    noise = noise_of(found, run.canaries, clip=CLIP)[:, :_READ]
    gates = (
        _copied(run, found, noise)
        + contribution_gates(found, run.canaries)
        + noise_gates(noise, found.names, step)
        + _parts_of_noise(found, noise, step)
    )
    if (found.steps == 1).all():
        gates.append(_grid_gate(run, found))
        gates.append(neighbours_gate(drawn_by_hospital(found), _rate(run)))
    gates += [*step_gates(found, run.canaries, _rate(run)), beside_gate(found)]
    gates += rate_gates(found, run.canaries, _rate(run))
    if (found.steps == 1).all():
        gates.append(again_gate(found, _rate(run)))
    if EXCHANGES[run.settings.exchange.name].sums:
        gates += _sum_gates(run, found, noise)
    else:
        faults = opened_visits(run.wire, run.terms, run.keys)
        gates.append(exact_gate("models that leave are models that were made", faults))
    return Judged(title=title, gates=gates, found=found, noise=noise)


def _by_sums(title: str, run: CanaryRun) -> Judged:
    """Judge a training of which nothing opens but sums, from these."""
    keys, rate = opener_keys(run.out, run.training), run.settings.training.sampling_rate
    sums = opened_sums(run.wire, run.terms, keys)
    found, step = _read(run, sums)
    noise = noise_of(found, run.canaries, clip=CLIP)
    gates = contribution_gates(found, run.canaries) + noise_gates(noise, found.names, step)
    gates += [*_parts_of_noise(found, noise, step), neighbours_gate(drawn_by_hospital(found), rate)]
    gates += [*rate_gates(found, run.canaries, rate), beside_gate(found)]
    gates += sampling_gates(drawn_by_hospital(found), rate)
    gates += parts_gates(run.wire, noise, found.names, shared=in_shares(run.settings))
    carried = CLIP * found.noise_stddev
    # The last sum of a round is the one that hospitals go on from.
    last = {one.round: one.vector for one in sums}
    return Judged(
        title=title,
        gates=[*gates, *_learning_gates(run, float(carried.min()), last)],
        found=found,
        noise=noise,
    )


def _copied(run: CanaryRun, found: Read, noise: NDArray[np.float64]) -> list[Gate]:
    """Return the gates of what copies of the hospitals' folders answered."""
    if run.settings.seeded:
        return []  # whoever knows the seed knows the noise: what is seeded repeats in a copy
    refused = [f"{one.hospital} said {one.code!r}" for one in run.wire.copied if one.code]
    if refused or not run.copied:
        return [exact_gate("a copy of a folder answers as well", refused or ["none was asked"])]
    again, _ = _read(run, run.copied)
    left = noise_of(again, run.canaries, clip=CLIP)[:, :_READ]
    rate = run.settings.training.sampling_rate
    return copy_gates((found, noise), (again, left), rate)


def _rate(run: CanaryRun) -> float:
    return run.settings.training.sampling_rate


def _parts_of_noise(found: Read, noise: NDArray[np.float64], step: float) -> list[Gate]:
    """Return the gates of noise by hospital, release, stretch and members of a batch."""
    touched = np.zeros(noise.shape, dtype=bool)
    at = found.canaries.coordinates()
    for row, counts in enumerate(found.counts * found.canaries.quiet):
        touched[row, at[counts > 0].ravel()] = True
    homes, scale = [one.hospital for one in found.releases], found.noise_stddev
    same = noise * (scale / scale.max())[:, None]
    return [
        part_gate(noise, found.names, homes, touched),
        order_gate(same, found.names, step),
    ]


def _grid_gate(run: CanaryRun, found: Read) -> Gate:
    """Return whether noise is three steps or more of the grid that values lie on.

    The step is read off the values themselves: the least distance of two.
    """
    stated = share_of(run.settings, run.noise_multiplier) * CLIP
    faults = []
    for one in found.releases:
        gaps = np.diff(np.unique(one.vector))
        step = float(gaps[gaps > 1e-6 * stated].min()) if len(gaps) else np.inf
        if stated < 3.0 * step * (1.0 - 1e-3):
            faults.append(f"{one.name}: noise of {stated / step:.2f} steps of the grid")
    return exact_gate("noise is three steps of the grid, or more", faults)


def _by_rows(title: str, run: CanaryRun) -> Judged:
    """Judge a training whose model is cut."""
    step = run.terms.grid.step
    stated = float(np.hypot(run.noise_multiplier * CLIP, step / np.sqrt(12.0)))
    noise, gates = home_noise(run, run.releases, stated)
    names = [one.name for one in run.releases]
    homes, nobody = [one.hospital for one in run.releases], np.zeros(noise.shape, dtype=bool)
    gates.append(part_gate(noise, names, homes, nobody))
    gates += shown_gates(run, clip=CLIP, noise_stddev=stated)
    return Judged(title=title, gates=[*gates, *noise_gates(noise, names, step / stated)])


def _sum_gates(run: CanaryRun, found: Read, noise: NDArray[np.float64]) -> list[Gate]:
    """Return whether opened sums carry the noise that they should, and models follow from them.

    Args:
        run: an exchange of sums.
        found: its releases.
        noise: of each, in units of what is stated.
    """
    closed = closed_sums(run.wire, run.releases)
    rows = {id(one): row for row, one in enumerate(found.releases)}
    left = [noise[[rows[id(one)] for one in members]].sum(axis=0) for members in closed.values()]
    members = np.array([len(one) for one in closed.values()])
    squares = sum(float((one**2).sum() / n) for one, n in zip(left, members, strict=True))
    apart = [group for one in closed.values() for group in groups_of_sum(one, run)]
    sums = {number: _stepped_on(groups_of_sum(one, run)) for number, one in closed.items()}
    least = min((len(one) for one in apart), default=0)
    share = share_of(run.settings, run.noise_multiplier)
    return [
        spread_gate(
            "noise of opened sums, as a share of what is stated",
            "all rounds",
            squares=squares,
            count=sum(one.size for one in left),
            stddev=1.0,
        ),
        *_learning_gates(run, share * CLIP * math.sqrt(least), sums),
    ]


def groups_of_sum(members: Sequence[Release], run: CanaryRun) -> list[list[Release]]:
    """Return whose sums are opened apart: hospitals by turns of their names, or all in one."""
    size, names = run.settings.exchange.group_size, sorted(run.wire.names)
    count = len(names) // size if size else 1
    dealt = [names[first::count] for first in range(count)]
    return [[one for one in members if one.hospital in group] for group in dealt]


def _stepped_on(groups: Sequence[Sequence[Release]]) -> NDArray[np.float64]:
    """Return the sum of one group; of several, as many times their median as there are."""
    sums = [np.sum([one.vector for one in group], axis=0) for group in groups]
    return np.asarray(len(sums) * np.median(sums, axis=0))


def _learning_gates(
    run: CanaryRun, least: float, sums: Mapping[int, NDArray[np.float64]]
) -> list[Gate]:
    """Return whether sums carry the noise that they need, and models follow from them.

    Args:
        run: an exchange of sums.
        least: noise that an opened sum carries by its members, in gradient units.
        sums: by the round that went on from it.
    """
    whole = run.noise_multiplier * CLIP
    names, learnt = parameters_of(run.settings, run.info), released_models(run.wire)
    left_behind, strange = snapshots(run.wire, run.training, run.keys)
    return [
        exact_gate(
            "an opened sum carries sigma*C",
            [f"it carries {least:.4g}, claimed is {whole:.4g}"] * (least < whole * (1 - 1e-9)),
        ),
        exact_gate("snapshots hold nothing else", strange),
        learning_gate([*learnt, *left_behind], dict(sums), run.settings, names),
    ]


def _by_coins(title: str, run: CanaryRun) -> Judged:
    """Judge a training whose noise is as claimed."""
    found, step = _read(run, run.releases)
    noise = np.stack([one.vector for one in found.releases])[:, _free(run.canaries)] / CLIP
    noise = noise / found.noise_stddev[:, None]
    gates = noise_gates(noise, found.names, step)
    homes, nobody = [one.hospital for one in found.releases], np.zeros(noise.shape, dtype=bool)
    gates.append(part_gate(noise, found.names, homes, nobody))
    gates += mean_gates(found, run.canaries, run.settings.training.sampling_rate)
    gates += _sum_gates(run, found, noise)
    claims = claims_of(run, found)
    gates += [gate for claim in claims for gate in claim.gates]
    return Judged(title=title, gates=gates, found=found, noise=noise, claims=claims)


def _free(canaries: Canaries) -> NDArray[np.int64]:
    """Return the coordinates that no patient of a file touches."""
    touched = canaries.coordinates()[canaries.coins].ravel()
    return np.setdiff1d(np.arange(DIMENSIONS), touched)


def across_runs(canaries: Canaries, runs: Sequence[Judged]) -> list[Gate]:
    """Return the gates of noise and samples that one training may have of another."""
    free = _free(canaries)
    noise, names = [], []
    taken: dict[str, NDArray[np.float64]] = {}
    for one in runs:
        if one.found is None:
            continue
        noise.append(one.noise if one.noise.shape[1] == len(free) else one.noise[:, free])
        names += [f"{one.title}: {name}" for name in one.found.names]
        readable = float(one.found.noise_stddev.max()) < 0.2
        if readable and (one.found.steps == 1).all():
            drawn = drawn_by_hospital(one.found)
            taken.update({f"{one.title}: {name}": rows for name, rows in drawn.items()})
    gates = [pair_gate(np.concatenate(noise), names)] if noise else []
    return gates + (sampling_gates(taken, FAINT_RATE) if taken else [])
