"""How the committee of a training is drawn: all hospitals show what they committed to, or none is.

One that is named instead must be of hospitals that take part.

The server carries the numbers and can choose none: they were committed to before any was shown. A
number that does not come, or is another one, ends the ceremony. There is no second draw in it, so
nobody can leave until friends sit in the committee without being named for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flwr.app import Message

from clients.contract.ceremony_messages import RevealRequest
from clients.contract.kinds import Kind
from crypto.committees import check_reveal, draw_committee
from strategies.conversation import Conversation, fault_code, listed
from strategies.errors import TrainingStopped
from strategies.replies import BadReply, one_bad_reply, read_revealed

if TYPE_CHECKING:
    from crypto.offers import Offer
    from strategies.agreement import Agreement
    from strategies.nodes import Nodes


def check_committee(agreement: Agreement, offers: Sequence[Offer]) -> None:
    """Insist that a committee which is named is of this training.

    Raises:
        TrainingStopped: somebody is not: no hospital would take keys.
    """
    sharing, names = agreement.terms.sealing.sharing, sorted(offer.name for offer in offers)
    strangers = sorted(set(sharing.committee) - set(names)) if sharing else []
    if strangers:
        raise TrainingStopped(
            f"sealing.committee names {', '.join(strangers)}, but these hospitals take part: "
            f"{', '.join(names)}. Name some of them."
        )


def gather_reveals(
    talk: Conversation, agreement: Agreement, nodes: Nodes, offers: Sequence[Offer]
) -> dict[str, bytes]:
    """Return every hospital's number by name; empty where no committee is to be drawn.

    Raises:
        TrainingStopped: a number did not come, or is another one.
    """
    sharing = agreement.terms.sealing.sharing
    if sharing is None or not sharing.is_drawn(len(offers)):
        return {}
    content = RevealRequest(
        training=agreement.training,
        bind=agreement.bind,
        noise_multiplier=agreement.noise_multiplier,
        offers=tuple(offer.to_bytes() for offer in offers),
    ).content()
    by_name = {offer.name: offer for offer in offers}
    found, faults = dict[str, bytes](), dict[str, str]()
    asked = [Message(content, nodes.ids[name], Kind.REVEAL) for name in nodes.names]
    for reply in talk.ask(asked):
        name = nodes.name_of(reply.metadata.src_node_id)
        if reply.has_error():
            faults[name] = fault_code(reply)
            continue
        try:
            with one_bad_reply():
                reveal = read_revealed(reply.content, name)
                check_reveal(by_name[name], reveal)
                found[name] = reveal
        except BadReply as bad:
            faults[name] = bad.code
    if faults:
        raise TrainingStopped(
            "the committee that holds shares was not drawn: not every hospital showed the number "
            f"that it had committed to ({listed(faults)}). Begin a new training, or name the "
            "committee (sealing.committee)."
        )
    return found


def committee_of(
    agreement: Agreement, offers: Sequence[Offer], reveals: dict[str, bytes]
) -> tuple[str, ...]:
    """Return who holds shares, where that was drawn; else nobody."""
    sharing = agreement.terms.sealing.sharing
    if sharing is None or not sharing.is_drawn(len(offers)):
        return ()
    return draw_committee(offers, reveals, sharing.holders)
