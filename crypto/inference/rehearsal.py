"""A run with all three roles in this process: what a provider does before it serves anybody.

The real protocol over a pair of sockets, with both shares in one hand: for made-up pictures, or
public ones, and for measurements. It shows whether numbers stay in range and answers are right.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crypto.inference.links import FrameLink
from crypto.inference.parties import Party
from crypto.inference.programs import Program
from crypto.inference.sources import SEED, DealerSource, PatientSource, ProviderSource, Role
from crypto.inference.words import Words, as_bytes


@dataclass(frozen=True)
class Seeds:
    """All randomness of one run.

    Attributes:
        weights: of the model's mask.
        provider: the provider's.
        patient: the patient's.
    """

    weights: bytes
    provider: bytes
    patient: bytes

    @classmethod
    def fresh(cls) -> Seeds:
        """Return seeds from the operating system."""
        return cls(*(os.urandom(SEED) for _ in range(3)))

    def __repr__(self) -> str:
        return "Seeds(hidden)"


@dataclass(frozen=True)
class Rehearsed:
    """What came of a run.

    Attributes:
        answer: words, at the patient.
        masked: the masked weights, as the patient gets them.
        tape: what the dealer sends the patient.
        seconds: of "dealing", "preparing" at the patient, and "online".
        rounds: how often both sent to each other.
    """

    answer: Words
    masked: Mapping[str, Words]
    tape: bytes
    seconds: Mapping[str, float]
    rounds: int


@dataclass(frozen=True)
class Dealt:
    """All randomness of one run, as its two parties have it.

    Attributes:
        masked: the masked weights, as the patient gets them.
        tape: what the dealer sends the patient.
        patient: the patient's material, layer by layer.
        provider: likewise.
        seconds: of "dealing", and "preparing" at the patient.
    """

    masked: Mapping[str, Words] = field(repr=False)
    tape: bytes = field(repr=False)
    patient: Sequence[Any] = field(repr=False)
    provider: Sequence[Any] = field(repr=False)
    seconds: Mapping[str, float]


def deal(program: Program, weights: Mapping[str, Any], seeds: Seeds | None = None) -> Dealt:
    """Return the randomness of a run.

    Args:
        program: to run.
        weights: the provider's.
        seeds: fresh ones if none are given.
    """
    seeds, begun = seeds or Seeds.fresh(), time.perf_counter()
    masked, tape = _dealt(program, weights, seeds)
    dealt = time.perf_counter()
    at_patient = list(program.deal(PatientSource(seeds.patient, masked, _reader(tape))))
    prepared = time.perf_counter()
    at_provider = list(program.deal(ProviderSource(seeds.provider)))
    seconds = {"dealing": dealt - begun, "preparing": prepared - dealt}
    return Dealt(masked, tape, at_patient, at_provider, seconds)


def play(
    program: Program,
    weights: Mapping[str, Any],
    dealt: Dealt,
    patient: Words,
    provider: Words,
    *,
    links: tuple[FrameLink, FrameLink] | None = None,
) -> Rehearsed:
    """Run a program on a shared picture.

    With both shares in one hand, what is dealt may be played again, and a measurement does. Between
    two parties a second run of the same randomness shows each what the two pictures differ by.

    Args:
        program: to run.
        weights: the provider's.
        dealt: what was dealt for it.
        patient: the patient's share, [*program.shape].
        provider: the provider's.
        links: the provider's and the patient's ends of a connection; made if none are given.

    Raises:
        LinkError: a party ended before the other.
    """
    ends = links or _ends()

    def provide() -> None:
        with ends[0]:
            program.run(Party(Role.PROVIDER, ends[0], weights), dealt.provider, provider)

    thread = threading.Thread(target=provide, daemon=True)
    started = time.perf_counter()
    thread.start()
    with ends[1]:
        party = Party(Role.PATIENT, ends[1])
        answer = program.run(party, dealt.patient, patient)
    seconds = {**dealt.seconds, "online": time.perf_counter() - started}
    thread.join()
    return Rehearsed(answer, dealt.masked, dealt.tape, seconds, party.rounds)


def rehearse(
    program: Program,
    weights: Mapping[str, Any],
    patient: Words,
    provider: Words,
    *,
    seeds: Seeds | None = None,
    links: tuple[FrameLink, FrameLink] | None = None,
) -> Rehearsed:
    """Deal for a shared picture, and run the program on it; as `deal` and `play` say."""
    return play(program, weights, deal(program, weights, seeds), patient, provider, links=links)


def _dealt(
    program: Program, weights: Mapping[str, Any], seeds: Seeds
) -> tuple[dict[str, Words], bytes]:
    """Return the masked weights and the tape."""
    masks = program.masks(seeds.weights)
    tape, masked = bytearray(), {}
    for name, mask in masks.items():
        masked[name] = weights[name].words.reshape(mask.shape) - mask
    dealer = DealerSource(
        seeds.provider, seeds.patient, masks, lambda piece: tape.extend(as_bytes(piece))
    )
    for _ in program.deal(dealer):
        pass
    return masked, bytes(tape)


def _ends() -> tuple[FrameLink, FrameLink]:
    one, other = socket.socketpair()
    return FrameLink(one, peer="the patient"), FrameLink(other, peer="the provider")


def _reader(tape: bytes) -> Any:
    left = memoryview(tape)

    def read(size: int) -> memoryview:
        nonlocal left
        piece, left = left[:size], left[size:]
        return piece

    return read
