"""Trainings under keys in shares: a sum carries the noise that was planned, whoever is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from accounting.chain import read_chain
from accounting.parts import part_noise
from clients.contract.kinds import Kind
from clients.contract.messages import RoundRequest
from clients.contract.settings import Settings
from clients.site import contributing, session
from crypto.rosters import Roster
from crypto.seeds import Part, packed, unpacked
from strategies.errors import TrainingStopped
from tests.exchange_runs import model_bytes, read_json, recorded, run_app
from tests.in_process import InProcessGrid, Meddle, hospital_of, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class Seen:
    """What the real functions were given and gave, in one run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates: dict[tuple[int, str], tuple[Any, Any]] = {}
        self.opened: dict[int, Any] = {}
        self.grid: Any = None
        seal, unseal = contributing.sealed_contribution, session.unseal

        def sealing(update: Any, prepared: Any, seeds: Any) -> Any:
            at = prepared.place.round, prepared.hospital
            self.updates[at] = update.copy(), seeds[0].each
            return seal(update, prepared, seeds)

        def unsealing(sealed: Any, terms: Any, keys: Any, place: Any, members: Any) -> Any:
            self.grid = terms.grid
            found = unseal(sealed, terms, keys, place, members)
            self.opened[place.round] = sealed, found
            return found

        monkeypatch.setattr(contributing, "sealed_contribution", sealing)
        monkeypatch.setattr(session, "unseal", unsealing)

    def due(self, number: int, *, removed: bool) -> Any:
        """What a round's sum should open to, by the updates themselves."""
        sealed, _ = self.opened[number]
        names, step = sorted(sealed.contributors), self.grid.step
        left = np.rint(sum(self.updates[number, name][0] for name in names) / step)
        for name in names if removed else ():
            stddev = self.grid.parts.stddevs[1] / step * (1.0 + 1e-9)
            left = left - part_noise(self.updates[number, name][1][0], left.size, stddev)
        return left * step


def settings_of(out: Path) -> Settings:
    """Five hospitals, of which one may be missing: half a part of the noise goes with all."""
    return small_settings(
        out,
        sealing__scheme="one-time",
        partition__hospitals=5,
        privacy__dropouts=1,
        privacy__regime="FSCDP",
    )


def run(out: Path, meddle: Meddle | None = None, *, apart: bool = False) -> InProcessGrid:
    return run_app(settings_of(out), meddle, apart=apart)


def ended(out: Path) -> str:
    return str(read_json(settings_of(out), "summary.json")["status"])


def number_of(message: Message) -> int:
    words = message.content.config_records.get("config", {})
    return int(words.get("server-round", 0))  # type: ignore[arg-type]


def silent(name: str, round: int, kind: Kind) -> Meddle:
    def meddle(message: Message, reply: Message | None) -> Message | None:
        if reply is not None:
            return reply
        asked = hospital_of(message), number_of(message), Kind(message.metadata.message_type)
        return None if asked == (name, round, kind) else message

    return meddle


def listing(change: Callable[[dict[Part, bytes]], object], *names: str) -> Meddle:
    """A server that shows some hospitals another list of seeds of the first sum."""

    def meddle(message: Message, reply: Message | None) -> Message | None:
        if reply is not None:
            return reply
        asked = hospital_of(message) in names, number_of(message), message.metadata.message_type
        if asked == (True, 2, Kind.TRAIN):
            request = RoundRequest.read(message.content)
            opened = unpacked(request.closed[1].seeds)
            change(opened)
            closed = replace(request.closed[1], seeds=packed(opened))
            message.content = replace(request, closed={1: closed}).content()
        return message

    return meddle


def test_a_sum_opens_without_the_noise_that_it_can_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one missing all of it stays."""
    seen = Seen(monkeypatch)
    run(tmp_path / "a", silent("hospital-02", 2, Kind.TRAIN))
    sizes = {number: len(sealed.contributors) for number, (sealed, _) in seen.opened.items()}
    assert sizes == {1: 5, 2: 4, 3: 5}
    for number, gone in ((1, 5), (2, 0), (3, 5)):
        sealed, found = seen.opened[number]
        assert len(sealed.seeds) == gone and found.stayed == ()
        assert np.array_equal(found.values, seen.due(number, removed=gone > 0))
    assert not np.array_equal(seen.opened[1][1].values, seen.due(1, removed=False))
    assert ended(tmp_path / "a") == "finished"
    privacy = read_json(settings_of(tmp_path / "a"), "privacy.json")
    assert privacy["grid"]["parts"]["levels"] == [1]
    beyond = [one for one in privacy["observers"] if "or more" in one["observer"]]
    assert [one["observer"] for one in beyond] == ["server + any 2 other hospitals or more"]
    lines = read_chain(tmp_path / "a" / "sites" / "hospital-00" / "ledger.jsonl").records
    faced = next(one["views"] for one in lines if one["kind"] == "spend")
    sigma = settings_of(tmp_path).privacy.noise_multiplier
    assert faced["server"] == sigma
    assert faced["server+hospitals:1"] == pytest.approx(sigma * math.sqrt(3 / 4))
    assert faced["server+hospitals:2"] == pytest.approx(sigma / math.sqrt(5))


def test_hospitals_with_processes_of_their_own_take_out_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "apart", apart=True)
    run(tmp_path / "together", silent("hospital-01", 3, Kind.ANSWER))
    models = [model_bytes(settings_of(tmp_path / one)) for one in ("apart", "together")]
    assert models[0] == models[1]


@pytest.mark.exhaustive
def test_the_noise_of_a_member_that_dies_after_its_update_goes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    run(tmp_path / "a", silent("hospital-03", 1, Kind.ANSWER))
    sealed, found = seen.opened[1]
    assert ("hospital-03", 1) in sealed.seeds and len(sealed.seeds) == 5
    assert np.array_equal(found.values, seen.due(1, removed=True))


def test_a_dealer_that_signs_other_seeds_keeps_its_noise_in_the_sum_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    seal = contributing.sealed_contribution

    def lying(update: Any, prepared: Any, seeds: Any) -> Any:
        sealed = seal(update, prepared, seeds)
        return replace(sealed, seeds=bytes(32)) if prepared.hospital == "hospital-04" else sealed

    monkeypatch.setattr(contributing, "sealed_contribution", lying)
    run(tmp_path / "a")
    sealed, found = seen.opened[1]
    assert found.stayed == (("hospital-04", 1),) and len(sealed.seeds) == 4
    assert ended(tmp_path / "a") == "finished"
    told = [row["message"] for row in recorded(settings_of(tmp_path / "a"), "warning")]
    named = [message for message in told if "noise of" in message]
    assert len(named) == 3
    assert all("noise of hospital-04 stays in the sum" in message for message in named)


def test_a_hospital_that_is_shown_another_list_of_seeds_parts_with_the_next_roster(
    tmp_path: Path,
) -> None:
    """The server leaves one seed out for one hospital: it holds another model than the others."""
    meddle = listing(lambda opened: opened.pop(("hospital-00", 1)), "hospital-02")
    grid = run(tmp_path / "a", meddle, apart=True)
    rosters = {
        number: Roster.from_bytes(closed.roster)
        for one in grid.requests
        if Kind(one.metadata.message_type) is Kind.TRAIN
        for number, closed in RoundRequest.read(one.content).closed.items()
    }
    # Its header names another chain, so no roster can hold it beside the others.
    assert rosters[1].names == tuple(f"hospital-0{number}" for number in range(5))
    assert "hospital-02" not in rosters[2].names and len(rosters[2].names) == 4
    assert ended(tmp_path / "a") == "finished"


def test_a_sum_that_comes_with_seeds_of_noise_that_stays_is_opened_by_nobody(
    tmp_path: Path,
) -> None:
    everybody = [f"hospital-0{number}" for number in range(5)]
    lie = {("hospital-00", 2): bytes(32)}
    with pytest.raises(TrainingStopped, match="spoil the sum of round 1"):
        run(tmp_path / "a", listing(lambda opened: opened.update(lie), *everybody))
