"""The server's end of a split model, played by a test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from clients.contract.kinds import Kind
from clients.contract.layer_messages import (
    ACTIVATION_GRADIENTS,
    ACTIVATIONS,
    FEATURE_GRADIENTS,
    FEATURES,
    OWNERS,
    SQUARED_NORMS,
    TurnRequest,
    arrays_of,
)
from clients.learning.cuts import cut_model
from strategies.holdout import Holdout
from tests.door.sites import Answer
from tests.door.world import Play
from tests.in_process import COHORTS

LAYERS = {
    "exchange__name": "layers",
    "model__name": "mlp",
    "privacy__regime": "FPDP",
    "training__sampling_rate": 0.5,
}


@dataclass
class SplitPlay:
    """Asks for the three turns of a place."""

    play: Play
    shown: dict[tuple[str, int, int, Kind], dict[str, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module = Holdout(self.play.settings, COHORTS).module
        self.middle = cut_model(self.play.settings, module).middle

    def turn(self, round: int, attempt: int = 1, **arrays: np.ndarray) -> TurnRequest:
        named = {name.replace("_", "-"): value for name, value in arrays.items()}
        return TurnRequest(
            training=self.play.training,
            bind=self.play.bind,
            round=round,
            attempt=attempt,
            arrays=named,
        )

    def ask(self, name: str, kind: Kind, request: object, round: int, attempt: int) -> Answer:
        answer = self.play.ask(name, kind, request)  # type: ignore[arg-type]
        if answer:
            self.shown[name, round, attempt, kind] = arrays_of(answer.records)
        return answer

    def forward(self, name: str, round: int, attempt: int = 1, **changes: object) -> Answer:
        request = self.play.request(round, attempt, **changes)
        return self.ask(name, Kind.FORWARD, request, round, attempt)

    def head(self, name: str, round: int, attempt: int = 1) -> Answer:
        seen = torch.as_tensor(self.shown[name, round, attempt, Kind.FORWARD][ACTIVATIONS])
        with torch.no_grad():
            features = self.middle(seen).numpy()
        request = self.turn(round, attempt, **{FEATURES: features})
        return self.ask(name, Kind.HEAD, request, round, attempt)

    def backward(self, name: str, round: int, attempt: int = 1) -> Answer:
        first = self.shown[name, round, attempt, Kind.FORWARD]
        seen = torch.as_tensor(first[ACTIVATIONS]).requires_grad_(True)
        gradient = self.shown[name, round, attempt, Kind.HEAD][FEATURE_GRADIENTS]
        self.middle(seen).backward(torch.as_tensor(gradient))
        assert seen.grad is not None
        arrays = {ACTIVATION_GRADIENTS: seen.grad.numpy()}
        if OWNERS in first:
            arrays[SQUARED_NORMS] = np.zeros(len(np.unique(first[OWNERS])))
        request = self.turn(round, attempt, **arrays)
        answer = self.ask(name, Kind.BACKWARD, request, round, attempt)
        if answer:
            self.play.replies.setdefault((round, attempt), {})[name] = answer.round
        return answer

    def round(self, round: int, attempt: int = 1, names: Iterable[str] | None = None) -> None:
        """All turns of a place with some hospitals, then their sum."""
        for name in self.play.names if names is None else names:
            for asked in (self.forward, self.head, self.backward):
                answer = asked(name, round, attempt)
                assert answer, f"{asked.__name__}: {answer.code} {answer.log[-2000:]}"
        self.play.close(round, attempt)
