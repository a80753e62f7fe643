"""Two hospitals under keys in shares, one that spoils sums and one that lies about its shares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clients.site import chances as chances_module
from crypto import key_shares
from crypto.frames import HEAD_BYTES
from crypto.pairs import PairKeys
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Sealer, Vector
from tests.exchange_runs import read_json
from tests.strategies.test_shared_keys import run

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class Garbled:
    """A sealer of sums that open nowhere, whose shares are as they should be."""

    def __init__(self, sealer: Sealer, name: str) -> None:
        self._sealer, self._name = sealer, name

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        whole = self._sealer.prepare(place, ahead=ahead)

        def seal(update: Vector, seeds: Sequence[bytes]) -> Sealed:
            sealed = whole.seal(update, seeds)
            if place.round < 2:
                return sealed
            head, body = sealed.payload[:HEAD_BYTES], sealed.payload[HEAD_BYTES:]
            return replace(sealed, payload=head + os.urandom(len(body)))

        return Prepared(self._name, place, seal)


def sabotage(monkeypatch: pytest.MonkeyPatch, spoiler: str, liar: str) -> None:
    real, sums = chances_module.make_sealer, key_shares._shares_for

    def make(plan: object, keys: object, name: str) -> object:
        sealer = real(plan, keys, name)
        return Garbled(sealer, name) if name == spoiler else sealer

    def wrong(request: object, plan: object, pairs: PairKeys, *rest: object) -> object:
        total, seeds = sums(request, plan, pairs, *rest)
        return ((total + 1) % 65521 if pairs.hospital == liar else total), seeds

    monkeypatch.setattr(chances_module, "make_sealer", make)
    monkeypatch.setattr(key_shares, "_shares_for", wrong)


@pytest.mark.parametrize(
    ("spoiler", "liar"),
    [(0, 7), *(pytest.param(*one, marks=pytest.mark.exhaustive) for one in ((5, 1), (3, 2)))],
)
def test_who_is_left_out_answers_so_that_a_liar_does_not_hide_who_spoils_a_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiler: int, liar: int
) -> None:
    """Without them the fewest that open a sum answer, and with one of them wrong none opens."""
    sabotage(monkeypatch, *(f"hospital-{k:02}" for k in (spoiler, liar)))
    settings = run(
        tmp_path,
        partition__hospitals=8,
        privacy__dropouts=2,
        training__rounds=2,
        privacy__spare_attempts=6,
    )
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 2)
    pair = spoiler - spoiler % 2
    out = [row["hospital"] for row in summary["left_out"]]
    assert out == [f"hospital-{k:02}" for k in (pair, pair + 1)]
