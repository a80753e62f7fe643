"""A server that carries a hospital's question to its peers and their answers back."""

from __future__ import annotations

from collections.abc import Iterable

from clients.contract.kinds import Kind
from clients.contract.witness_messages import (
    Vouch,
    VouchReply,
    VouchRequest,
    WitnessReply,
    WitnessRequest,
)
from tests.door.world import Play


def witness(
    play: Play, name: str, evidence: Iterable[bytes] = (), vouches: Iterable[Vouch] = ()
) -> WitnessReply:
    """Ask a hospital where its ledger stands."""
    request = WitnessRequest(
        training=play.training, bind=play.bind, evidence=tuple(evidence), vouches=tuple(vouches)
    )
    return WitnessReply.read(play.ask(name, Kind.WITNESS, request).records)


def vouch(play: Play, peer: str, stands: WitnessReply) -> Vouch:
    """Ask a peer to vouch for what a hospital has signed."""
    request = VouchRequest(
        training=play.training, bind=play.bind, witness=stands.header, key=stands.key
    )
    return VouchReply.read(play.ask(peer, Kind.VOUCH, request).records).vouch


def settle(play: Play, name: str, peers: Iterable[str] | None = None) -> WitnessReply:
    """Bring a hospital the vouches of its peers."""
    others = [one for one in play.names if one != name] if peers is None else peers
    stands = witness(play, name)
    return witness(play, name, vouches=[vouch(play, one, stands) for one in others])
