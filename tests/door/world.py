"""Real sites, the real app, and a server that the test plays itself, message by message.

A process of a hospital answers one message and is gone, unless a test keeps it. `modular` sealing
hides nothing from whoever carries it, so a test can read what each hospital sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict

from clients.contract.ceremony_messages import (
    JoinReply,
    JoinRequest,
    KeysRequest,
    LeadReply,
    LeadRequest,
    RevealRequest,
)
from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound, ReleaseRequest, RoundReply, RoundRequest
from clients.contract.settings import Settings
from clients.learning.cuts import cut_model, values_of_messages
from clients.learning.shapes import parameters_of
from clients.site.heads import unmarked
from crypto.headers import SignedHeader
from crypto.roles import Place, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder
from strategies.agreement import Agreement, SharedPart, agree
from strategies.holdout import Holdout
from tests.door.sites import Answer, Asking, Sites
from tests.in_process import COHORTS

CHALLENGE = bytes(range(32))


def door_settings(hospitals: int = 3, **changes: object) -> Settings:
    """A seeded federation over the bundled benchmark; keys as ``group__name``."""
    config: dict[str, object] = {
        "data.name": "breast-cancer",
        "data.public": True,
        "partition.hospitals": hospitals,
        "training.rounds": 3,
        "training.release-every": 1,
        "training.learning-rate": 1.0,
        "privacy.regime": "FSCDP",
        "privacy.l2-clip": 1.0,
        "privacy.target-epsilon": 0.0,
        "privacy.noise-multiplier": 2.0,
        "privacy.dropouts": 1,
        "sealing.scheme": "modular",
        "run.seed": 7,
        "tracking.wandb": "disabled",
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config[f"{group}.{name.replace('_', '-')}"] = value
    return Settings.from_config(config)  # type: ignore[arg-type]


EXACT = {
    "privacy__regime": "F",
    "privacy__noise_multiplier": 0.0,
    "sealing__scheme": "plain",
}
LOCAL = {"privacy__regime": "FPDP", "sealing__scheme": "plain"}
#: Keys of all hospitals open a sum, so none may be missing.
ONE_TIME = {"sealing__scheme": "one-time", "privacy__dropouts": 0}


def agreement_of(settings: Settings, sigma: float | None = None) -> Agreement:
    """The terms as a server derives them."""
    holdout = Holdout(settings, COHORTS)
    shared = SharedPart(parameters=parameters_of(holdout.module))
    if settings.exchange.name == "layers":
        parts = cut_model(settings, holdout.module)
        away = set(parts.names_away(holdout.module))
        home = tuple(one for one in shared.parameters if one.name not in away)
        values = values_of_messages(settings, parts, holdout.shape, holdout.largest_hospital)
        shared = SharedPart(parameters=home, message_values=values)
    noise = settings.privacy.noise_multiplier if sigma is None else sigma
    return agree(settings, holdout, shared, noise_multiplier=noise, kept=None)


@dataclass
class Play:
    """A server that does what the test says, in one training."""

    sites: Sites
    settings: Settings
    agreement: Agreement
    offers: dict[str, bytes] = field(default_factory=dict)
    replies: dict[tuple[int, int], dict[str, RoundReply]] = field(default_factory=dict)
    closed: dict[int, OpenedRound] = field(default_factory=dict)
    key_id: bytes = b""

    @classmethod
    def of(cls, sites: Sites, settings: Settings, agreement: Agreement | None = None) -> Play:
        return cls(sites, settings, agreement or agreement_of(settings))

    @property
    def training(self) -> str:
        return self.agreement.training

    @property
    def bind(self) -> str:
        return self.agreement.bind

    @property
    def names(self) -> tuple[str, ...]:
        return self.sites.names

    def ask(self, name: str, kind: str, request: Asking | RecordDict) -> Answer:
        return self.sites.ask(name, kind, request, self.settings)

    # The ceremony.

    def joining(self, **changes: object) -> JoinRequest:
        fields: dict[str, Any] = {
            "training": self.training,
            "bind": self.bind,
            "noise_multiplier": self.agreement.noise_multiplier,
            "nonce": self.agreement.nonce,
            "challenge": CHALLENGE,
        }
        return JoinRequest(**{**fields, **changes})

    def leading(self, **changes: object) -> LeadRequest:
        fields: dict[str, Any] = {
            "training": self.training,
            "bind": self.bind,
            "noise_multiplier": self.agreement.noise_multiplier,
            "offers": tuple(self.offers[name] for name in sorted(self.offers)),
        }
        return LeadRequest(**{**fields, **changes})

    def revealing(self) -> RevealRequest:
        return RevealRequest(
            training=self.training,
            bind=self.bind,
            noise_multiplier=self.agreement.noise_multiplier,
            offers=tuple(self.offers[name] for name in sorted(self.offers)),
        )

    def join(self, names: Iterable[str] | None = None) -> None:
        for name in names or self.names:
            answer = self.ask(name, Kind.JOIN, self.joining())
            self.offers[name] = JoinReply.read(answer.records).offer

    def lead(self, leader: str) -> LeadReply:
        return LeadReply.read(self.ask(leader, Kind.LEAD, self.leading()).records)

    def keys_for(self, name: str, made: LeadReply, **changes: object) -> KeysRequest:
        fields: dict[str, Any] = {
            "training": self.training,
            "bind": self.bind,
            "noise_multiplier": self.agreement.noise_multiplier,
            "offers": tuple(self.offers[one] for one in sorted(self.offers)),
            "public": made.public,
            "wrapped": made.wrapped[name],
        }
        return KeysRequest(**{**fields, **changes})

    def begin(self) -> None:
        """The whole ceremony; the first hospital leads."""
        self.join()
        leader = self.names[0]
        made = self.lead(leader)
        for name in self.names:
            if name != leader:
                assert self.ask(name, Kind.KEYS, self.keys_for(name, made))

    # Rounds.

    def request(self, round: int, attempt: int = 1, **changes: object) -> RoundRequest:
        """The honest request for a place: it holds what was closed in the round before."""
        fields: dict[str, Any] = {
            "training": self.training,
            "bind": self.bind,
            "round": round,
            "attempt": attempt,
            "closed": {n: one for n, one in self.closed.items() if n == round - 1},
        }
        return RoundRequest(**{**fields, **changes})

    def train(
        self, round: int, attempt: int = 1, names: Iterable[str] | None = None, **changes: object
    ) -> dict[str, RoundReply]:
        """Ask for a place, and keep what comes back."""
        kept = self.replies.setdefault((round, attempt), {})
        for name in self.names if names is None else names:
            answer = self.ask(name, Kind.TRAIN, self.request(round, attempt, **changes))
            kept[name] = answer.round
        return kept

    def sum(self, round: int, attempt: int, names: Iterable[str]) -> OpenedRound:
        """The honest sum of some who answered at a place."""
        adder = make_adder(self.agreement.terms.sealing)
        replies = self.replies[round, attempt]
        for name in names:
            adder.add(Sealed(payload=replies[name].sealed))
        roster = Roster.of(SignedHeader.from_bytes(replies[name].header) for name in names)
        return OpenedRound(total=adder.total().payload, roster=roster.to_bytes())

    def close(self, round: int, attempt: int = 1, names: Iterable[str] | None = None) -> None:
        members = list(self.replies[round, attempt] if names is None else names)
        self.closed[round] = self.sum(round, attempt, members)

    def run(self, rounds: int | None = None, first: int = 1) -> None:
        """Rounds with everybody."""
        for round in range(first, (rounds or self.settings.training.rounds) + 1):
            self.train(round)
            self.close(round)

    def confirming(self, round: int, **changes: object) -> RoundRequest:
        return self.request(round, **{"closed": {round: self.closed[round]}, **changes})

    def confirm(self, round: int, names: Iterable[str] | None = None) -> tuple[bytes, ...]:
        """Confirmations of the last sum."""
        asked = self.names if names is None else names
        return tuple(
            self.ask(name, Kind.CONFIRM, self.confirming(round)).round.header for name in asked
        )

    def releasing(self, headers: Iterable[bytes], **changes: object) -> ReleaseRequest:
        fields: dict[str, Any] = {
            "training": self.training,
            "bind": self.bind,
            "headers": tuple(headers),
            "closed": {},
        }
        return ReleaseRequest(**{**fields, **changes})

    def release(self, name: str, headers: Iterable[bytes], **changes: object) -> Answer:
        return self.ask(name, Kind.RELEASE, self.releasing(headers, **changes))

    def update(self, name: str, round: int, attempt: int = 1) -> np.ndarray:
        """One hospital's own vector, read through the glass of `modular` or `plain` sealing."""
        from crypto.keys import Keys
        from crypto.schemes import make_opener

        plan = self.agreement.terms.sealing
        keys = unmarked((self.sites.folder(name) / f"keys-{self.training}.bin").read_bytes())
        one = self.sum(round, attempt, [name])
        roster = Roster.from_bytes(one.roster)
        place = Place(training=self.training, round=round, attempt=attempt)
        opener = make_opener(plan, Keys.from_bytes(keys))
        return opener.open(Sealed(payload=one.total), roster.nonces, place)


def started(
    folder: Path, hospitals: int = 3, *, unwitnessed: int = 1000, **changes: object
) -> Play:
    """A training whose ceremony is over."""
    sites = Sites(folder / "c", hospitals, unwitnessed=unwitnessed)
    play = Play.of(sites, door_settings(hospitals, **changes))
    play.begin()
    return play
