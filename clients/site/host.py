"""A hospital that models visit: it takes one in, trains it, and sends it on or releases it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.contract.messages import Figures
from clients.contract.phases import Phases
from clients.contract.schedule import cycles_of, steps_of_visit
from clients.contract.terms import hospitals_expected
from clients.contract.visit_messages import Carried, JudgeRequest, VisitReply, VisitRequest
from clients.learning import visits
from clients.learning.evaluation import evaluate
from clients.learning.votes import decide_together

if TYPE_CHECKING:
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital
    from clients.site.session import Session


class Host:
    """One hospital's part in a training in which whole models travel."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def visit(self, passage: Passage[VisitRequest]) -> Release:
        """Train the model that came, on this hospital's patients alone, and send it on.

        Raises:
            Fault: this hospital cannot take its turn; nothing was sent.
        """
        request, place, hospital = passage.request, passage.place, self._hospital
        expected = self._steps(request.round)
        if request.steps != expected:
            raise Fault(Code.MALFORMED, f"asked for {request.steps} steps, expected {expected}")
        session = self._load(request)
        released = request.release and self._may_release(request, also=hospital.site.name)
        if request.release and not released:
            raise Fault(Code.RELEASE_REFUSED, "a model without noise is released at the end only")
        hospital.witnessing.see(request.trail)
        hospital.witnessing.require_room()
        terms, replica, phases = session.terms, session.replica, Phases()
        receipt = hospital.spend(place, request.steps)
        draws, uses = hospital.own.of(receipt, terms.grid, phases)
        visits.train_here(replica, draws, terms, request.steps)
        carried, member = Carried(), hospital.membership()
        if request.carry:
            carried = visits.send_on(
                replica.vector(),
                place=place,
                previous=request.model,
                parameter_id=terms.sealing.parameter_id,
                bind=member.bind,
                group_key=member.keys.group_key,
                sender=hospital.site.name,
                identity=hospital.site.identity,
                witness=hospital.witness(),
            )
        tensors = dict(session.released()) if released else {}
        digest = hashlib.sha256(carried.header + carried.envelope).hexdigest()
        return passage.answer(VisitReply(model=carried, released=tensors), digest=digest, uses=uses)

    def release_carried(self, passage: Passage[VisitRequest]) -> Release:
        """Release a model that came in an envelope; it is private by what its makers added.

        Raises:
            Fault: ``release-refused``: without noise a model on the way is exact; only the last one
                goes, once enough hospitals have made it.
        """
        if not passage.request.model or not self._may_release(passage.request):
            raise Fault(Code.RELEASE_REFUSED, "a model without noise is released at the end only")
        session = self._load(passage.request)
        return passage.answer(VisitReply(released=session.released()))

    def judge(self, passage: Passage[JudgeRequest]) -> Release:
        """Measure released models, deciding together, on the hospital's own test records."""
        module = self._hospital.session().replica.module
        inputs, labels = self._hospital.own.test_records()
        if not len(labels):
            return passage.answer(Figures(metrics={}))
        logits = [visits.logits_of(module, tensors, inputs) for tensors in passage.request.models]
        together = decide_together(logits, self._hospital.settings.exchange.vote)
        ordinal = self._hospital.cohort.info.task == "ordinal"
        return passage.answer(Figures(metrics=evaluate(together, labels, ordinal=ordinal)))

    def _steps(self, visit: int) -> int:
        """Return the steps that the schedule has for a visit, whatever is asked for."""
        settings = self._hospital.settings
        return steps_of_visit(settings, (visit - 1) // hospitals_expected(settings) + 1)

    def _may_release(self, request: VisitRequest, also: str = "") -> bool:
        """Whether a model may leave open: covered by noise, or the last one of enough makers.

        Args:
            request: the model, and the trail of its makers.
            also: who is about to train it further, "" for nobody.
        """
        settings = self._hospital.settings
        if settings.exchange.name == "ensemble" or settings.regime.private or settings.data.public:
            return True
        member = self._hospital.membership()
        made = visits.makers_of(
            request.trail,
            request.model,
            training=self._hospital.training,
            public_keys=member.public_keys,
            bind=member.bind,
        )
        hospitals = hospitals_expected(settings)
        names = {header.sender for header in made} | ({also} if also else set())
        last = request.round if also else max((header.round for header in made), default=0)
        # Models of two visits in a row differ by one hospital's exact steps, so as few of them as
        # there may be hospitals missing at the very end count as the last one.
        missing = settings.privacy.dropouts
        enough = len(names) >= hospitals - missing
        return enough and last >= cycles_of(settings) * hospitals - missing

    def _load(self, request: VisitRequest) -> Session:
        """Load the model that came into this process's replica."""
        member, session = self._hospital.membership(), self._hospital.session()
        vector = session.initial
        assert vector is not None  # the door lets visits in where models travel only
        if request.model:
            with one_code_for_openings():
                vector = visits.take_over(
                    request.model,
                    training=self._hospital.training,
                    before=request.round,
                    dimensions=session.replica.dimensions,
                    group_key=member.keys.group_key,
                    public_keys=member.public_keys,
                    bind=member.bind,
                )
        session.replica.begin_at(vector)
        return session
