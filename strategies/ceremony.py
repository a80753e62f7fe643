"""Round 0: the server carries offers and wrapped keys between hospitals and can open none.

Hospitals sign ephemeral keys, one of them makes the training's keys, each gets its copy wrapped for
it alone. If the one that makes the keys fails, another takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict

from clients.contract import messages
from clients.contract.messages import KeysRequest, LeadReply, LeadRequest
from crypto.ceremony import BundlePublic, Offer
from crypto.errors import SealingError
from crypto.plans import SealingPlan
from strategies.conversation import Conversation, fault_code
from strategies.errors import TrainingStopped
from strategies.nodes import Nodes


@dataclass(frozen=True, kw_only=True)
class Ceremony:
    """What the server knows after the ceremony: who takes part, and public parameters."""

    nodes: Nodes
    plan: SealingPlan
    key_id: bytes


def hold_ceremony(
    conversation: Conversation,
    *,
    training: str,
    hospitals: int,
    noise_multiplier: float,
    invited: Collection[str] = (),
) -> Ceremony:
    """Bring the hospitals of a training together and have them agree on keys.

    Where hospitals are invited by name, no others take part.

    Raises:
        TrainingStopped: too few hospitals joined, or nobody could make the keys.
    """
    joined, faults = _gather(conversation, training)
    if invited:
        joined = {name: found for name, found in joined.items() if name in invited}
    if len(joined) < hospitals:
        missing = ", ".join(sorted(set(invited) - set(joined)))
        raise TrainingStopped(
            f"{len(joined)} of {hospitals} hospitals joined"
            + (f", {missing} did not" if missing else "")
            + (f" ({faults})" if faults else "")
            + ". Start the missing nodes, or lower partition.hospitals."
        )
    names = sorted(joined)[:hospitals]
    offers = tuple(joined[name][1] for name in names)
    nodes = Nodes(
        ids={name: joined[name][0] for name in names},
        public_keys={name: Offer.from_bytes(joined[name][1]).identity for name in names},
    )
    lead = LeadRequest(training=training, noise_multiplier=noise_multiplier, offers=offers)
    made = _first_bundle(conversation, nodes, lead)
    public = BundlePublic.from_bytes(made.public)
    _hand_out(conversation, nodes, lead, made, leader=public.leader)
    return Ceremony(
        nodes=nodes,
        plan=SealingPlan.from_json(public.plan),
        key_id=bytes.fromhex(public.key_id),
    )


def find_members(
    conversation: Conversation, *, training: str, public_keys: Mapping[str, bytes]
) -> Nodes:
    """Find the nodes behind the hospitals of a training that has begun; node ids are new.

    Hospitals that are not there are left out: the round's floor decides whether it can go on.

    Raises:
        TrainingStopped: none is there, or one has another identity than at the ceremony.
    """
    joined, faults = _gather(conversation, training)
    ids = {name: node for name, (node, _) in joined.items() if name in public_keys}
    if not ids:
        raise TrainingStopped(f"no hospital of this training is connected ({faults or 'no node'})")
    for name in ids:
        if Offer.from_bytes(joined[name][1]).identity != public_keys[name]:
            raise TrainingStopped(f"{name} has another identity than when the training began")
    return Nodes(ids=ids, public_keys=dict(public_keys))


def _gather(conversation: Conversation, training: str) -> tuple[dict[str, tuple[int, bytes]], str]:
    """Ask every connected node for an offer: ``name -> (node id, offer)``, and what went wrong."""
    content = RecordDict({messages.CONFIG: ConfigRecord({"training": training})})
    ids = list(conversation.grid.get_node_ids())
    joined: dict[str, tuple[int, bytes]] = {}
    faults: list[str] = []
    for reply in conversation.ask(Message(content, node, messages.JOIN) for node in ids):
        node = reply.metadata.src_node_id
        if reply.has_error():
            if (code := fault_code(reply)) != "not-invited":
                faults.append(f"node {node}: {code}")
            continue
        config = messages.config_of(reply.content)
        try:
            offer = Offer.from_bytes(bytes(config["offer"]))  # type: ignore[arg-type]
        except SealingError as error:
            faults.append(f"node {node}: {error.code}")
            continue
        if offer.name in joined:
            raise TrainingStopped(f"two nodes say that they are {offer.name!r}; end one of them")
        joined[offer.name] = (node, offer.to_bytes())
    return joined, "; ".join(sorted(faults))


def _first_bundle(conversation: Conversation, nodes: Nodes, lead: LeadRequest) -> LeadReply:
    """Ask hospitals in turn to make the keys until one does."""
    faults: list[str] = []
    content = lead.content()
    for name in nodes.names:
        [reply] = conversation.ask([Message(content, nodes.ids[name], messages.LEAD)])
        if not reply.has_error():
            return LeadReply.read(reply.content)
        faults.append(f"{name}: {fault_code(reply)}")
    raise TrainingStopped(f"no hospital could make the keys ({'; '.join(faults)})")


def _hand_out(
    conversation: Conversation, nodes: Nodes, lead: LeadRequest, made: LeadReply, *, leader: str
) -> None:
    """Bring each hospital but the one that made them its wrapped keys."""
    others = [name for name in nodes.names if name != leader]
    missing = [name for name in others if name not in made.wrapped]
    if missing:
        raise TrainingStopped(f"no keys were made for {', '.join(missing)}")
    requests = [
        Message(
            KeysRequest(
                training=lead.training,
                noise_multiplier=lead.noise_multiplier,
                offers=lead.offers,
                public=made.public,
                wrapped=made.wrapped[name],
            ).content(),
            nodes.ids[name],
            messages.KEYS,
        )
        for name in others
    ]
    faults = {
        nodes.name_of(reply.metadata.src_node_id): fault_code(reply)
        for reply in conversation.ask(requests)
        if reply.has_error()
    }
    if faults:
        listed = "; ".join(f"{name}: {code}" for name, code in sorted(faults.items()))
        raise TrainingStopped(f"keys were refused ({listed}); read those hospitals' own logs")
