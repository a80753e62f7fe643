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
from crypto.errors import HeaderError, PreviousMismatchError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from crypto.parcels import Parcel
from crypto.roles import Place, Sealed
from crypto.rosters import Roster
from strategies.conversation import fault_code
from strategies.group_adders import GroupAdders
from strategies.holders import accused
from strategies.replies import BadReply, one_bad_reply, read_round
from strategies.run.fixed_roster import Sent

if TYPE_CHECKING:
    import torch

    from clients.contract.groups import Groups
    from clients.contract.phases import Phases
    from strategies.ceremony import Ceremony
    from strategies.holders import Holders
    from strategies.replies import ModelForm
    from strategies.sums import Sums

#: Bytes of a sealed vector's frame beside its values.
_MOST_FRAME = 4096
#: Bytes that say how long a snapshot's header is.
_SIZE = 2


@dataclass
class Extras:
    """What hospitals sent beside their contributions, where they were asked for it.

    Attributes:
        model: trained tensors of a released model; empty where none came.
        model_round: the last sum in it.
        snapshot: a sealed state, or ``b""``.
        snapshot_round: the last sum in it.
    """

    model: Mapping[str, torch.Tensor] = field(default_factory=dict)
    model_round: int = 0
    snapshot: bytes = b""
    snapshot_round: int = 0


@dataclass
class RoundOutcome:
    """What came of one attempt at a round.

    Attributes:
        closed: the sealed total and its roster, or ``None`` when too few hospitals answered.
        contributors: the hospitals in the total.
        faults: code by hospital.
        accused: members whose shares holders refuse, where too few answered.
        extras: a model and a snapshot, if hospitals were asked for them and had them.
        phases: mean seconds by phase over hospitals, where data are public.
        seconds: of work in all phases by hospital, where data are public.
    """

    closed: OpenedRound | None = None
    contributors: tuple[str, ...] = ()
    faults: dict[str, str] = field(default_factory=dict)
    accused: tuple[str, ...] = ()
    extras: Extras = field(default_factory=Extras)
    phases: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def contributions(self) -> int:
        """How many hospitals are in the total."""
        return len(self.contributors)


class SecureFedAvg(Strategy):
    """FedAvg over sealed sums.

    Guarantee: the server never holds more than single sealed updates and their sealed sum. A total
    is closed only when at least ``least`` hospitals with valid signatures are in it; with fewer it
    is dropped unopened.

    Args:
        inner: the wrapped strategy, which chooses nodes and builds messages.
        ceremony: the hospitals, public sealing parameters, and what headers are bound to; no key.
        form: of a released model.
        least: contributions below which a total is not closed, K - dropouts.
        training: id of the training.
        phases: where the seconds of checking and adding are counted.
        timed: whether hospitals may say how long they took.
        sums: what was closed before.
        groups: whose updates are added apart from others'; None: all are in one sum.
        holders: who open sums under keys in shares; None under any others.
    """

    def __init__(
        self,
        *,
        inner: FedAvg,
        ceremony: Ceremony,
        form: ModelForm,
        least: int,
        training: str,
        phases: Phases,
        timed: bool,
        sums: Sums,
        groups: Groups | None = None,
        holders: Holders | None = None,
    ) -> None:
        self.inner = inner
        self._ceremony = ceremony
        self._plan = ceremony.plan
        self._nodes = ceremony.nodes
        self._form = form
        self._least = least
        self._training = training
        self._phases = phases
        self._timed = timed
        self._sums = sums
        self._groups = groups
        self._holders = holders
        self._attempt = 1
        self._asked = {"model": "", "snapshot": ""}
        self.outcome = RoundOutcome()

    def expect(self, *, attempt: int, release_from: str = "", snapshot_from: str = "") -> None:
        """Say what replies to the next attempt must be of.

        Args:
            attempt: of the round.
            release_from: the only hospital whose model counts.
            snapshot_from: the only hospital whose snapshot counts.
        """
        self._attempt = attempt
        self._asked = {"model": release_from, "snapshot": snapshot_from}
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
        place = Place(training=self._training, round=server_round, attempt=self._attempt)
        adders = GroupAdders(
            self._plan, self._ceremony.key_id, self._groups, self._nodes.public_keys
        )
        headers, outcome = [], RoundOutcome()
        self.outcome, sent = outcome, dict[str, Sent]()
        for message in replies:
            name = self._nodes.name_of(message.metadata.src_node_id)
            if message.has_error():
                outcome.faults[name] = fault_code(message)
                continue
            try:
                with one_bad_reply():
                    reply = self.read(message)
                    with self._phases.measure("add"):
                        parcel = Parcel.of(reply.sealed, reply.envelopes)
                        signed = self._checked(reply, parcel, name, place)
                        extras = self.extras(reply, name)
                        adders.add(name, Sealed(payload=reply.sealed))
            except BadReply as bad:
                outcome.faults[name] = bad.code
                continue
            outcome.faults.pop(name, None)
            headers.append(signed)
            sent[name] = Sent(parcel=parcel, envelopes=reply.envelopes)
            outcome.contributors = (*outcome.contributors, name)
            self.keep(extras)
            self._keep_phases(reply, name)
        if len(headers) >= self._least:
            with self._phases.measure("add"):
                outcome.closed = OpenedRound(
                    total=adders.total(), roster=Roster.of(headers).to_bytes()
                )
        if self._holders is not None:
            with self._phases.measure("answers"):
                fixed = self._holders.fix(place, outcome.closed, sent)
                if fixed is not None:
                    outcome.contributors = fixed.roster.names
                    outcome.closed = self._holders.answered(fixed, outcome.faults)
                    outcome.accused = () if outcome.closed else accused(fixed, outcome.faults)
        return self._records(outcome)

    def read(self, message: Message) -> RoundReply:
        """Read a hospital's answer to a round.

        Raises:
            Exception: it has another form; `strategies.replies.one_bad_reply` makes one of all.
        """
        most = self._plan.bytes_up + _MOST_FRAME
        shares = self._holders.envelope_bytes if self._holders else 0
        return read_round(message.content, self._form, most_sealed=most, most_envelope=shares)

    def extras(self, reply: RoundReply, name: str) -> Extras:
        """Return what came beside a contribution, so far as this hospital was asked for it.

        Raises:
            SealingError: the snapshot is not signed by it.
        """
        found = Extras()
        if reply.model and self._asked["model"] == name:
            found.model, found.model_round = reply.model, reply.model_round
        if reply.snapshot and self._asked["snapshot"] == name:
            self._check_snapshot(reply, name)
            found.snapshot, found.snapshot_round = reply.snapshot, reply.snapshot_round
        return found

    def keep(self, extras: Extras) -> None:
        """Add to the outcome what came beside a contribution."""
        kept = self.outcome.extras
        if extras.model:
            kept.model, kept.model_round = extras.model, extras.model_round
        if extras.snapshot:
            kept.snapshot, kept.snapshot_round = extras.snapshot, extras.snapshot_round

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

    def _checked(self, reply: RoundReply, parcel: Parcel, name: str, place: Place) -> SignedHeader:
        """Verify all that a header says before anything of the payload is parsed.

        Raises:
            SealingError: another sender, place, plan or payload, other terms or members, or the
                hospital has opened other sums than were sent.
            BadReply: its shares are not for those who hold them.
        """
        signed = SignedHeader.from_bytes(reply.header)
        header = verify_header(
            signed,
            {name: self._nodes.public_keys[name]},
            kind=HeaderKind.SUM,
            place=place,
            parameter_id=self._plan.parameter_id,
            digest=parcel.digest,
            bind=self._ceremony.bind,
        )
        if self._holders is not None:
            self._holders.check(name, reply.envelopes)
        elif reply.envelopes:
            raise BadReply
        if header.previous != self._sums.chain(place.round - 1):
            raise PreviousMismatchError(f"{name!r} opened other sums before round {place.round}")
        return signed

    def _check_snapshot(self, reply: RoundReply, name: str) -> None:
        """Verify a snapshot's own header, which stands before it."""
        size = int.from_bytes(reply.snapshot[:_SIZE], "little")
        header = verify_header(
            SignedHeader.from_bytes(reply.snapshot[_SIZE : _SIZE + size]),
            {name: self._nodes.public_keys[name]},
            kind=HeaderKind.SNAPSHOT,
            parameter_id=self._plan.parameter_id,
            payload=reply.snapshot[_SIZE + size :],
            bind=self._ceremony.bind,
        )
        if (header.training, header.round) != (self._training, reply.snapshot_round):
            raise HeaderError(f"{name!r} left a snapshot of round {header.round}")
        if header.previous != self._sums.chain(header.round):
            raise PreviousMismatchError(f"{name!r} left a snapshot of other sums")
        if self._sums.named(header.round)[header.state] < self._least:
            raise HeaderError(f"{name!r} left a snapshot of a state that others do not hold")

    def _keep_phases(self, reply: RoundReply, name: str) -> None:
        if not reply.phases or not self._timed:
            return
        outcome = self.outcome
        outcome.seconds[name] = sum(reply.phases.values())
        count = len(outcome.seconds)
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
