"""The patient's agent, on the patient's own machine: it has a share of the picture, or all of it.

    with Agent(read_folder(Path("patients/ada"), "patient")) as agent:
        agent.prepare()                       # before there is a picture
        answer = agent.predict(share)         # the picture itself, or a page's share and token

Everything that a prediction takes beside the picture is prepared before, and used for one alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import SealingError
from crypto.inference.encrypted import ANSWER_BYTES, MOST_VALUE, RowKeys
from crypto.inference.links import LinkError, whole_number
from crypto.inference.parties import Party
from crypto.inference.programs import Program, read_program
from crypto.inference.sources import PatientSource, Role
from crypto.inference.words import Reals, Words, decode, shareable
from crypto.whole_file import write_private
from deployment.errors import DeploymentError, DeploymentFailed
from deployment.inference.folders import Folder
from deployment.inference.identities import connect
from deployment.inference.packets import ID, KEEP_DAYS, Packets
from deployment.inference.supply import Supply, Traffic

#: Bytes of fixed features that it takes from a provider: a pretrained net is 5 to 100 MB.
MOST_OF_FEATURES = 1 << 29
#: Of a channel's gain and offset: no picture may be too large to be shared.
MOST_FACTOR = 2.0**12
#: Of predictions that are left.
MOST_LEFT = 1 << 31
#: To what the logits of an encrypted answer are rounded.
ROUNDED = 2.0**-12


class AnswerError(SealingError):
    """An answer that is none of the model's: the provider, or the dealer, made it wrong."""

    code = "answer"


@dataclass(frozen=True)
class About:
    """What a provider says of its model; public.

    Attributes:
        classes: names, in the order of the probabilities.
        gain: of each channel: what is shared is pixel * gain + offset.
        offset: likewise.
        features: name of fixed features to compute from the picture first; "" for none.
        answer: "probabilities" or "class".
        encrypted: whether it takes encrypted rows, which need no dealer.
        threshold: score up to which a class is in a prediction set; None: sets hold all classes.
        coverage: share of patients whose set holds the truth.
        data: public facts of the data that the model was trained on.
    """

    classes: tuple[str, ...]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    features: str
    answer: str
    encrypted: bool
    threshold: float | None
    coverage: float
    data: dict[str, Any]

    @classmethod
    def read(cls, said: Any) -> About:
        """Return what came.

        Raises:
            LinkError: it is not what it should be.
        """
        try:
            made = cls(
                tuple(map(str, said["classes"])),
                tuple(map(float, said["gain"])),
                tuple(map(float, said["offset"])),
                str(said["features"]),
                str(said["answer"]),
                bool(said["encrypted"]),
                None if said["threshold"] is None else float(said["threshold"]),
                float(said["coverage"]),
                dict(said["data"]),
            )
        except (KeyError, TypeError, ValueError):
            raise LinkError("the provider says of its model what cannot be read") from None
        factors = np.asarray([*made.gain, *made.offset])
        if not np.all(np.abs(factors) <= MOST_FACTOR):
            raise LinkError(f"the provider's gain or offset is beyond {MOST_FACTOR:g}")
        if (made.threshold is not None and not made.threshold >= 0) or not 0 < made.coverage <= 1:
            raise LinkError("the provider promises of its sets what cannot be")
        return made

    def check(self, program: Program) -> None:
        """Insist that it is said of a program.

        Raises:
            LinkError: of another: its classes, its channels, or what is opened.
        """
        *_, logits, _ = program.shapes()
        kind = {"probabilities": "logits", "class": "favourite"}.get(self.answer)
        if kind != program.layers[-1].kind or logits != (len(self.classes),):
            raise LinkError(
                f"the provider speaks of {self.answer[:40]} of {len(self.classes)} classes; its "
                f"model opens {program.layers[-1].kind} of {logits}"
            )
        channels = {1, program.shape[0]}
        if not {len(self.gain), len(self.offset)} <= channels:
            raise LinkError("the provider's gain and offset are of other channels than its model")


@dataclass(frozen=True)
class Answer:
    """What came out, known to the patient alone.

    Attributes:
        favourite: number of the most probable class.
        chances: calibrated probabilities [classes]; None where the class alone is opened.
        within: numbers of the classes in the prediction set; None likewise.
    """

    favourite: int
    chances: NDArray[np.float64] | None = field(default=None, repr=False)
    within: tuple[int, ...] | None = None

    @classmethod
    def opened(cls, words: Words, about: About) -> Answer:
        """Return what the opened words say.

        Raises:
            AnswerError: they name no class.
        """
        if about.answer != "class":
            return cls.of(decode(words), about)
        if not 0 <= words[0] < len(about.classes):
            raise AnswerError("the answer is no class of the model's: provider or dealer is wrong")
        return cls(int(words[0]))

    @classmethod
    def of(cls, logits: Reals, about: About) -> Answer:
        """Return what logits [classes] say."""
        powers = np.exp(logits - logits.max())
        chances = powers / powers.sum()
        most = np.inf if about.threshold is None else about.threshold
        inside = 1.0 - chances <= most
        inside[chances.argmax()] = True
        return cls(int(chances.argmax()), chances, tuple(np.flatnonzero(inside).tolist()))


class Agent:
    """A patient's agent, connected to the provider.

    Args:
        folder: the patient's.
        patience: seconds that a peer may be silent.

    Raises:
        LinkError: the provider cannot be reached, or is another.
        ProgramError: its list of layers is none.
    """

    def __init__(self, folder: Folder, *, patience: float = 60.0) -> None:
        self._folder, self._patience = folder, patience
        self._provider = connect(
            folder.path, folder.file.provider, folder.peer("provider"), patience=patience
        )
        self.traffic = Traffic()
        self._prepared: list[Any] | None = None
        try:
            said = self._provider.ask({"ask": "model"})
            self.model, self.left = str(said.get("model")), self._left(said)
            #: Predictions that the provider answers while packets that are fetched now can be used.
            self.soon = whole_number(said, "soon", MOST_LEFT, peer="the provider")
            if not ID.fullmatch(self.model):
                raise LinkError("the provider names its model by no id")
            self.program: Program = read_program(said.get("program"))
            self.about = About.read(said.get("about"))
            self.about.check(self.program)
            self.supply = Supply(folder, self.model, self.traffic, patience=patience)
            #: The key for which a page seals the provider's share.
            self.seal = str(said.get("seal", ""))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what was prepared is gone."""
        self._prepared = None
        self._provider.close()

    @property
    def packets(self) -> Packets:
        """The packets for this model that lie on this machine."""
        return self.supply.packets

    def features_file(self) -> Path | None:
        """Return the file that features are computed by, got once; None where there are none.

        It holds what is public of the model: its fixed features, and no weights of its own.
        """
        if not self.about.features:
            return None
        path = self._folder.own("features") / f"{self.model}.safetensors"
        if not path.exists():
            said = self._provider.ask({"ask": "features", "model": self.model})
            size = whole_number(said, "bytes", MOST_OF_FEATURES, peer="the provider")
            write_private(path, bytes(self._provider.receive(size)), durable=False)
        return path

    def fetch(self, count: int) -> Iterator[int]:
        """Get packets from the dealer for later, and yield how many lie here after each.

        Raises:
            DeploymentError: more would lie here than the provider answers while they can be used.
            Refusal: the dealer has none.
            LinkError: it is gone.
        """
        packets = self.packets
        packets.forget_old()
        if len(packets) + count > self.soon:
            raise DeploymentError(
                f"{count} packets beside the {len(packets)} that lie here are more than can be "
                f"used: the provider answers {self.soon} predictions within {KEEP_DAYS} days, and "
                f"then they are of no use; at most {max(self.soon - len(packets), 0)} more are"
            )
        for _ in range(count):
            self.supply.fetch()
            yield len(self.packets)

    def deposit(self, sealed: bytes) -> str:
        """Carry the share that a page sealed for the provider, and return the token for it.

        Raises:
            Refusal: it is none for this provider, or too many wait there.
            LinkError: the provider is gone.
        """
        self._provider.say({"ask": "deposit", "model": self.model})
        self._provider.send(sealed)
        token = str(self._provider.hear().get("deposit"))
        if not ID.fullmatch(token):
            raise LinkError("the provider gives no token for a share")
        return token

    def prepare(self) -> None:
        """Make ready for one prediction: it counts from now on, whether it is made or not.

        Raises:
            DeploymentError: the provider has said that nothing is left.
            Refusal: the provider or the dealer refuses, and says why.
            LinkError: one of them is gone, or the dealer hands out what was used before.
        """
        if not self.left:
            raise DeploymentFailed("the provider answers no more today; no packet was used")
        weights = self._weights()
        begun = time.perf_counter()
        # This end's seed first: once the provider hears of a packet, nobody can have it any more.
        packet, seed = self.supply.opened()
        self.traffic.seconds["packet"] = time.perf_counter() - begun
        begun = time.perf_counter()
        self._provider.say({"ask": "prepare", "model": self.model, "packet": packet.name})
        source = PatientSource(seed, weights, packet.read)
        materials = list(self.program.deal(source))
        self.left = self._left(self._provider.hear())
        self._prepared = materials
        self.traffic.seconds["prepare"] = time.perf_counter() - begun

    def predict(self, share: Words, deposit: str = "") -> Answer:
        """Return the answer for one picture; `prepare` comes before each.

        Args:
            share: this agent's, [*program.shape]; the whole picture where nothing is deposited.
            deposit: the provider's token for the other share.

        Raises:
            DeploymentError: nothing is prepared.
            Refusal: as `prepare`.
            LinkError: likewise.
            AnswerError: what came out is no class; the provider need not know.
        """
        materials, self._prepared = self._prepared, None
        if materials is None:
            raise DeploymentError("nothing is prepared: each prediction takes a packet of its own")
        link, begun = self._provider, time.perf_counter()
        sent, received = link.sent, link.received
        link.ask({"ask": "predict", "deposit": deposit})
        party = Party(Role.PATIENT, link)
        opened = self.program.run(party, materials, share)
        self.traffic.seconds["online"] = time.perf_counter() - begun
        self.traffic.sent["provider"] = link.sent - sent
        self.traffic.received["provider"] = link.received - received
        self.traffic.rounds = party.rounds
        return Answer.opened(opened, self.about)

    def predict_encrypted(self, row: Words) -> Answer:
        """Return the answer of a linear model to a row that is encrypted here, without a dealer.

        Args:
            row: the values, [*program.shape].

        Raises:
            DeploymentError: the provider takes no encrypted rows.
            Refusal: the provider refuses.
            LinkError: it is gone.
        """
        if not self.about.encrypted:
            raise DeploymentError(
                "this provider takes no encrypted rows: its model is not linear, or its "
                "inference.toml does not say encrypted = true; leave --encrypted out"
            )
        link, begun = self._provider, time.perf_counter()
        sent, received = link.sent, link.received
        keys = RowKeys.make()
        pieces = [*keys.public, *keys.encrypt(shareable(decode(row.reshape(-1)), MOST_VALUE))]
        lengths = [len(piece) for piece in pieces]
        link.say({"ask": "encrypted", "model": self.model, "sizes": lengths})
        for piece in pieces:
            link.send(piece)
        said = link.hear()
        self.left = self._left(said)
        if said.get("sizes") != [ANSWER_BYTES] * len(self.about.classes):
            raise LinkError(f"the provider does not answer in {ANSWER_BYTES} bytes for each class")
        logits = keys.decrypt([bytes(link.receive(ANSWER_BYTES)) for _ in self.about.classes])
        self.traffic.seconds["encrypted"] = time.perf_counter() - begun
        self.traffic.sent["provider"] = link.sent - sent
        self.traffic.received["provider"] = link.received - received
        return Answer.of(np.rint(logits / ROUNDED) * ROUNDED, self.about)

    @staticmethod
    def _left(said: Any) -> int:
        return whole_number(said, "left", MOST_LEFT, peer="the provider")

    def _weights(self) -> dict[str, Words]:
        """Return the masked weights: from this machine if they are here, else from the provider."""
        shapes = self.program.weight_shapes()
        size = 8 * sum(map(prod, shapes.values()))
        path = self._folder.own("weights") / f"{self.model}.words"
        with suppress(FileNotFoundError):
            if path.stat().st_size == size:
                return _cut(path.read_bytes(), shapes)
        self._provider.ask({"ask": "weights", "model": self.model})
        came = self._provider.receive(size)
        self.traffic.received["weights"] = size
        write_private(path, bytes(came), durable=False)
        return _cut(came, shapes)


def _cut(words: bytes | memoryview, shapes: dict[str, tuple[int, ...]]) -> dict[str, Words]:
    """Return one array for each shape."""
    flat, found, start = np.frombuffer(words, dtype="<u8"), {}, 0
    for name, shape in shapes.items():
        found[name] = flat[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
    return found
