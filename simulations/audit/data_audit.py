"""`audit --data`: canary patients through everything that a patient's records pass, and back.

Four trainings, of sums, updates, visiting models and a cut one, add noise of a tenth of a clip, so
that each canary's part in what leaves a hospital can be read and the noise taken off; a fifth adds
what a claim of epsilon asks for, and its observers guess coins. Then small trainings of every
exchange and regime, with answers lost and refused on the way, are reconciled with every ledger.

    found = audit_data(folder, QUICK)
    found.shut          # gates that do not hold, at an error of 1e-6 in all
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from simulations.audit.canary_data import Canaries, draw_canaries
from simulations.audit.canary_run import run_canaries
from simulations.audit.cases import CASES, run_case
from simulations.audit.contents import content_gates
from simulations.audit.gates import ERROR, MOST_GATES, end_gate, exact_gate
from simulations.audit.hidden import hidden_gates
from simulations.audit.limits_kept import LIMITS, limit_gates
from simulations.audit.plans import Form, Plan, Reading, plans_of
from simulations.audit.reconciliation import reconcile
from simulations.audit.run_gates import Judged, across_runs, judge
from simulations.audit.said import named_gate
from simulations.audit.statements import accountant_gate

if TYPE_CHECKING:
    from pathlib import Path

    from accounting.audit_gates import Gate
    from simulations.audit.claims import Claim
    from simulations.audit.wire import Sent

DATA, RECONCILIATION = "audit --data", "reconciliation"


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
    def shut(self) -> list[Found]:
        """Gates that do not hold."""
        return [one for one in self.found if not one.gate.open(ERROR)]

    def add(self, detector: str, training: str, gates: list[Gate]) -> None:
        """Add gates of a training."""
        if len(self.found) + len(gates) > MOST_GATES:
            raise ValueError(f"more than {MOST_GATES} gates: their errors add up to more than said")
        self.found += [Found(detector=detector, training=training, gate=one) for one in gates]


def audit_data(
    folder: Path,
    form: Form,
    *,
    say: Callable[[str], object] = str,
    enough: Callable[[DataAudit], bool] = lambda _: False,
) -> DataAudit:
    """Run every training of the audit and return all gates.

    Args:
        folder: empty; files and runs of the audit go there.
        form: how much is done.
        say: is told what is being done.
        enough: asked after each training whether what was found is enough.
    """
    canaries = draw_canaries(form.canaries, most_records=form.most_records)
    audit = DataAudit(canaries=len(canaries))
    judged = []
    for number, plan in enumerate(plans_of(form)):
        say(f"canary patients: {plan.title}")
        found = _run(audit, canaries, folder / f"canaries-{number}", plan)
        if found is not None:
            judged.append(found)
            audit.add(DATA, plan.title, found.gates)
            audit.claims += found.claims
        if enough(audit):
            return audit
    audit.add(DATA, "all trainings over canaries", across_runs(canaries, judged))
    audit.add(DATA, "accountants", [accountant_gate()])
    for name in form.cases:
        say(f"reconciliation: {name}")
        own = folder / f"case {name}"
        gates = limit_gates(own) if name == LIMITS else run_case(CASES[name], own)
        audit.add(RECONCILIATION, name, gates)
        if enough(audit):
            break
    return audit


def _refusals(sent: Sequence[Sent]) -> list[str]:
    """Say who refused to answer a place that it never answered.

    After a restart one may be asked for that was answered, or before the hospital has caught up.
    """
    answered = {(one.hospital, one.kind, one.place) for one in sent if not one.code}
    return [
        f"{one.hospital} said {one.code!r}"
        for one in sent
        if one.code and (one.hospital, one.kind, one.place) not in answered
    ]


def _run(audit: DataAudit, canaries: Canaries, folder: Path, plan: Plan) -> Judged | None:
    """Train, reconcile what left, and read it; None where it cannot be read, which shuts a gate."""
    changes = {"privacy.target-epsilon": 0.0, **plan.changes}
    if plan.faint:
        canaries = canaries.with_faint()
    if plan.counted:
        canaries = canaries.with_counts()
    canaries = replace(canaries, weights=plan.weights)
    if plan.hospitals:
        canaries = canaries.with_more(plan.hospitals)
    if plan.reading is Reading.ROWS:
        canaries = canaries.with_numbers()
    run = run_canaries(
        canaries,
        folder,
        kind=plan.kind,
        changes=changes,
        on_the_way=plan.on_the_way,
        copied=plan.reading is Reading.PARTS and not plan.seeded,
    )
    answers = exact_gate("every hospital answers, whatever its batch", _refusals(run.wire.sent))
    audit.add(RECONCILIATION, plan.title, [end_gate(run.stopped), answers])
    try:
        gates = reconcile(
            run.wire, run.settings, training=run.training, noise_multiplier=run.noise_multiplier
        )
        keys = None if run.stopped else run.keys
        gates += content_gates(run.wire, run.settings, run.info, keys)
        gates += hidden_gates(run.wire, run.settings, run.terms, run.stopped)
        gates.append(named_gate(run.wire))
        audit.add(RECONCILIATION, plan.title, gates)
        return None if run.stopped else judge(plan.title, plan.reading, run)
    except Exception as error:  # whatever cannot be read is not what a hospital sends
        unread = [f"{type(error).__name__}: {error}"]
        audit.add(DATA, plan.title, [exact_gate("what left can be read", unread)])
        return None
