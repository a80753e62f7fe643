"""The provider: has the model, serves patients' agents, and sees neither picture nor answer."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.prediction.artefact import Artefact, read_artefact
from clients.prediction.conformal import COVERAGE
from clients.prediction.private_check import check_compiled
from clients.prediction.private_program import Compiled, compile_model, public_part
from crypto.errors import EnvelopeError
from crypto.inference.links import FrameLink, LinkError, Refusal
from crypto.inference.parties import Party
from crypto.inference.sealed_shares import OVERHEAD, ShareOpener
from crypto.inference.sources import SEED, ProviderSource, Role
from crypto.inference.words import Words
from crypto.whole_file import write_private
from deployment.inference.allowances import Allowances
from deployment.inference.deposits import Deposits
from deployment.inference.encrypted_rows import EncryptedRows, linear_of
from deployment.inference.folders import Folder
from deployment.inference.identities import connect
from deployment.inference.packets import ID, new_id
from deployment.inference.servers import Denied, Server
from deployment.inference.used import Used

_log = logging.getLogger("asclepias.inference")
#: Predictions at once, each with some hundred megabytes of randomness for a deep net.
MOST_AT_ONCE = 8
#: Seconds that a patient who is prepared has for choosing a picture.
PICTURE_SECONDS = 600.0


@dataclass(frozen=True)
class Known:
    """By what others know a model, and the seed of its mask; for one model for ever."""

    model: str
    mask: bytes

    @classmethod
    def of(cls, folder: Path, digest: str) -> Known:
        """Return what is kept for a model, or make it."""
        path = folder / f"{digest}.json"
        if not path.exists():
            made = {"model": new_id(), "mask": os.urandom(SEED).hex()}
            write_private(path, json.dumps(made).encode())
        said = json.loads(path.read_text(encoding="utf-8"))
        return cls(said["model"], bytes.fromhex(said["mask"]))

    def __repr__(self) -> str:
        return f"Known({self.model}, hidden)"


def about(
    artefact: Artefact, compiled: Compiled, answer: str, *, encrypted: bool = False
) -> dict[str, Any]:
    """Return what a patient has to know of a model, JSON-ready."""
    threshold = artefact.doubt.threshold()
    return {
        "classes": list(artefact.info.classes),
        "shape": list(compiled.program.shape),
        "gain": list(compiled.gain),
        "offset": list(compiled.offset),
        "features": compiled.features,
        "answer": answer,
        "encrypted": encrypted,
        "threshold": threshold if math.isfinite(threshold) else None,
        "coverage": COVERAGE,
        "data": artefact.info.said(),
    }


class Provider:
    """Serves the agents of patients.

    Args:
        folder: the provider's.
        patience: seconds that a peer may be silent.

    Raises:
        LinkError: the dealer is not there.
        Refusal: the dealer refuses the model.
        ArtefactError: the model is none, or none that is right when computed on shares.
    """

    def __init__(self, folder: Folder, *, patience: float = 60.0) -> None:
        self._folder, said = folder, folder.file
        self._patience = patience
        artefact = read_artefact(folder.path / said.model)
        self.compiled = compile_model(artefact, said.answer)
        self.program = self.compiled.program
        layers = json.dumps(self.program.to_json()).encode()
        # Of the very words that are masked: one mask for two roundings would show their difference.
        words = hashlib.sha256(artefact.digest.encode() + layers)
        for name in self.program.weight_shapes():
            words.update(self.compiled.weights[name].words.tobytes())
        digest = words.hexdigest()
        if not (folder.own("models") / f"{digest}.json").exists():
            worst = check_compiled(artefact, self.compiled)
            _log.info("rehearsed: the worst error of a probability is %.1g", worst)
        self._known = Known.of(folder.own("models"), digest)
        self._used = Used(folder.own("used") / self.model)
        self._public = public_part(artefact).to_bytes() if self.compiled.features else b""
        self._masked = _masked(self.compiled, self._known.mask)
        self.allowances = Allowances(folder.own("counts"), per_day=said.per_day, in_all=said.in_all)
        self.deposits = Deposits(self.program.shape)
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._opener = ShareOpener()
        # A patient who makes keys of another kind reads all weights from one encrypted row.
        linear = linear_of(self.compiled) if said.encrypted else None
        self._encrypted = None if linear is None else EncryptedRows(*linear)
        self._about = about(
            artefact, self.compiled, said.answer, encrypted=self._encrypted is not None
        )
        self._register()
        self.server = Server(
            folder.path, folder.guests(), said.listen, self._serve, patience=patience
        )

    def start(self) -> Provider:
        """Begin to listen."""
        self.server.start()
        return self

    def close(self) -> None:
        """Take in nobody any more."""
        self.server.close()
        if self._encrypted is not None:
            self._encrypted.close()

    @property
    def model(self) -> str:
        """The model's id."""
        return self._known.model

    def _dealer(self) -> FrameLink:
        pins = self._folder.peer("dealer")
        return connect(self._folder.path, self._folder.file.dealer, pins, patience=self._patience)

    def _register(self) -> None:
        with self._dealer() as dealer:
            words = {"ask": "register", "model": self.model, "program": self.program.to_json()}
            dealer.say(words)
            dealer.send(self._known.mask)
            dealer.hear()

    def _serve(self, link: FrameLink, patient: str) -> None:
        for words in link.questions():
            asked = words.get("ask")
            if asked == "model":
                link.say(self._introduction(patient))
                continue
            if words.get("model") != self.model:
                raise Denied("model", "another model is served here now; ask for it")
            if asked == "weights":
                link.say({"ok": True})
                link.send(self._masked)
            elif asked == "features" and self.compiled.features:
                link.say({"ok": True, "bytes": len(self._public)})
                link.send(self._public)
            elif asked == "deposit":
                self._deposit(link, patient)
            elif asked == "prepare":
                self._predict(link, patient, str(words.get("packet")))
            elif asked == "encrypted" and self._encrypted is not None:
                self._answer_row(link, patient, self._encrypted, words.get("sizes"))
            else:
                raise Denied("unknown", f"{str(asked)[:40]!r} is nothing to ask this provider")

    def _introduction(self, patient: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "program": self.program.to_json(),
            "about": self._about,
            "left": self.allowances.left(patient),
            "soon": self.allowances.soon(patient),
            "seal": self._opener.public.hex(),
        }

    def _deposit(self, link: FrameLink, patient: str) -> None:
        """Keep a share that a page has sealed for this process, until its patient asks."""
        sealed = link.receive(8 * math.prod(self.program.shape) + OVERHEAD)
        try:
            share = self._opener.open(bytes(sealed), self.model)
        except EnvelopeError:
            raise Denied("deposit", "a share sealed for another key; load the page again") from None
        link.say({"ok": True, "deposit": self.deposits.put(share, patient)})

    def _predict(self, link: FrameLink, patient: str, packet: str) -> None:
        """Count, get the packet's seed, expand it; then, once there is a picture, run."""
        if not self._places.acquire(timeout=self._patience / 2):
            raise Denied("busy", f"{MOST_AT_ONCE} predictions are under way; try again in a minute")
        try:
            left = self.allowances.use(patient)
            materials = list(self.program.deal(ProviderSource(self._seed(packet))))
            link.say({"ok": True, "left": left})
            share = self._picture(link, patient)
            link.say({"ok": True})
            self.program.run(Party(Role.PROVIDER, link, self.compiled.weights), materials, share)
        finally:
            self._places.release()
        _log.info("answered %s; %d left today", patient, left)

    def _seed(self, packet: str) -> bytes:
        """Return this end's seed of a packet, which no other prediction had.

        Raises:
            Denied: another had it, the dealer has it no more, or is gone.
        """
        if not ID.fullmatch(packet) or not self._used.first(packet):
            raise Denied("packet", "this packet was used here before, or is none")
        try:
            with self._dealer() as dealer:
                dealer.ask({"ask": "seed", "model": self.model, "packet": packet})
                seed = bytes(dealer.receive(SEED))
        except Refusal:
            raise Denied(
                "packet", "the dealer has no such packet of this model, or gave it out before"
            ) from None
        except LinkError:
            raise Denied("dealer", "the dealer cannot be reached; try again later") from None
        if not self._used.first_seed(seed):
            raise Denied("packet", "the dealer gives a seed that was used here before")
        return seed

    def _picture(self, link: FrameLink, patient: str) -> Words:
        """Return the provider's share, once the patient has a picture."""
        patience, link.patience = link.patience, max(link.patience, PICTURE_SECONDS)
        words = link.hear()
        link.patience = patience
        if words.get("ask") != "predict":
            raise Denied("unknown", "after 'prepare' comes 'predict'")
        return self.deposits.take(str(words.get("deposit", "")), patient)

    def _answer_row(self, link: FrameLink, patient: str, rows: EncryptedRows, sizes: Any) -> None:
        """Answer an encrypted row; counted before it is read."""
        left = self.allowances.use(patient)
        answers = rows.answer(*rows.receive(link, sizes))
        link.say({"ok": True, "left": left, "sizes": [len(one) for one in answers]})
        for one in answers:
            link.send(one)
        _log.info("answered an encrypted row of %s; %d left today", patient, left)


def _masked(compiled: Compiled, mask: bytes) -> bytes:
    """Return every weight minus its mask, in the order of the layers."""
    weights: Mapping[str, Any] = compiled.weights
    return b"".join(
        (weights[name].words.reshape(drawn.shape) - drawn).tobytes()
        for name, drawn in compiled.program.masks(mask).items()
    )
