"""The end of a training by sums: a quorum signs the last chain, then one hospital releases.

Nothing made from a sum leaves a hospital before enough of them have signed the same chain of sums,
for two chains cannot both find so many signers. On the way the rosters of later rounds show it; the
last sum has none after it, so hospitals are asked. Signing ends the training at a hospital.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.kinds import Kind
from clients.contract.messages import ReleaseRequest, RoundRequest
from crypto.errors import HeaderError, PreviousMismatchError
from crypto.headers import HeaderKind, SignedHeader, verify_header
from strategies.conversation import UNREACHABLE, fault_code, listed
from strategies.culprits import Verdict, judge, refused_by
from strategies.errors import TrainingStopped
from strategies.helping import catch_up
from strategies.replies import MALFORMED, BadReply, ModelForm, one_bad_reply, read_round
from strategies.sums import Help, Sums

if TYPE_CHECKING:
    import torch

    from strategies.agreement import Agreement
    from strategies.ceremony import Ceremony
    from strategies.conversation import Conversation
    from strategies.culprits import Culprits
    from strategies.heads import Heads


@dataclass
class Confirmation:
    """How a training by sums ends.

    Attributes:
        conversation: with the hospitals.
        agreement: the terms.
        ceremony: who takes part.
        sums: what was closed.
        form: of a released model.
        ledger_heads: of hospitals' ledgers.
        round: the last closed round.
        headers: signed confirmations by hospital.
        faults: codes of those that did not confirm, or did not release when they were asked.
    """

    conversation: Conversation
    agreement: Agreement
    ceremony: Ceremony
    sums: Sums
    form: ModelForm
    ledger_heads: Heads
    round: int
    headers: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def begin(self, round: int) -> None:
        """Begin anew, at the last closed round."""
        self.round = round
        self.headers.clear()
        self.faults.clear()

    def collect(self, attempts: int, first: Culprits | None = None) -> Verdict:
        """Ask all that are there to sign the last chain, so often if they are too few.

        Args:
            attempts: how often.
            first: whom to show a sum first that came of a search.

        Returns:
            ``STANDS`` once a quorum signed, ``VOID`` where hospitals refuse the last sum.

        Raises:
            TrainingStopped: fewer than a quorum signed; the message says who did not.
        """
        if first is not None:
            verdict, faults = first.show_first(self._ask_to_sign, attempts)
            self.faults |= faults
            if verdict is Verdict.VOID:
                return verdict
        nodes = self.ceremony.nodes
        for _ in range(attempts):
            unsigned = [name for name in nodes.names if name not in self.headers]
            content = self._request().content()
            asked = [Message(content, nodes.ids[name], Kind.CONFIRM) for name in unsigned]
            replies = self.ledger_heads.settled(asked, self.conversation.ask(asked))
            for reply in catch_up(self.conversation, replies, self.round, self._help):
                self._take(reply)
            self._leave_out_other_states()
            if len(self.headers) >= self.agreement.quorum:
                return Verdict.STANDS
            refused = refused_by(self.faults)
            if judge(self.headers, refused, self.agreement.least) is Verdict.VOID:
                return Verdict.VOID
        others = listed({n: self.faults.get(n, "away") for n in self._missing()})
        raise TrainingStopped(
            f"{len(self.headers)} of {len(nodes.public_keys)} hospitals confirmed round "
            f"{self.round}, needed: {self.agreement.quorum}; these did not: {others}. No model "
            "leaves a hospital before. Resume the run when they are there."
        )

    def release(self) -> Mapping[str, torch.Tensor]:
        """Ask hospitals in turn for the model that was confirmed.

        Raises:
            TrainingStopped: none released it.
        """
        for name in sorted(self.headers):
            try:
                model = self._ask(name)
            except BadReply as bad:
                self.faults[name] = bad.code
            else:
                self.faults.pop(name, None)
                return model
        asked = {n: code for n, code in self.faults.items() if n in self.headers}
        raise TrainingStopped(f"no hospital released the model ({listed(asked)})")

    def _missing(self) -> Iterator[str]:
        return (n for n in sorted(self.ceremony.nodes.public_keys) if n not in self.headers)

    def _request(self) -> RoundRequest:
        return RoundRequest(
            training=self.agreement.training,
            bind=self.agreement.bind,
            round=self.round,
            closed=self.sums.last(self.round),
        )

    def _help(self, stands_at: int) -> RoundRequest:
        """Return the request with all that a hospital needs which stands at a round."""
        return self.sums.filled(self._request(), stands_at)

    def _ask_to_sign(self, name: str) -> str:
        """Ask one hospital; returns its code, "" where it signed."""
        nodes = self.ceremony.nodes
        if name not in nodes.ids:
            return UNREACHABLE
        asked = [Message(self._request().content(), nodes.ids[name], Kind.CONFIRM)]
        replies = self.ledger_heads.settled(asked, self.conversation.ask(asked))
        for reply in catch_up(self.conversation, replies, self.round, self._help):
            self._take(reply)
        return self.faults.get(name, "")

    def _take(self, reply: Message) -> None:
        name = self.ceremony.nodes.name_of(reply.metadata.src_node_id)
        if reply.has_error():
            self.faults[name] = fault_code(reply)
            return
        try:
            with one_bad_reply():
                self.headers[name] = self._checked(reply, name)
        except BadReply as bad:
            self.faults[name] = bad.code
        else:
            self.faults.pop(name, None)

    def _leave_out_other_states(self) -> None:
        """Drop who signed another model than most: only hospitals that hold one can release it."""
        states = {
            name: SignedHeader.from_bytes(data).header.state for name, data in self.headers.items()
        }
        most = max(sorted(states.values()), key=list(states.values()).count, default="")
        for name, state in states.items():
            if state != most:
                del self.headers[name]
                self.faults[name] = MALFORMED

    def _checked(self, reply: Message, name: str) -> bytes:
        """Return a signature over the last chain.

        Raises:
            SealingError: it is somebody else's, or over something else.
        """
        data = read_round(reply.content, self.form, most_sealed=0).header
        header = verify_header(
            SignedHeader.from_bytes(data),
            {name: self.ceremony.nodes.public_keys[name]},
            kind=HeaderKind.CONFIRM,
            parameter_id=self.agreement.terms.sealing.parameter_id,
            bind=self.ceremony.bind,
        )
        if (header.training, header.round) != (self.agreement.training, self.round):
            raise HeaderError(f"{name!r} confirmed round {header.round} of {header.training!r}")
        if header.previous != self.sums.chain(self.round):
            raise PreviousMismatchError(f"{name!r} confirmed another chain of sums")
        return data

    def releasing(self, stands_at: int | None = None) -> ReleaseRequest:
        """Return the request for what follows from the confirmed sums.

        A process that has them needs no more than the signatures.

        Args:
            stands_at: the last round that a process knows which lacks some; None: it lacks none.
        """
        help = Help() if stands_at is None else self.sums.help(stands_at)
        return ReleaseRequest(
            training=self.agreement.training,
            bind=self.agreement.bind,
            headers=tuple(self.headers[one] for one in sorted(self.headers)),
            closed=help.closed,
            opened=help.opened,
            snapshot=help.snapshot,
        )

    def settled(self, asked: list[Message]) -> Iterator[Message]:
        """Yield the answers to such requests, of hospitals that lack a sum once they have it."""
        replies = self.ledger_heads.settled(asked, self.conversation.ask(asked))
        return catch_up(self.conversation, replies, self.round, self.releasing)

    def _ask(self, name: str) -> Mapping[str, torch.Tensor]:
        content = self.releasing().content()
        message = Message(content, self.ceremony.nodes.ids[name], Kind.RELEASE)
        [reply] = self.settled([message])
        if reply.has_error():
            raise BadReply(fault_code(reply))
        with one_bad_reply():
            answer = read_round(reply.content, self.form, most_sealed=0)
            if not answer.model or answer.model_round != self.round:
                raise BadReply
        return answer.model
