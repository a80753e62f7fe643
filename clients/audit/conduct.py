"""An audit: canaries go through a hospital's own functions, and every observer attacks.

    audit = carry_out(settings, terms, run)
    audit.failures       # empty: nothing speaks against what is claimed

Canaries are sampled, clipped, noised, rounded, sealed, tagged, added and opened by the functions
that hospitals and server call in a training, on the run's own terms, under keys and a training's id
that nothing else has. No record, no model and no patient's budget is touched: it is paid for in
books of its own, which are thrown away.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accounting import lines
from accounting.audit_findings import TESTS, TOTAL_ERROR, Audit, weigh
from accounting.audit_gates import Gate, SamplingTally, exact_gate, overlap_gate
from accounting.audit_sights import sights_of
from accounting.audit_values import draw_values
from accounting.book import Book
from accounting.chain import Flush
from accounting.noising import without_parts
from clients.audit.canaries import Canaries
from clients.audit.plan import AuditPlan, plan_audit
from clients.audit.sealing import AuditSealing
from clients.audit.seen import Seen
from clients.audit.tallies import NoiseTallies
from clients.contract.schedule import schedule_of
from clients.contract.terms import Terms, noise_plan, sealing_of
from clients.site.chances import Chances, Released
from crypto.roles import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.events import Event
    from accounting.parts import Seeds
    from accounting.receipts import Receipt
    from accounting.runs import RunDescription
    from clients.contract.settings import Settings

    Vector = NDArray[np.float64]
    #: An update, and the seeds of those parts of its noise that may be taken out of a sum.
    Made = tuple[Vector, Sequence[Seeds]]

#: Told how many rounds are done, and of how many.
Progress = Callable[[int, int], None]
#: Rounds of the other training, in which noise of the first must not come again; in one more there
#: is a long vector.
_OTHER_ROUNDS = 2


def carry_out(
    settings: Settings, run: RunDescription, *, progress: Progress | None = None
) -> tuple[Audit, AuditPlan]:
    """Audit a run.

    Args:
        settings: the run's; canaries are drawn with fresh randomness, whatever its seed.
        run: what its observer table is made from, which is what is held against the audit; its
            noise and its grid are those of the terms.
        progress: told of every round.

    Returns:
        What was found, and how large the audit was. Without a guarantee there is no finding.
    """
    steps = settings.exchange.local_steps if settings.exchange.name == "weights" else 1
    sights = sights_of(run, steps=steps) if run.noisy and run.rounds else {}
    plan = plan_audit(settings, run, sights)
    if not sights:
        return Audit(findings=(), gates=(), error=TOTAL_ERROR), plan
    terms = _terms_of(settings, run, sum(plan.canaries.values()))
    conduct = _Conduct(settings, terms, plan)
    seen = [
        Seen(
            sight,
            conduct.canaries.groups[sight.hospitals],
            name=", ".join(row.observer for row in rows),
            l2_clip=terms.l2_clip,
            rounding=(terms.grid.step / terms.l2_clip) ** 2 / 12.0,
        )
        for sight, rows in sights.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        conduct.pay(Path(folder), terms.event(plan.rounds * plan.steps))
        for round in range(1, plan.rounds + 1):
            conduct.round(round, seen)
            if progress is not None:
                progress(round, plan.rounds)
        conduct.other_training(Path(folder), terms.event((_OTHER_ROUNDS + 1) * plan.steps))
    gates = [*conduct.gates(), *(gate for one in seen for gate in one.gates())]
    error = TOTAL_ERROR / (len(gates) + TESTS * len(sights))
    findings = [
        weigh(sight, rows, one.scores, one.group.coins, noise=one.noise, error=error)
        for one, (sight, rows) in zip(seen, sights.items(), strict=True)
    ]
    return Audit(findings=tuple(findings), gates=tuple(gates), error=error), plan


class _Conduct:
    """One audit on its way through the rounds."""

    def __init__(self, settings: Settings, terms: Terms, plan: AuditPlan) -> None:
        self._plan = plan
        self.canaries = Canaries(plan.canaries, hospitals=plan.hospitals, l2_clip=terms.l2_clip)
        self._training = terms.training
        self._terms = terms
        # A seeded run is audited with the randomness of one that is not.
        run = settings.run.model_copy(update={"seed": -1})
        self._settings = settings.model_copy(update={"run": run})
        members = _members(settings, terms.hospitals)
        self._names = members[: plan.hospitals]
        self._chances = [Chances(name, self._settings) for name in self._names]
        self._receipts: list[Receipt] = []
        self._sealing = AuditSealing(terms, members, self._names)
        self._left_out = self.canaries.left_out()
        #: Hospitals that are not in the audit's sums, so far as the terms reckon with any.
        self._missing = min(terms.hospitals - plan.hospitals, terms.noise.dropouts)
        self._noise = NoiseTallies(
            drawn=terms.noise_stddev,
            kept=terms.noise.kept(self._missing) * terms.l2_clip,
            step=terms.grid.step,
            steps=plan.steps,
        )
        self._sampling = SamplingTally(
            members=len(self.canaries.patients(0)),
            rate=terms.schedule.sampling_rate,
            subject="the first hospital",
        )
        self._together = self._pairs = self._wrong_sums = 0
        self._first: list[NDArray[np.bool_]] = []

    def pay(self, folder: Path, event: Event | None) -> None:
        """Write what the audit releases to books of its own, which give the receipts for it."""
        assert event is not None
        plan = self._plan
        self._receipts = [
            _receipt(
                folder / f"{self._training}-{name}.jsonl",
                name,
                self._training,
                event,
                rounds=event.count // plan.steps,
            )
            for name in self._names
        ]

    def round(self, number: int, seen: list[Seen]) -> None:
        """Let every hospital contribute, and every observer look."""
        place = Place(training=self._training, round=number, attempt=1)
        made = [self._update(hospital, place) for hospital in range(self._plan.hospitals)]
        sent = [update for update, _ in made]
        updates = [self._kept(update, seeds) for update, seeds in made]
        if self._plan.seals(number):
            # Who sees single updates sees those of all hospitals that know the patient.
            apart = (one.sight.hospitals if one.sight.apart else 1 for one in seen)
            alone = (one.sight.single for one in seen)
            most = max(count * single for count, single in zip(apart, alone, strict=True))
            total, singles = self._sealing.opened(made, updates, place, most)
            added = [(total, np.sum(updates, axis=0)), *zip(singles, updates, strict=False)]
            for found, expected in added:
                wrong = np.abs(found - expected) > self._terms.grid.step / 4.0
                self._wrong_sums += int(np.count_nonzero(wrong))
        else:
            total, singles = np.sum(updates, axis=0), updates
        for one in seen:
            one.add(total, updates, singles)
        away = self._left_out
        self._noise.add(number, [o[away] for o in sent], [o[away] for o in updates], total[away])

    def other_training(self, folder: Path, event: Event | None) -> None:
        """Draw noise for another training: none of it may have come before."""
        self._training = _new_training()
        self.pay(folder, event)
        for number in range(1, _OTHER_ROUNDS + 1):
            place = Place(training=self._training, round=number, attempt=1)
            for hospital in range(self._plan.hospitals):
                update = self._noised(hospital, place, step=0, total=None).vector
                self._noise.add_other_training(hospital, number, update[self._left_out])
        place = Place(training=self._training, round=_OTHER_ROUNDS + 1, attempt=1)
        grid = self._terms.grid
        values = draw_values(self._plan.longest, step=grid.step, reach=grid.clamp / 2.0)
        self._noise.add_long(values, self._noised(0, place, step=0, total=values).vector)

    def gates(self) -> list[Gate]:
        """What was measured of samples, noise and sums."""
        gates = self._noise.gates()
        if self._plan.sampled:
            gates += self._sampling.gates()
        if self._pairs:
            gates.append(
                overlap_gate(
                    "the first two hospitals",
                    both=self._together,
                    trials=self._pairs,
                    rate=self._terms.schedule.sampling_rate,
                )
            )
        if self._plan.sums:
            gates.append(exact_gate("values of opened sums that are another", self._wrong_sums))
        return gates + self._sealing.gates()

    def _update(self, hospital: int, place: Place) -> Made:
        """A hospital's update of a round, noise included, and the seeds of what may go of it."""
        update, batches = np.zeros(self.canaries.dimensions), []
        seeds: list[Seeds] = []
        for step in range(self._plan.steps):
            patients = self.canaries.patients(hospital)
            if self._plan.sampled and len(patients):
                batch = self._chances[hospital].sampled(patients, place, step)
                if hospital == 0:
                    self._sampling.add(np.isin(patients, batch, assume_unique=True))
                patients = batch
            total = self.canaries.total(hospital, patients)
            batches.append(total > 0.0)
            noised = self._noised(hospital, place, step, total)
            update = update + noised.vector
            seeds.append(noised.seeds)
        self._count_pairs(hospital, batches)
        return update, seeds

    def _kept(self, update: Vector, seeds: Sequence[Seeds]) -> Vector:
        """An update without the noise that is taken out of its sum."""
        grid = self._terms.grid
        if grid.parts is None:
            return update
        each = [seed for one in seeds for seed in one.each]
        goes = {("", part): each[part - 1] for part in grid.parts.removed(self._missing)}
        return without_parts(update, grid, goes, missing=self._missing)

    def _noised(self, hospital: int, place: Place, step: int, total: Vector | None) -> Released:
        """A sum with the hospital's noise, paid for; without one, noise alone."""
        if total is None:
            total = np.zeros(self.canaries.dimensions)
        return self._chances[hospital].noised_sum(
            total, self._terms.grid, place, self._receipts[hospital], step
        )

    def _count_pairs(self, hospital: int, batches: list[NDArray[np.bool_]]) -> None:
        """Count canaries of two hospitals who are in the batches of both."""
        group = self.canaries.groups.get(2)
        if group is None or not self._plan.sampled or hospital > 1:
            return
        inside = [batch[group.place] for batch in batches]
        if hospital == 0:
            self._first = inside
            return
        for first, second in zip(self._first, inside, strict=True):
            self._together += int(np.count_nonzero(first & second))
            self._pairs += int(group.coins.sum())


def _terms_of(settings: Settings, run: RunDescription, canaries: int) -> Terms:
    """The run's own terms, for as many values as there are canaries."""
    assert run.grid is not None
    return Terms(
        training=_new_training(),
        hospitals=run.in_sum,
        patients=canaries,
        sampling_rate=settings.training.sampling_rate,
        dimensions=canaries,
        rounds=settings.training.rounds,
        l2_clip=settings.privacy.l2_clip,
        schedule=schedule_of(settings),
        noise=noise_plan(settings, run.noise_multiplier),
        grid=run.grid,
        sealing=sealing_of(settings, canaries, run.grid, run.in_sum),
    )


def _members(settings: Settings, hospitals: int) -> list[str]:
    """Names for all hospitals: a committee that holds shares of keys is named by the settings."""
    committee = list(settings.sealing.holders)
    return committee + [f"hospital-{number + 1}" for number in range(hospitals - len(committee))]


def _new_training() -> str:
    """An id that no training has: a training's is made of its terms."""
    return f"audit-{secrets.token_hex(12)}"


def _receipt(path: Path, name: str, training: str, event: Event, *, rounds: int) -> Receipt:
    """Pay for all that one hospital of an audit releases, in a book of its own."""
    book = Book(path, site=name, cohort="canaries", flush=Flush.WRITE)
    try:
        book.append(
            lines.bind(
                training,
                terms=training,
                own="",
                members="",
                code="",
                rounds=rounds,
                spare=0,
                failures=1,
            ),
            lines.keyed(training, keys="audit"),
        )
        place = Place(training=training, round=1, attempt=1)
        return book.spend(place, event, purpose="audit", rounds=rounds)
    finally:
        book.close()
