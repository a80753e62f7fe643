"""Federated averaging of what the server cannot read.

`SecureFedAvg` wraps Flower's `FedAvg`: who is asked, and with what records, is FedAvg's business;
adding up is not. Replies are sealed vectors with signed headers. Each is checked, folded into one
running sum and forgotten, so the server holds two vectors whatever the number of hospitals, and its
only capability is an `Adder`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy

from clients.contract.messages import OpenedRound, RoundReply, bytes_to_array
from crypto.errors import SealingError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from crypto.roles import Place, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder
from strategies.conversation import fault_code

if TYPE_CHECKING:
    import torch

    from clients.contract.phases import Phases
    from crypto.plans import SealingPlan
    from strategies.nodes import Nodes


@dataclass
class RoundOutcome:
    """What came of one attempt at a round.

    Attributes:
        closed: the sealed total and its roster, or ``None`` when too few hospitals answered.
        contributions: how many hospitals are in the total.
        faults: code by hospital.
        model: the released model, if a hospital was asked for it.
        snapshot: a sealed snapshot, if a hospital was asked for it.
        phases: mean seconds by phase over hospitals, where data are public.
        seconds: of work in all phases by hospital, where data are public.
    """

    closed: OpenedRound | None = None
    contributions: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    snapshot: bytes = b""
    phases: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class SecureFedAvg(Strategy):
    """FedAvg over sealed sums.

    Guarantee: the server never holds more than single sealed updates and their sealed sum. A total
    is closed only when at least ``least`` hospitals with valid signatures are in it; with fewer it
    is dropped unopened.

    Args:
        inner: the wrapped strategy, which chooses nodes and builds messages.
        plan: public sealing parameters; no key.
        key_id: public name of the training's keys: vectors under other keys are refused.
        nodes: the hospitals of this training and their public signing keys.
        least: contributions below which a total is not closed, K - dropouts.
        training: id of the training.
        phases: where the seconds of checking and adding are counted.
    """

    def __init__(
        self,
        *,
        inner: FedAvg,
        plan: SealingPlan,
        key_id: bytes,
        nodes: Nodes,
        least: int,
        training: str,
        phases: Phases,
    ) -> None:
        self.inner = inner
        self._plan = plan
        self._key_id = key_id
        self._nodes = nodes
        self._least = least
        self._training = training
        self._phases = phases
        self.attempt = 1
        self.outcome = RoundOutcome()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let FedAvg address every hospital of the training."""
        return self.inner.configure_train(
            server_round, arrays, config, self._nodes.only_members(grid)
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold sealed replies into one total as they come.

        Returns:
            The sealed total with its roster, or ``None`` when too few hospitals are in it; and the
            mean seconds by phase where hospitals gave them. `outcome` holds the same with faults.
        """
        place = Place(training=self._training, round=server_round, attempt=self.attempt)
        adder, headers, outcome = make_adder(self._plan, self._key_id), [], RoundOutcome()
        for message in replies:
            name = self._nodes.name_of(message.metadata.src_node_id)
            if message.has_error():
                outcome.faults[name] = fault_code(message)
                continue
            try:
                reply = RoundReply.read(message.content)
                with self._phases.measure("add"):
                    signed = self._checked(reply, name, place)
                    adder.add(Sealed(payload=reply.sealed))
            except SealingError as error:
                outcome.faults[name] = error.code
                continue
            except (KeyError, ValueError, TypeError):
                outcome.faults[name] = "malformed-frame"
                continue
            headers.append(signed)
            self._keep_extras(reply, outcome)
            if reply.phases:
                outcome.seconds[name] = sum(reply.phases.values())
        outcome.contributions = len(headers)
        if len(headers) >= self._least:
            with self._phases.measure("add"):
                outcome.closed = OpenedRound(
                    total=adder.total().payload, roster=Roster.of(headers).to_bytes()
                )
        self.outcome = outcome
        return self._records(outcome)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let FedAvg address every hospital of the training."""
        return self.inner.configure_evaluate(
            server_round, arrays, config, self._nodes.only_members(grid)
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average the hospitals' own figures, each hospital counting once."""
        return self.inner.aggregate_evaluate(server_round, list(replies))

    def summary(self) -> None:
        """Log what the wrapped strategy is configured to do."""
        self.inner.summary()

    def _checked(self, reply: RoundReply, name: str, place: Place) -> SignedHeader:
        """Verify sender, signature, place, parameters and payload before anything is parsed."""
        signed = SignedHeader.from_bytes(reply.header)
        verify_header(
            signed,
            {name: self._nodes.public_keys[name]},
            kind=HeaderKind.SUM,
            place=place,
            parameter_id=self._plan.parameter_id,
            payload=reply.sealed,
        )
        return signed

    @staticmethod
    def _keep_extras(reply: RoundReply, outcome: RoundOutcome) -> None:
        outcome.model = reply.model or outcome.model
        outcome.snapshot = reply.snapshot or outcome.snapshot
        count = outcome.contributions = outcome.contributions + 1
        for phase, seconds in reply.phases.items():
            mean = outcome.phases.get(phase, 0.0)
            outcome.phases[phase] = mean + (seconds - mean) / count

    @staticmethod
    def _records(outcome: RoundOutcome) -> tuple[ArrayRecord | None, MetricRecord | None]:
        metrics = MetricRecord(dict(outcome.phases)) if outcome.phases else None
        if outcome.closed is None:
            return None, metrics
        arrays = {
            "total": bytes_to_array(outcome.closed.total),
            "roster": bytes_to_array(outcome.closed.roster),
        }
        return ArrayRecord(arrays), metrics
