"""Holders of shares: asked for one roster of a place, and never for another.

Where hospitals may be missing from sums under one-time keys, the key of a sum comes of enough
holders' answers to its roster. The roster is on disk before the first of them is asked, so that a
server that was killed meanwhile asks for the same one. With too few answers the sum opens nowhere,
and its place is done again at a new attempt; without those whose shares are none, if any are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.faults import Code, read_code
from clients.contract.kinds import Kind
from clients.contract.share_messages import SharesRequest
from crypto.seats import Seats
from crypto.seeds import SEED_BYTES, packed, parts_of, recovered
from strategies.conversation import UNREACHABLE, Conversation, fault_code
from strategies.replies import BadReply, one_bad_reply, read_shares
from strategies.run.fixed_roster import FixedRoster, Sent

if TYPE_CHECKING:
    from clients.contract.messages import OpenedRound
    from clients.contract.share_messages import SharesReply
    from crypto.one_time_plans import Sharing
    from crypto.roles import Place
    from crypto.rosters import Roster
    from strategies.agreement import Agreement
    from strategies.ceremony import Ceremony
    from strategies.heads import Heads
    from strategies.run.journal import Journal
    from strategies.run.tracking import Tracking
    from strategies.teaching import TrainingContext


class Holders:
    """Those who hold shares of the keys of one training.

    Args:
        conversation: with the hospitals.
        agreement: the terms.
        ceremony: who takes part.
        heads: of hospitals' ledgers.
        journal: where the roster of a place is kept.
        sharing: how keys are shared.
        tracking: told of noise that could not be taken out of a sum.

    Attributes:
        envelope_bytes: bytes of an envelope with a share.
    """

    def __init__(
        self,
        *,
        conversation: Conversation,
        agreement: Agreement,
        ceremony: Ceremony,
        heads: Heads,
        journal: Journal,
        sharing: Sharing,
        tracking: Tracking,
    ) -> None:
        self._conversation = conversation
        self._agreement = agreement
        self._nodes = ceremony.nodes
        self._heads = heads
        self._journal = journal
        self._tracking = tracking
        self._seats = Seats(sharing, ceremony.nodes.public_keys, ceremony.committee)
        self._sharing = sharing
        self._hospitals = ceremony.plan.hospitals
        self._answer_bytes = ceremony.plan.layout.answer_bytes
        self.envelope_bytes = sharing.envelope_bytes(ceremony.plan.degree)

    @classmethod
    def of(cls, context: TrainingContext, ceremony: Ceremony) -> Holders | None:
        """Return the holders of a training's shares; None where its keys are not in shares."""
        if ceremony.plan.sharing is None:
            return None
        return cls(
            conversation=context.conversation,
            agreement=context.agreement,
            ceremony=ceremony,
            heads=context.heads,
            journal=context.journal,
            sharing=ceremony.plan.sharing,
            tracking=context.tracking,
        )

    def check(self, dealer: str, envelopes: Mapping[str, bytes]) -> None:
        """Insist that a dealer sent an envelope to each holder that gets one, and to nobody else.

        Raises:
            BadReply: it did not.
        """
        if set(envelopes) != set(self._seats.enveloped(dealer)):
            raise BadReply
        if any(len(envelope) != self.envelope_bytes for envelope in envelopes.values()):
            raise BadReply

    def fix(
        self, place: Place, closed: OpenedRound | None, sent: Mapping[str, Sent]
    ) -> FixedRoster | None:
        """Return the one roster of a place, on disk; None where too few are in its sum.

        One that a server fixed which was stopped stands in place of what has come now.

        Args:
            place: of the sum.
            closed: what came to it now; None where too few hospitals answered.
            sent: by dealer, what came beside its vector.
        """
        fixed = self._journal.read_fixed(place)
        if fixed is None and closed is not None:
            fixed = FixedRoster(closed=closed, sent=sent)
            self._journal.fix_roster(fixed)
        return fixed

    def answered(self, fixed: FixedRoster, faults: dict[str, str]) -> OpenedRound | None:
        """Return a closed sum with the answers that open it; None where they are too few.

        Args:
            fixed: sum and roster.
            faults: codes by hospital; holders' are added.
        """
        given = self._collect(fixed, faults)
        if len(given) < self._sharing.threshold:
            return None
        answers = {name: one.answer for name, one in given.items()}
        return replace(fixed.closed, answers=answers, seeds=self._seeds(fixed.roster, given))

    def _seeds(self, roster: Roster, given: Mapping[str, SharesReply]) -> bytes:
        """Return the seeds of noise that goes from a sum; whose did not open is told."""
        goes = parts_of(self._sharing, self._hospitals, roster.nonces)
        points = {name: point for point, name in enumerate(self._seats.holders, start=1)}
        opened = recovered(
            {points[name]: one.seeds for name, one in given.items()},
            goes,
            roster.seeds,
            self._sharing.threshold,
        )
        if stayed := sorted({name for name, part in goes if (name, part) not in opened}):
            self._tracking.record(
                "warning",
                message=f"noise of {', '.join(stayed)} stays in the sum of round "
                f"{roster.place.round}: what was shared of its seeds is not what was signed",
            )
        return packed(opened)

    def _collect(self, fixed: FixedRoster, faults: dict[str, str]) -> dict[str, SharesReply]:
        """Return the answers to a roster, by holder.

        Those who are in the sum were there a moment ago; the others, and who was silent, are asked
        if these are too few. Where they are no more than it takes no wrong answer could be told, so
        the others are asked as well, of whom not all have followed the sums before.
        """
        there = [name for name in self._seats.holders if name in self._nodes.ids]
        first = [name for name in there if name in fixed.sent]
        answers = self._ask(fixed, first, faults)
        silent = [name for name in there if faults.get(name) == UNREACHABLE]
        others = [name for name in there if name not in first and name not in silent]
        if len(answers) < self._sharing.threshold:
            answers |= self._ask(fixed, [*silent, *others], faults)
        elif len(answers) == self._sharing.threshold:
            answers |= self._ask(fixed, others, {})
        return dict(sorted(answers.items()))

    def _ask(
        self, fixed: FixedRoster, holders: Iterable[str], faults: dict[str, str]
    ) -> dict[str, SharesReply]:
        goes = parts_of(self._sharing, self._hospitals, fixed.roster.nonces)
        asked = [
            Message(self._request(fixed, name).content(), self._nodes.ids[name], Kind.ANSWER)
            for name in holders
        ]
        answers = {}
        for reply in self._heads.settled(asked, self._conversation.ask(asked)):
            name = self._nodes.name_of(reply.metadata.src_node_id)
            if reply.has_error():
                faults[name] = fault_code(reply)
                continue
            try:
                with one_bad_reply():
                    answers[name] = read_shares(
                        reply.content, self._answer_bytes, SEED_BYTES * len(goes)
                    )
            except BadReply as bad:
                faults[name] = bad.code
            else:
                faults.pop(name, None)
        return answers

    def _request(self, fixed: FixedRoster, holder: str) -> SharesRequest:
        """Return what one holder is brought: the roster, and what is for it of each dealer's."""
        place = fixed.place
        dealers = [name for name, one in fixed.sent.items() if holder in one.envelopes]
        return SharesRequest(
            training=self._agreement.training,
            bind=self._agreement.bind,
            round=place.round,
            attempt=place.attempt,
            roster=fixed.closed.roster,
            parcels={name: fixed.sent[name].parcel.to_bytes() for name in dealers},
            envelopes={name: fixed.sent[name].envelopes[holder] for name in dealers},
        )


def accused(fixed: FixedRoster, faults: Mapping[str, str]) -> tuple[str, ...]:
    """Return the members whose shares holders refuse, by the codes that they answered with."""
    names, found = fixed.roster.names, set()
    for code in faults.values():
        if read_code(code) is Code.SHARE_REFUSED:
            number = int(code.partition(":")[2])
            found |= {names[number - 1]} if 0 < number <= len(names) else set()
    return tuple(sorted(found))
