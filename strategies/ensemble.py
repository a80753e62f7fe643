"""An ensemble: every hospital trains a model of its own, and the models decide together.

One round: all hospitals are asked at once and each returns its model. An ensemble is released as a
whole or not at all, so its models travel open, each private by its own hospital's noise. A model
that has come is kept: a run that goes on asks, and pays, for the missing ones only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Message
from safetensors.torch import load, save

from clients.contract.visit_messages import JUDGE, VISIT, JudgeRequest, VisitReply, VisitRequest
from strategies.conversation import fault_code
from strategies.errors import TrainingStopped
from strategies.training import Meter, Training

if TYPE_CHECKING:
    import torch
    from flwr.app import RecordDict

    from strategies.ceremony import Ceremony

#: Between a hospital's name and a tensor's in the released file.
SEPARATOR = "/"


class Ensemble(Training):
    """A training in which nothing is shared but finished models."""

    @property
    def planned_rounds(self) -> int:
        """All hospitals train at once."""
        return 1

    def _teach(self, ceremony: Ceremony) -> None:
        self._members = members = sorted(self._nodes.public_keys)
        kept = self._journal.read_members()
        self._models: dict[str, Mapping[str, torch.Tensor]] = {
            members[number]: load(model) for number, model in kept.items()
        }
        faults: dict[str, str] = {}
        wait = self.settings.exchange.absent == "wait"
        self._tries = {name: iter(self._attempts(1, name)) for name in members}
        for attempt in range(1, self.settings.run.attempts + 1):
            missing = [name for name in members if name not in self._models]
            if not missing:
                break
            faults = self._ask(missing, attempt)
            if not faults or not wait:
                break
        listed = "; ".join(f"{name}: {code}" for name, code in sorted(faults.items()))
        if not self._models or (faults and wait):
            raise TrainingStopped(
                f"{len(self._models)} of {self._hospitals} hospitals trained a model ({listed}). "
                "The reasons are in those hospitals' own logs (hospital.log)."
            )
        if faults:
            self.progress.note = f"skipped: {listed}"
        self.progress.round = 1

    def _cost(self, number: int, attempt: int) -> int:
        return self.settings.training.rounds

    def _ask(self, names: list[str], retry: int) -> dict[str, str]:
        """Ask hospitals for their models; returns the codes of those that gave none."""
        meter = Meter(self._conversation)
        faults: dict[str, str] = {}
        asked = []
        for name in names:
            if name not in self._nodes.ids:
                faults[name] = "unreachable"
                continue
            request = VisitRequest(
                training=self.training,
                visit=1,
                attempt=next(self._tries[name]),
                steps=self.settings.training.rounds,
                release=True,
            )
            asked.append(Message(request.content(), self._nodes.ids[name], VISIT))
        for reply in self._conversation.ask(asked):
            name = self._nodes.name_of(reply.metadata.src_node_id)
            if reply.has_error():
                faults[name] = fault_code(reply)
                continue
            try:
                model = VisitReply.read(reply.content).released
            except (KeyError, ValueError, TypeError):
                faults[name] = "malformed-frame"
                continue
            own = {key: tensor.contiguous() for key, tensor in model.items()}
            self._journal.keep_member(self._members.index(name), save(own))
            self._models[name] = model
        self._record_round(
            1,
            retry,
            meter,
            asked=max(len(names), 1),
            contributions=len(self._models),
            closed=not faults or self.settings.exchange.absent == "skip",
            faults=faults,
            phases={},
        )
        return faults

    def _release_last(self) -> None:
        """Measure the ensemble, whose models came with the replies."""
        progress = self.progress
        models = [self._models[name] for name in sorted(self._models)]
        progress.model = {
            f"{name}{SEPARATOR}{tensor}": value
            for name in sorted(self._models)
            for tensor, value in self._models[name].items()
        }
        progress.released = progress.round
        progress.metrics = self.holdout.measure_together(models, self.settings.exchange.vote)
        self._record_release()

    def _judge_request(self) -> tuple[str, RecordDict]:
        models = tuple(self._models[name] for name in sorted(self._models))
        return JUDGE, JudgeRequest(training=self.training, models=models).content()
