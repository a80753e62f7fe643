"""A program run by both parties in this process, over a real pair of sockets, and what each got."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crypto.inference.links import FrameLink
from crypto.inference.programs import Program
from crypto.inference.rehearsal import Seeds, rehearse
from crypto.inference.words import Words, decode, encode


@dataclass
class Played:
    """What came of a run.

    Attributes:
        answer: words, at the patient.
        provider_got: each message that the provider got, in order.
        patient_got: likewise; the answer's is the last.
        tape: what the dealer sent the patient.
        masked: the masked weights, as bytes.
    """

    answer: Words
    provider_got: list[bytes]
    patient_got: list[bytes]
    tape: bytes
    masked: bytes

    @property
    def reals(self) -> Any:
        return decode(self.answer)


class HearingLink(FrameLink):
    """A link that keeps what came over it."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        super().__init__(connection, peer=peer, patience=20.0)
        self.heard: list[bytes] = []

    def exchange(self, data: Any, size: int) -> memoryview:
        came = super().exchange(data, size)
        self.heard.append(bytes(came))
        return came


def play(
    program: Program,
    weights: Mapping[str, Any],
    picture: Any,
    *,
    seeds: Seeds | None = None,
    providers: Words | None = None,
    patients: Words | None = None,
) -> Played:
    """Run a program on a picture of real numbers.

    Args:
        providers: the provider's share of it; the patient has the rest.
        patients: the patient's, instead of the rest.
    """
    value = encode(picture).reshape(program.shape)
    share = np.zeros_like(value) if providers is None else providers
    rest = value - share if patients is None else patients
    one, other = socket.socketpair()
    links = HearingLink(one, "the patient"), HearingLink(other, "the provider")
    made = rehearse(program, weights, rest, share, seeds=seeds, links=links)
    masked = b"".join(words.tobytes() for words in made.masked.values())
    return Played(made.answer, links[0].heard, links[1].heard, made.tape, masked)
