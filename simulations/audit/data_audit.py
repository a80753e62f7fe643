"""`audit --data`: canary patients through everything that a patient's records pass, and back.

Three trainings, of sums, updates and visiting models, add noise of a tenth of a clip, so that each
canary's part in what leaves a hospital can be read and the noise taken off; a fourth adds what a
claim of epsilon asks for, and its observers guess coins. Then small trainings of every exchange and
regime, with answers lost and refused on the way, are reconciled with every hospital's ledger.

    found = audit_data(folder, QUICK)
    found.shut          # gates that do not hold, at an error of 1e-6 in all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from accounting.audit_gates import spread_gate
from simulations.audit.canary_data import Canaries, draw_canaries
from simulations.audit.canary_run import CLIP, DIMENSIONS, CanaryRun, run_canaries
from simulations.audit.cases import CASES, SAMPLE, run_case
from simulations.audit.claims import Claim, claims_of
from simulations.audit.contents import content_gates, parameters_of
from simulations.audit.contributions import (
    Read,
    contribution_gates,
    drawn_by_hospital,
    mean_gates,
    noise_of,
    rate_gates,
    read,
)
from simulations.audit.gates import (
    TOTAL_ERROR,
    end_gate,
    exact_gate,
    noise_gates,
    pair_gate,
    sampling_gates,
)
from simulations.audit.learning import learning_gate
from simulations.audit.opened import (
    closed_sums,
    opened_visits,
    released_models,
    snapshots,
)
from simulations.audit.reconciliation import faced, reconcile
from simulations.audit.wire import Fate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from accounting.audit_gates import Gate
    from clients.contract.settings import ConfigValue
    from simulations.audit.wire import OnTheWay, Sent

DATA, RECONCILIATION = "audit --data", "reconciliation"

#: Noise of one hospital in these trainings, in clips: a canary's part stands out of it.
_FAINT = 0.06
#: Their sampling rate.
FAINT_RATE = 0.25


@dataclass(frozen=True, kw_only=True)
class Form:
    """How much an audit does.

    Attributes:
        canaries: coins that are tossed.
        rounds: of the training that a claim of epsilon is made of.
        cases: names of the trainings that are reconciled.
    """

    canaries: int
    rounds: int
    cases: tuple[str, ...]


QUICK = Form(canaries=1_200, rounds=12, cases=SAMPLE)
WHOLE = Form(canaries=4_000, rounds=40, cases=tuple(CASES))


@dataclass(frozen=True, kw_only=True)
class Found:
    """A gate, who it belongs to, and the training it is about."""

    detector: str
    training: str
    gate: Gate


@dataclass(kw_only=True)
class DataAudit:
    """What was found.

    Attributes:
        found: every gate.
        claims: what observers claim and what was proved.
        canaries: how many coins were tossed.
    """

    canaries: int
    found: list[Found] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    @property
    def error(self) -> float:
        """The error of each gate."""
        return TOTAL_ERROR / max(len(self.found), 1)

    @property
    def shut(self) -> list[Found]:
        """Gates that do not hold."""
        return [one for one in self.found if not one.gate.open(self.error)]

    def add(self, detector: str, training: str, gates: list[Gate]) -> None:
        """Add gates of a training."""
        self.found += [Found(detector=detector, training=training, gate=one) for one in gates]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A training over canaries whose noise is faint."""

    title: str
    kind: str
    changes: Mapping[str, ConfigValue]
    on_the_way: OnTheWay | None = None


def lose(*places: tuple[int, str]) -> OnTheWay:
    """Return what loses hospitals' answers to the first attempt at rounds."""
    gone = {(hospital, (round, 1)) for round, hospital in places}

    def on_the_way(sent: Sent) -> Fate:
        return Fate.LOST if (sent.hospital, sent.place) in gone else Fate.ARRIVES

    return on_the_way


_PLANS = (
    _Plan(
        title="gradients, FSCDP, bfv",
        kind="csv",
        changes={
            "exchange.name": "gradients",
            "training.rounds": 9,
            "training.sampling-rate": FAINT_RATE,
            "privacy.regime": "FSCDP",
            "privacy.dropouts": 1,
            "privacy.noise-multiplier": _FAINT * 3**0.5,
            "sealing.scheme": "bfv",
        },
        on_the_way=lose((3, "north"), (3, "south"), (5, "tiny")),
    ),
    _Plan(
        title="weights, FPDP, two local steps",
        kind="npz",
        changes={
            "exchange.name": "weights",
            "exchange.local-steps": 2,
            "training.rounds": 3,
            "training.sampling-rate": FAINT_RATE,
            "privacy.regime": "FPDP",
            "privacy.noise-multiplier": 0.1,
            "sealing.scheme": "plain",
        },
    ),
    _Plan(
        title="cyclic, FPDP, a step a visit",
        kind="npz",
        changes={
            "exchange.name": "cyclic",
            "exchange.cycles": 9,
            "training.rounds": 9,
            "training.sampling-rate": FAINT_RATE,
            "privacy.regime": "FPDP",
            "privacy.noise-multiplier": 0.1,
        },
    ),
)


def audit_data(folder: Path, form: Form, *, say: Callable[[str], object] = str) -> DataAudit:
    """Run every training of the audit and return all gates.

    Args:
        folder: empty; files and runs of the audit go there.
        form: how much is done.
        say: is told what is being done.
    """
    canaries = draw_canaries(form.canaries)
    audit = DataAudit(canaries=len(canaries))
    read_runs: list[tuple[str, Read, NDArray[np.float64]]] = []
    for number, plan in enumerate(_PLANS):
        say(f"canary patients: {plan.title}")
        run = _run(audit, canaries, folder / f"faint-{number}", plan)
        if run is not None:
            read_runs.append((plan.title, *_faint_gates(audit, plan.title, run)))
    title = f"gradients, FSCDP, bfv, {form.rounds} rounds"
    say(f"canary patients: {title}")
    claimed = _run(audit, canaries, folder / "claimed", _claimed_plan(title, form.rounds))
    if claimed is not None:
        read_runs.append((title, *_claimed_gates(audit, title, claimed)))
    _across_runs(audit, canaries, read_runs)
    for name in form.cases:
        say(f"reconciliation: {name}")
        audit.add(RECONCILIATION, name, run_case(CASES[name], folder / f"case {name}"))
    return audit


def _claimed_plan(title: str, rounds: int) -> _Plan:
    """Return a training with the noise that a claim of epsilon asks for."""
    return _Plan(
        title=title,
        kind="npz",
        changes={
            "exchange.name": "gradients",
            "training.rounds": rounds,
            "training.sampling-rate": 0.2,
            "privacy.regime": "FSCDP",
            "privacy.target-epsilon": 3.0,
            "sealing.scheme": "bfv",
        },
    )


def _run(audit: DataAudit, canaries: Canaries, folder: Path, plan: _Plan) -> CanaryRun | None:
    """Train, and reconcile what left; None where the training stopped, which shuts a gate."""
    changes = {"privacy.target-epsilon": 0.0, **plan.changes}
    run = run_canaries(
        canaries, folder, kind=plan.kind, changes=changes, on_the_way=plan.on_the_way
    )
    gates = reconcile(
        run.wire, run.settings, training=run.training, noise_multiplier=run.noise_multiplier
    )
    gates += content_gates(run.wire, run.settings, None if run.stopped else run.keys)
    audit.add(RECONCILIATION, plan.title, [end_gate(run.stopped), *gates])
    return None if run.stopped else run


def _read(run: CanaryRun) -> tuple[Read, float]:
    """Return a run's releases with the noise that the settings state, and a grid step in it."""
    share = faced(run.settings, run.noise_multiplier)["server+hospitals:1"]
    assert share is not None
    step = run.terms.grid.step
    stated = float(np.hypot(share * CLIP, step / np.sqrt(12.0)))
    found = read(run.releases, run.canaries, run.trained, clip=CLIP, noise_stddev=stated)
    return found, step / (stated * float(np.sqrt(found.steps.max())))


def _faint_gates(audit: DataAudit, title: str, run: CanaryRun) -> tuple[Read, NDArray[np.float64]]:
    """Add the gates of a training in which each part can be read; return its noise."""
    found, step = _read(run)
    noise = noise_of(found, run.canaries, clip=CLIP)
    audit.add(DATA, title, contribution_gates(found, run.canaries))
    audit.add(DATA, title, noise_gates(noise, found.names, step))
    rate = run.settings.training.sampling_rate
    if (found.steps == 1).all():
        audit.add(DATA, title, rate_gates(found, run.canaries, rate))
    if run.settings.exchange.name == "gradients":
        audit.add(DATA, title, _sum_gates(run, found, noise))
    elif run.settings.exchange.name == "cyclic":
        faults = opened_visits(run.wire, run.terms, run.keys)
        audit.add(DATA, title, [exact_gate("models that leave are models that were made", faults)])
    return found, noise


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
    stated = faced(run.settings, run.noise_multiplier)
    share, whole = stated["server+hospitals:1"], stated["server"]
    assert share is not None and whole is not None
    least = share * float(np.sqrt(members.min()))
    sums = {number: np.sum([m.vector for m in one], axis=0) for number, one in closed.items()}
    names, learnt = parameters_of(run.settings), released_models(run.wire)
    return [
        spread_gate(
            "noise of opened sums, as a share of what is stated",
            "all rounds",
            squares=squares,
            count=sum(one.size for one in left),
            stddev=1.0,
        ),
        exact_gate(
            "an opened sum carries sigma*C",
            [f"it carries {least:.4g}, claimed is {whole:.4g}"] * (least < whole * (1 - 1e-9)),
        ),
        learning_gate(
            [*learnt, *snapshots(run.wire, run.training, run.keys)], sums, run.settings, names
        ),
    ]


def _claimed_gates(
    audit: DataAudit, title: str, run: CanaryRun
) -> tuple[Read, NDArray[np.float64]]:
    """Add the gates of a training whose noise is as claimed; return the noise of the others."""
    found, step = _read(run)
    noise = np.stack([one.vector for one in found.releases])[:, _free(run.canaries)] / CLIP
    noise = noise / found.noise_stddev[:, None]
    audit.add(DATA, title, noise_gates(noise, found.names, step))
    audit.add(DATA, title, [*mean_gates(found, run.canaries, run.settings.training.sampling_rate)])
    audit.add(DATA, title, _sum_gates(run, found, noise))
    audit.claims = claims_of(run, found)
    for claim in audit.claims:
        audit.add(DATA, title, list(claim.gates))
    return found, noise


def _free(canaries: Canaries) -> NDArray[np.int64]:
    """Return the coordinates that no patient of a file touches."""
    touched = canaries.coordinates()[canaries.coins].ravel()
    return np.setdiff1d(np.arange(DIMENSIONS), touched)


def _across_runs(
    audit: DataAudit, canaries: Canaries, runs: list[tuple[str, Read, NDArray[np.float64]]]
) -> None:
    """Add what only several trainings show: noise and samples that one has of another."""
    title, free = "all trainings over canaries", _free(canaries)
    if not runs:
        return
    noise, names = [], []
    taken: dict[str, NDArray[np.float64]] = {}
    for name, found, left in runs:
        noise.append(left if left.shape[1] == len(free) else left[:, free])
        names += [f"{name}: {one}" for one in found.names]
        readable = float(found.noise_stddev.max()) < 0.2
        if readable and (found.steps == 1).all():
            drawn = drawn_by_hospital(found, canaries)
            taken.update({f"{name}: {one}": rows for one, rows in drawn.items()})
    audit.add(DATA, title, [pair_gate(np.concatenate(noise), names)])
    if taken:
        audit.add(DATA, title, sampling_gates(taken, FAINT_RATE))
