"""The dealer: makes packets in advance, hands each to one patient, and its half to the provider.

It gets a model's list of layers and the seed of its mask, once, and then ids. What it sees says
nothing of a picture or of weights. Of each packet it keeps two seeds, the provider's and that of
the patient who has the tape, until they are asked for, once each, or are too old.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from crypto.inference.links import FrameLink
from crypto.inference.programs import Program, read_program
from crypto.inference.sources import SEED
from crypto.inference.words import Words
from crypto.whole_file import write_private
from deployment.inference.folders import Folder
from deployment.inference.packets import (
    FRAME,
    ID,
    KEEP_DAYS,
    Packet,
    PacketError,
    Packets,
    PacketSeeds,
    new_id,
    packet_pieces,
)
from deployment.inference.servers import Denied, Server

_log = logging.getLogger("asclepias.inference")
#: Seconds that a provider's half is kept for a patient who has the other, and that one waits.
KEEP_SECONDS, WAIT_SECONDS = KEEP_DAYS * 86400.0, 60.0
#: Seconds between two looks for seeds that are too old.
_LOOK_SECONDS = 60.0
PROVIDER = "provider"


def _give(link: FrameLink, seed: bytes) -> None:
    link.say({"ok": True})
    link.send(seed)


@dataclass
class _Model:
    """A model as the dealer knows it; and when its last packet could not be made.

    Attributes:
        seeds: the provider's.
        halves: the patients', of packets that went out.
    """

    program: Program
    mask: bytes = field(repr=False)
    packets: Packets
    seeds: PacketSeeds
    halves: PacketSeeds
    failed: float = 0.0

    def taken(self) -> Packet | None:
        """Take a packet out whose other half is still here, for as long again; None for none."""
        while (packet := self.packets.take()) is not None:
            if self.seeds.renew(packet.name):
                return packet
        return None


class Dealer:
    """Serves provider and patients.

    Args:
        folder: the dealer's.
        wait: seconds that a patient waits for a packet where none is ready.
        patience: seconds that a peer may be silent.
    """

    def __init__(
        self, folder: Folder, *, wait: float = WAIT_SECONDS, patience: float = 60.0
    ) -> None:
        self._folder, self._wait = folder, wait
        self._models: dict[str, _Model] = {}
        self._change = threading.Condition()
        self._closed = False
        for path in sorted(folder.own("models").glob("*.json")):
            said = json.loads(path.read_text(encoding="utf-8"))
            self._know(path.stem, read_program(said["program"]), bytes.fromhex(said["mask"]))
        pins = folder.guests(PROVIDER)
        self.server = Server(
            folder.path,
            pins,
            folder.file.listen,
            self._serve,
            patience=patience,
            trusted=(PROVIDER,),
        )
        self._looked = time.monotonic()
        self._maker = threading.Thread(target=self._make, daemon=True)

    def start(self) -> Dealer:
        """Begin to listen and to make packets."""
        self.server.start()
        self._maker.start()
        return self

    def close(self) -> None:
        """Take in nobody any more, and end making."""
        self.server.close()
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._maker.join()

    def ready(self, model: str) -> int:
        """Return how many packets of a model are ready."""
        return len(self._models[model].packets) if model in self._models else 0

    def _know(self, name: str, program: Program, mask: bytes) -> None:
        packets = Packets(self._folder.own("stock") / name)
        # Filed by model: a seed expanded for another list of layers would mask with what a patient
        # can work out from the tape.
        seeds, halves = (
            PacketSeeds(self._folder.own(kind) / name, keep_seconds=KEEP_SECONDS)
            for kind in ("seeds", "halves")
        )
        self._models[name] = _Model(program, mask, packets, seeds, halves)

    def _serve(self, link: FrameLink, peer: str) -> None:
        for words in link.questions():
            asked = (words.get("ask"), peer == PROVIDER)
            if asked == ("register", True):
                self._register(link, words)
            elif asked == ("seed", True):
                _give(link, self._known(words).seeds.take(str(words.get("packet"))))
            elif asked == ("half", False):
                try:
                    half = self._known(words).halves.take(str(words.get("packet")), peer)
                except PacketError:
                    # The patient has other packets, and goes on asking.
                    link.say({"ok": False})
                else:
                    _give(link, half)
            elif asked == ("packet", False):
                self._hand_out(link, self._known(words), peer)
            else:
                raise Denied("unknown", f"{peer} may not ask for {str(words.get('ask'))[:40]!r}")

    def _register(self, link: FrameLink, words: dict[str, Any]) -> None:
        name, program = str(words.get("model")), read_program(words.get("program"))
        if not ID.fullmatch(name):
            raise Denied("model", "a model's id is 32 hex digits")
        mask = bytes(link.receive(SEED))
        with self._change:
            known = self._models.get(name)
            if known is None:
                kept = {"program": program.to_json(), "mask": mask.hex()}
                path = self._folder.own("models") / f"{name}.json"
                write_private(path, json.dumps(kept).encode())
                self._know(name, program, mask)
                self._change.notify_all()
            elif known.mask != mask or known.program != program:
                raise Denied("model", "this id is another model's")
        link.say({"ok": True})

    def _known(self, words: dict[str, Any]) -> _Model:
        with self._change:
            model = self._models.get(str(words.get("model")))
        if model is None:
            raise Denied("model", "the provider has not registered this model with the dealer")
        return model

    def _hand_out(self, link: FrameLink, model: _Model, peer: str) -> None:
        deadline = time.monotonic() + self._wait
        with self._change:
            packet = model.taken()
            while packet is None:
                self._change.notify_all()
                if not self._change.wait(deadline - time.monotonic()):
                    raise Denied("dry", "no packet is ready: ask again in a minute")
                packet = model.taken()
            self._change.notify_all()
        model.halves.put(packet.name, bytes(packet.read(SEED)), peer)
        size = len(packet.rest)
        link.say({"packet": packet.name, "bytes": size})
        for start in range(0, size, FRAME):
            link.send(packet.rest[start : start + FRAME])
        _log.info("a packet went to %s; %d are ready", peer, len(model.packets))

    def _make(self) -> None:
        while True:
            with self._change:
                short = self._short()
                self._forget_old()
                while short is None and not self._closed:
                    self._change.wait(_LOOK_SECONDS)
                    self._forget_old()
                    short = self._short()
                if self._closed or short is None:
                    return
            try:
                self._make_one(short)
            except Exception as error:
                # A full disk, say: patients are told that the dealer is dry until there is room.
                # Other models' packets go on being made.
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                _log.error("no packet can be made: %s", why)
                short.failed = time.monotonic()
                time.sleep(1.0)

    def _forget_old(self) -> None:
        """Remove seeds that nobody has asked for in time, a busy dealer as often as an idle one."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for model in self._models.values():
            model.seeds.forget_old()
            model.halves.forget_old()

    def _short(self) -> _Model | None:
        few = [one for one in self._models.values() if len(one.packets) < self._folder.file.stock]
        return min(few, key=lambda one: (one.failed, len(one.packets)), default=None)

    def _make_one(self, model: _Model) -> None:
        name, provider, patient = new_id(), os.urandom(SEED), os.urandom(SEED)
        masks: dict[str, Words] = model.program.masks(model.mask)
        model.seeds.put(name, provider)
        model.packets.put(name, packet_pieces(model.program, masks, provider, patient))
        with self._change:
            self._change.notify_all()
