"""What a patient's agent gets from its dealer: packets for later, and when used, their seeds."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.inference.links import FrameLink, LinkError, Refusal, whole_number
from crypto.inference.sources import SEED
from deployment.inference.folders import Folder
from deployment.inference.identities import connect
from deployment.inference.packets import FRAME, ID, Packet, Packets
from deployment.inference.used import Used

#: Bytes of a packet that an agent takes from a dealer.
MOST_OF_A_PACKET = 1 << 34


@dataclass
class Traffic:
    """Bytes of one agent's connections, TLS left out, and seconds.

    Attributes:
        sent: peer -> bytes.
        received: likewise.
        seconds: of "packet", "prepare" and "online".
        rounds: of the last prediction.
    """

    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: int = 0


class Supply:
    """Packets for one model.

    Args:
        folder: the patient's.
        model: its id.
        traffic: where bytes are counted.
        patience: seconds that the dealer may be silent.
    """

    def __init__(self, folder: Folder, model: str, traffic: Traffic, *, patience: float) -> None:
        self._folder, self._model = folder, model
        self._traffic, self._patience = traffic, patience

    @property
    def packets(self) -> Packets:
        """Those that lie on this machine: tapes, without the seeds."""
        return Packets(self._folder.own("packets") / self._model)

    def fetch(self) -> None:
        """Get a packet for later.

        Raises:
            Refusal: the dealer has none.
            LinkError: it is gone.
        """
        with self.dealer() as dealer:
            packet = self._packet(dealer)
        self.packets.put(packet.name, [packet.rest])

    def opened(self) -> tuple[Packet, bytes]:
        """Return a packet that was never used, with this end's seed for it.

        Raises:
            Refusal: the dealer has none.
            LinkError: it is gone, or hands out one that was used before.
        """
        used = Used(self._folder.own("used") / self._model)
        with self.dealer() as dealer:
            while (kept := self.packets.take()) is not None:
                # Of one that lay too long, or was used before, the dealer has no seed any more.
                if used.first(kept.name) and (seed := self._seed(dealer, kept, used)):
                    return kept, seed
            packet = self._packet(dealer)
            if not used.first(packet.name):
                raise LinkError(
                    "the dealer hands out a packet that was used here before: its machine was set "
                    "back to an earlier state; its stock, seeds and halves have to be emptied"
                )
            if not (seed := self._seed(dealer, packet, used)):
                raise Refusal("packet", "the dealer has no seed of the packet that it handed out")
            return packet, seed

    def dealer(self) -> FrameLink:
        """Connect to the dealer.

        Raises:
            LinkError: it cannot be reached, or is another.
        """
        # One whose stock is empty makes a packet first.
        return connect(
            self._folder.path,
            self._folder.file.dealer,
            self._folder.peer("dealer"),
            patience=2 * self._patience,
        )

    def _packet(self, dealer: FrameLink) -> Packet:
        said = dealer.ask({"ask": "packet", "model": self._model})
        name = str(said.get("packet"))
        size = whole_number(said, "bytes", MOST_OF_A_PACKET, peer="the dealer")
        if not ID.fullmatch(name):
            raise LinkError("the dealer names a packet by no id")
        content = memoryview(bytearray(size))
        for start in range(0, size, FRAME):
            piece = dealer.receive(min(FRAME, size - start))
            content[start : start + len(piece)] = piece
        self._count(dealer)
        return Packet(name, content)

    def _seed(self, dealer: FrameLink, packet: Packet, used: Used) -> bytes:
        """Return this end's seed of a packet, had once; nothing where the dealer has it no more.

        Raises:
            LinkError: it is one that was used before, of another packet.
        """
        said = dealer.ask({"ask": "half", "model": self._model, "packet": packet.name})
        seed = bytes(dealer.receive(SEED)) if said.get("ok") is True else b""
        self._count(dealer)
        if seed and not used.first_seed(seed):
            raise LinkError("the dealer gives a seed that was used here before, for another packet")
        return seed

    def _count(self, dealer: FrameLink) -> None:
        self._traffic.sent["dealer"] = dealer.sent
        self._traffic.received["dealer"] = dealer.received
