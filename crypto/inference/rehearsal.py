"""A run with all three roles in this process: what a provider does before it serves anybody.

The real protocol over a pair of sockets, with both shares in one hand: for made-up pictures, or
public ones, and for measurements. It shows whether numbers stay in range and answers are right.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
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


def rehearse(
    program: Program,
    weights: Mapping[str, Any],
    patient: Words,
    provider: Words,
    *,
    seeds: Seeds | None = None,
    links: tuple[FrameLink, FrameLink] | None = None,
) -> Rehearsed:
    """Run a program on a shared picture.

    Args:
        program: to run.
        weights: the provider's.
        patient: the patient's share, [*program.shape].
        provider: the provider's.
        seeds: fresh ones if none are given.
        links: the provider's and the patient's ends of a connection; made if none are given.

    Raises:
        LinkError: a party ended before the other.
    """
    seeds, begun = seeds or Seeds.fresh(), time.perf_counter()
    masked, tape = _dealt(program, weights, seeds)
    dealt = time.perf_counter()
    at_patient = list(program.deal(PatientSource(seeds.patient, masked, _reader(tape))))
    prepared = time.perf_counter()
    at_provider = list(program.deal(ProviderSource(seeds.provider)))
    ends = links or _ends()

    def provide() -> None:
        with ends[0]:
            program.run(Party(Role.PROVIDER, ends[0], weights), at_provider, provider)

    thread = threading.Thread(target=provide, daemon=True)
    started = time.perf_counter()
    thread.start()
    with ends[1]:
        party = Party(Role.PATIENT, ends[1])
        answer = program.run(party, at_patient, patient)
    seconds = {
        "dealing": dealt - begun,
        "preparing": prepared - dealt,
        "online": time.perf_counter() - started,
    }
    thread.join()
    return Rehearsed(answer, masked, tape, seconds, party.rounds)


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
