"""A hospital that models visit: it takes one in, trains it, and sends it on or releases it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.contract.phases import Phases
from clients.contract.schedule import cycles_of
from clients.contract.terms import hospitals_expected
from clients.contract.visit_messages import Carried, JudgeRequest, VisitReply, VisitRequest
from clients.learning import visits
from clients.learning.evaluation import evaluate
from clients.learning.votes import decide_together
from crypto.roles import Place

if TYPE_CHECKING:
    from clients.site.hospital import Hospital
    from clients.site.session import Session


class Host:
    """One hospital's part in a training in which whole models travel."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital

    def visit(self, request: VisitRequest) -> VisitReply:
        """Train the model that came, on this hospital's patients alone, and send it on.

        Raises:
            Fault: this hospital cannot take its turn; nothing was sent.
        """
        settings = self._hospital.settings
        most = settings.training.rounds
        if not 0 < request.steps <= most:
            raise Fault(Code.MALFORMED, f"asked for {request.steps} steps, expected 1 to {most}")
        if request.release and settings.exchange.name != "ensemble":
            self._insist_on_the_end(request.visit + 1)
        place = Place(
            training=self._hospital.training, round=request.visit, attempt=request.attempt
        )
        session = self._load(request)
        terms, replica = session.terms, session.replica
        self._hospital.spend(terms, place, request.steps)
        visits.train_here(
            replica, self._hospital.draws(terms, place, Phases()), terms, request.steps
        )
        carried = Carried()
        if request.carry:
            carried = visits.send_on(
                replica.vector(),
                place=place,
                previous=request.model,
                parameter_id=terms.sealing.parameter_id,
                group_key=self._hospital.membership().keys.group_key,
                sender=self._hospital.site.name,
                identity=self._hospital.site.identity,
            )
        return VisitReply(model=carried, released=replica.arrays() if request.release else {})

    def release_carried(self, request: VisitRequest) -> VisitReply:
        """Release a model that came in an envelope; it is private by what its makers added.

        Raises:
            Fault: without noise a model on the way is exact; only the last one goes.
        """
        self._insist_on_the_end(request.visit)
        return VisitReply(released=self._load(request).replica.arrays())

    def _insist_on_the_end(self, next_visit: int) -> None:
        """Refuse to release a model on its way where no noise covers it.

        Args:
            next_visit: the one that would follow on what is to be released.
        """
        settings = self._hospital.settings
        shielded = settings.regime.private or settings.data.public
        if not shielded and next_visit <= cycles_of(settings) * hospitals_expected(settings):
            raise Fault(Code.RELEASE_REFUSED)

    def _load(self, request: VisitRequest) -> Session:
        """Load the model that came into this process's replica."""
        member = self._hospital.membership()
        session = self._hospital.session()
        if session.initial is None:
            raise Fault(
                Code.WRONG_EXCHANGE, f"no model visits in {self._hospital.settings.exchange.name!r}"
            )
        vector = session.initial
        if request.model:
            vector = visits.take_over(
                request.model,
                training=self._hospital.training,
                before=request.visit,
                dimensions=session.replica.dimensions,
                group_key=member.keys.group_key,
                public_keys=member.public_keys,
            )
        session.replica.begin_at(vector)
        return session

    def judge(self, request: JudgeRequest) -> dict[str, float]:
        """Measure released models, deciding together, on the hospital's own test records."""
        module = self._hospital.session().replica.module
        inputs, labels = self._hospital.test_records()
        if not len(labels):
            return {}
        logits = [visits.logits_of(module, tensors, inputs) for tensors in request.models]
        together = decide_together(logits, self._hospital.settings.exchange.vote)
        return evaluate(together, labels, ordinal=self._hospital.cohort.info.task == "ordinal")
