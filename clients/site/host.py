"""A hospital that models visit: it takes one in, trains it, and sends it on or releases it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from accounting.release import public
from clients.contract.faults import Code, Fault, one_code_for_openings
from clients.contract.kinds import Kind
from clients.contract.messages import Figures
from clients.contract.phases import Phases
from clients.contract.schedule import cycles_of, steps_of_visit
from clients.contract.terms import hospitals_expected
from clients.contract.visit_messages import Carried, JudgeRequest, VisitReply, VisitRequest
from clients.learning import visits
from clients.learning.votes import decide_together
from clients.models.errors import ModelError
from clients.models.weights import check_parameters

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

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
        draws, taken = hospital.own.of(receipt, terms.grid, phases)
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
        return passage.answer(
            VisitReply(model=carried, released=tensors), digest=digest, uses=taken.uses
        )

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
        """Measure released models, deciding together, on the hospital's own test records.

        The server brings the models, so their figures tell of public records alone.

        Raises:
            Fault: ``not-public``: the data are not declared public; ``malformed``: there is no
                model, or one of another form.
        """
        hospital, request = self._hospital, passage.request
        hospital.own.require_public()
        replica = hospital.session().replica
        try:
            for tensors in request.models:
                check_parameters(replica.module, tensors)
        except ModelError as error:
            raise Fault(Code.MALFORMED, str(error)) from error
        if not request.models:
            raise Fault(Code.MALFORMED, "no model came to be measured")
        receipt = hospital.book.show_public(
            hospital.training, purpose=Kind.EVALUATE_MODELS, about=request.digest()
        )

        def logits_of(inputs: torch.Tensor) -> NDArray[np.floating]:
            each = [replica.forward.logits(inputs, tensors) for tensors in request.models]
            return decide_together(each, hospital.settings.exchange.vote)

        use = receipt.use(0, 1)
        figures = Figures(metrics=public(hospital.own.figures(logits_of), use))
        return passage.answer(figures, uses=[use])

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
        settings, member = self._hospital.settings, self._hospital.membership()
        # A visiting model is of its makers' records, so one member's own file says nothing of it.
        if settings.exchange.name == "ensemble" or settings.regime.private or member.public:
            return True
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
