"""Hospitals that sign what spoils the sum that it is added to, and what becomes of the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from accounting.ledger import read_ledger
from clients.contract.settings import Settings
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Sealer, Vector
from tests.in_process import small_settings

Spoils = Callable[[str, Place], bool]


class Spoiling:
    """A sealer that signs for another nonce than it sealed under."""

    def __init__(self, sealer: Sealer, name: str, spoils: Spoils) -> None:
        self._sealer, self._name, self._spoils = sealer, name, spoils

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        whole = self._sealer.prepare(place, ahead=ahead)

        def seal(update: Vector, seeds: Sequence[bytes]) -> Sealed:
            sealed = whole.seal(update, seeds)
            if not self._spoils(self._name, place):
                return sealed
            return replace(sealed, nonce=os.urandom(len(sealed.nonce)))

        return Prepared(self._name, place, seal)


def by(*names: str, since: int = 1, until: int = 1000) -> Spoils:
    return lambda name, place: name in names and since <= place.round <= until


def settings_of(out: Path, **changes: object) -> Settings:
    options: dict[str, object] = {
        "privacy__dropouts": 1,
        "training__rounds": 5,
        "sealing__scheme": "modular",
        "run__seed": 7,
    }
    return small_settings(out, **{**options, **changes})


def places(settings: Settings, hospital: str) -> list[tuple[int, int]]:
    entries = read_ledger(Path(settings.run.out) / "sites" / hospital / "ledger.jsonl").entries
    return [(entry.round, entry.attempt) for entry in entries]


def failures(settings: Settings, hospital: str) -> int:
    log = Path(settings.run.out) / "sites" / hospital / "hospital.log"
    return log.read_text().count("did not open") if log.exists() else 0
