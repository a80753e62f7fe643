"""One training as the server leads it, whatever is exchanged.

A ceremony, then the exchange's own way of teaching, then figures. The way of teaching is made once
the ceremony is over, with all that came of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.ceremony_messages import EndRequest
from clients.contract.kinds import Kind
from strategies.ceremony import Ceremony, find_members, hold_ceremony
from strategies.errors import BudgetExhausted
from strategies.nodes import Nodes
from strategies.predictors import keep_predictors
from strategies.replies import BadReply, one_bad_reply, read_figures
from strategies.run.journal import Kept
from strategies.run.state import RunState
from strategies.run.summary import Outcome
from strategies.teaching import Teaching, TrainingContext

if TYPE_CHECKING:
    from strategies.run.folder import RunFolder


class Training:
    """The hospitals of one training, as the server leads them.

    Args:
        context: what the server has.
        teaching: how it leads them after the ceremony.
    """

    def __init__(self, context: TrainingContext, teaching: type[Teaching]) -> None:
        self._context = context
        self._teaching = teaching
        #: Who takes part, once the training has begun.
        self._nodes: Nodes | None = None

    @property
    def planned_rounds(self) -> int:
        """Rounds that `metrics.jsonl` will show if all goes well."""
        return self._teaching.planned_rounds(self._context.settings)

    @property
    def outcome(self) -> Outcome:
        """What a run's last files are written from."""
        holdout = self._context.holdout
        return Outcome(
            training=self._context.training,
            state=self._context.state,
            terms=self._context.agreement.terms if self._nodes else None,
            bytes_carried=self._context.bytes_carried,
            evaluation=holdout.judge(),
            split=holdout.split,
            input_shape=holdout.input_shape,
            unit=holdout.unit,
            patients=holdout.patients,
            holdout=holdout.source,
        )

    def keep_predictors(self, folder: RunFolder) -> None:
        """Write what predicts: the released model, and its last releases together."""
        keep_predictors(folder, self._context)

    def run(self) -> RunState:
        """Train to the last round and release the model.

        Raises:
            TrainingStopped: the training cannot go on; `outcome` holds what was achieved.
        """
        start = time.perf_counter()
        context, state = self._context, self._context.state
        kept = context.journal.read()
        ceremony = self._begin() if kept is None else self._resume(kept)
        self._nodes = ceremony.nodes
        context.tracking.record(
            "ceremony",
            seconds=time.perf_counter() - start,
            hospitals=list(ceremony.nodes.names),
            parameter_id=ceremony.plan.parameter_id,
        )
        for who, code in sorted(ceremony.faults.items()):
            context.tracking.record("fault", round=0, attempt=1, hospital=who, code=code)
        teaching = self._teaching(context, ceremony)
        try:
            teaching.teach()
        except BudgetExhausted as exhausted:
            if not state.round:
                raise
            state.note = str(exhausted)
        teaching.release_last()
        if context.settings.data.public:
            self._record_hospitals(self._figures(teaching, ceremony.nodes))
        if context.heads.copied:
            copied = f"ledgers in use in two places: {', '.join(sorted(context.heads.copied))}"
            state.note = "; ".join(filter(None, [state.note, copied]))
        return state

    def _begin(self) -> Ceremony:
        """Hold the ceremony of a new training and keep its public part."""
        context, agreement = self._context, self._context.agreement
        ceremony = hold_ceremony(
            context.conversation,
            agreement,
            context.heads,
            invited=context.settings.partition.invited,
        )
        context.journal.keep_ceremony(
            training=agreement.training,
            nonce=agreement.nonce,
            terms=agreement.text,
            bind=ceremony.bind,
            public_keys=ceremony.nodes.public_keys,
            plan=ceremony.plan,
            key_id=ceremony.key_id,
            committee=ceremony.committee,
            noise_multiplier=agreement.noise_multiplier,
        )
        return ceremony

    def _resume(self, kept: Kept) -> Ceremony:
        """Find the hospitals of a training again and go on after its last closed round."""
        context, state = self._context, self._context.state
        state.round, state.note = kept.round, kept.note
        return find_members(context.conversation, context.agreement, context.heads, kept)

    def end(self) -> None:
        """Tell all hospitals that are there that they need the training's keys no more.

        Nothing can be asked of them in it after that, so all that a run leaves is on disk before.
        """
        agreement, nodes = self._context.agreement, self._nodes
        assert nodes is not None  # a training that has not begun has no end
        content = EndRequest(training=agreement.training, bind=agreement.bind).content()
        conversation = self._context.conversation
        there = set(conversation.grid.get_node_ids())  # nobody waits for one that is gone
        ids = [nodes.ids[name] for name in nodes.names if nodes.ids[name] in there]
        asked = [Message(content, node, Kind.END) for node in ids]
        for _ in self._context.heads.settled(asked, conversation.ask(asked)):
            pass  # who does not hear it keeps keys that nobody asks for

    def _figures(self, teaching: Teaching, nodes: Nodes) -> dict[str, dict[str, float]]:
        """Collect each hospital's figures on its own test records, where these are public."""
        context = self._context
        if context.settings.regime.pooled:
            # The curator is no hospital; the server's public records are dealt as theirs would be.
            return context.holdout.measure_by_hospital(context.state.model)
        figures: dict[str, dict[str, float]] = {}
        for reply in teaching.judged():
            if reply.has_error():
                continue
            name = nodes.name_of(reply.metadata.src_node_id)
            try:
                with one_bad_reply():
                    figures[name] = read_figures(reply.content)
            except BadReply as bad:
                context.tracking.record(
                    "fault", round=context.state.round, attempt=1, hospital=name, code=bad.code
                )
        return figures

    def _record_hospitals(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        """Keep each hospital's figures, measure by measure."""
        state = self._context.state
        by_measure: dict[str, dict[str, float]] = {}
        for name, metrics in sorted(figures.items()):
            for measure, value in metrics.items():
                by_measure.setdefault(measure, {})[name] = value
        state.hospital_metrics = by_measure.get(self._context.holdout.headline, {})
        if by_measure:
            self._context.tracking.record("hospitals", round=state.round, **by_measure)
