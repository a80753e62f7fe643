"""An ensemble: every hospital trains a model of its own, and the models decide together.

One round: all hospitals are asked at once and each returns its model. An ensemble is released as a
whole or not at all, so its models travel open, each private by its own hospital's noise. A model
that has come is kept: a run that goes on asks, and pays, for the missing ones only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Message
from safetensors.torch import load, save

from clients.contract.faults import Code
from clients.contract.kinds import Kind
from clients.contract.visit_messages import JudgeRequest, VisitRequest
from strategies.conversation import UNREACHABLE, listed
from strategies.errors import TrainingStopped
from strategies.predictors import SEPARATOR
from strategies.teaching import Meter, Teaching

if TYPE_CHECKING:
    import torch
    from flwr.app import RecordDict

    from clients.contract.settings import Settings
    from strategies.ceremony import Ceremony
    from strategies.teaching import TrainingContext


class Ensemble(Teaching):
    """A training in which nothing is shared but finished models."""

    def __init__(self, context: TrainingContext, ceremony: Ceremony) -> None:
        super().__init__(context, ceremony)
        self._members = sorted(self._nodes.public_keys)
        self._models: dict[str, Mapping[str, torch.Tensor]] = {
            self._members[number]: load(model)
            for number, model in self._journal.read_members().items()
        }
        self._paid = {name: iter(self._attempts(1, name)) for name in self._members}

    @staticmethod
    def planned_rounds(settings: Settings) -> int:
        """Return 1: all hospitals train at once."""
        return 1

    def teach(self) -> None:
        """Ask for the models that are missing, until they are there or attempts are used up."""
        faults: dict[str, str] = {}
        wait = self.settings.exchange.absent == "wait"
        for attempt in itertools.count(1):
            missing = [name for name in self._members if name not in self._models]
            asked = self._attempts_at(missing)
            faults = {name: faults.get(name, UNREACHABLE) for name in missing if name not in asked}
            if not asked:
                break
            faults |= self._ask(asked, attempt)
            # Whoever lost its answer to an attempt of an earlier run can still make another.
            if not faults or not (wait or Code.STALE_PLACE in faults.values()):
                break
        if not self._models or (faults and wait):
            raise TrainingStopped(
                f"{len(self._models)} of {len(self._members)} hospitals trained a model "
                f"({listed(faults)}). The reasons are in those hospitals' own logs (hospital.log)."
            )
        if faults:
            self.state.note = f"skipped: {listed(faults)}"
        self.state.round = 1

    def _places(self) -> int:
        return 1

    def _cost(self, number: int, attempt: int) -> int:
        return self.settings.training.rounds

    def _attempts_at(self, names: list[str]) -> dict[str, int]:
        """Return, and pay for, the next attempt at each hospital that is there to be asked."""
        there = [name for name in names if name in self._nodes.ids]
        numbers = {name: next(self._paid[name], 0) for name in there}
        return {name: number for name, number in numbers.items() if number}

    def _ask(self, attempts: Mapping[str, int], attempt: int) -> dict[str, str]:
        """Ask hospitals for their models; returns the codes of those that gave none."""
        meter = Meter(self._conversation)
        faults: dict[str, str] = {}
        asked = [
            Message(self._request(number).content(), self._nodes.ids[name], Kind.VISIT)
            for name, number in attempts.items()
        ]
        skip = self.settings.exchange.absent == "skip"
        replies = self._conversation.ask(asked)
        for reply in self._ask_again(asked, replies, lambda: skip):
            name = self._nodes.name_of(reply.metadata.src_node_id)
            model, fault = self._model_in(reply)
            if fault:
                faults[name] = fault
            else:
                self._keep(name, model)
        self._record_round(
            1,
            attempt,
            meter,
            asked=len(attempts),
            contributions=len(self._models),
            closed=not faults or self.settings.exchange.absent == "skip",
            faults=faults,
            phases={},
        )
        return faults

    def _request(self, attempt: int) -> VisitRequest:
        return VisitRequest(
            training=self.training,
            bind=self._agreement.bind,
            round=1,
            attempt=attempt,
            steps=self.settings.training.rounds,
            release=True,
        )

    def _keep(self, name: str, model: Mapping[str, torch.Tensor]) -> None:
        """Keep a finished model, on disk first."""
        own = {key: tensor.contiguous() for key, tensor in model.items()}
        self._journal.keep_member(self._members.index(name), save(own))
        self._models[name] = model

    def release_last(self) -> None:
        """Measure the ensemble, whose models came with the replies."""
        state = self.state
        models = [self._models[name] for name in sorted(self._models)]
        state.model = {
            f"{name}{SEPARATOR}{tensor}": value
            for name in sorted(self._models)
            for tensor, value in self._models[name].items()
        }
        state.released = state.round
        state.metrics = self.holdout.measure_together(models, self.settings.exchange.vote)
        state.alone = self.holdout.measure_alone(self._models)
        self._record_release()

    def judge_request(self) -> tuple[Kind, RecordDict]:
        """Return the request to judge all models together."""
        models = tuple(self._models[name] for name in sorted(self._models))
        request = JudgeRequest(training=self.training, bind=self._agreement.bind, models=models)
        return Kind.EVALUATE_MODELS, request.content()
