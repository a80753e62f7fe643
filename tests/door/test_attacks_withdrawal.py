"""Records change while a pass of shared layers lasts, and nobody else's slot does.

A pass pays for three messages of each patient. Slots that were dealt again from whoever is there
would move all patients behind one who withdraws: some would be shown twice for it, and the
withdrawal of one would change what is shown of everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from clients.contract.kinds import Kind
from clients.learning.split_ends import Part
from clients.site.data_stamp import write_stamp
from clients.site.deals import Deals
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.tables import A, table_settings, with_tables
from tests.door.world import Play, agreement_of

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

#: Who takes part: this hospital and another, with a third away; passes of two batches.
TWO = (A, "hospital-01")
PATIENTS = 9
Rows = list[str]

#: What the hospital does to its table between two batches of a pass: rows without the header.
CHANGES: dict[str, Callable[[Rows], Rows]] = {
    "the first withdraws": lambda rows: rows[1:],
    "another comes first": lambda rows: ["a0,0.111,0.222,no", *rows],
    "the file is sorted otherwise": lambda rows: rows[::-1],
    "a cell is corrected": lambda rows: [rows[0].replace(",0.", ",0.9", 1), *rows[1:]],
    "the first withdraws, two come, and the file is sorted otherwise": lambda rows: [
        "a0,0.111,0.222,no",
        *rows[:0:-1],
        "b0,0.333,0.444,yes",
    ],
}


def began(folder: Path, *, named: bool, seed: int = 7) -> SplitPlay:
    sites = with_tables(folder, own=PATIENTS)
    settings = table_settings(folder, **LAYERS, training__rounds=4, run__seed=seed)
    for name in sites.names:
        write_stamp(sites.folder(name), data="csv:visits.csv", bound=10, day=date(2026, 1, 1))
    if not named:
        for site in (*map(sites.consortium.site, sites.names), folder / "server"):
            declared = site / "visits.toml"
            declared.write_text(declared.read_text().replace('patient = "who"\n', ""))
    play = Play.of(sites, settings, agreement_of(settings))
    play.begin()
    for name in TWO:
        sites.keep(name)  # records are read anew for each message all the same
    return SplitPlay(play)


def table(split: SplitPlay) -> Path:
    return split.play.sites.consortium.site(A) / "visits.csv"


def change(split: SplitPlay, how: Callable[[Rows], Rows]) -> None:
    header, *rows = table(split).read_text().splitlines()
    table(split).write_text("\n".join([header, *how(rows)]) + "\n")


@contextmanager
def watched() -> Iterator[list[tuple[float, ...]]]:
    """Whose records go through the layers at home, by what is in them."""
    seen: list[tuple[float, ...]] = []
    outputs = Part.outputs

    def spy(self: Part, inputs: torch.Tensor, shape: Any) -> torch.Tensor:
        seen.extend(tuple(row) for row in inputs.numpy().round(4).tolist())
        return outputs(self, inputs, shape)

    with mock.patch.object(Part, "outputs", spy):
        yield seen


def shown(split: SplitPlay, round: int) -> list[tuple[float, ...]]:
    """Let all take a round; returns whose records this hospital showed in it."""
    with watched() as seen:
        answer = split.forward(A, round)
        assert answer, answer.log[-1500:]
    split.round(round, names=TWO)
    return seen


@pytest.mark.parametrize(
    ("named", "change_name"),
    [
        (False, "the first withdraws, two come, and the file is sorted otherwise"),
        *(
            pytest.param(named, name, marks=pytest.mark.exhaustive)
            for named in (True, False)
            for name in CHANGES
        ),
    ],
)
def test_nobody_is_shown_twice_in_a_pass_whatever_becomes_of_others(
    tmp_path: Path, named: bool, change_name: str
) -> None:
    split = began(tmp_path, named=named)
    first = shown(split, 1)
    change(split, CHANGES[change_name])
    every = [*first, *shown(split, 2)]
    # A corrected cell is the one thing by which records tell nothing of who it is.
    assert len(set(every)) == len(every)
    # Whoever was there all the time is shown once in a pass; who came waits for the next.
    assert PATIENTS - 1 <= len(every) <= PATIENTS
    # One payment was for all of it.
    assert [line["uses"] for line in split.play.sites.lines(A) if line["kind"] == "spend"] == [6]
    following = [*shown(split, 3), *shown(split, 4)]
    assert len(set(following)) == len(table(split).read_text().splitlines()) - 1


def test_dealing_again_from_whoever_is_there_would_show_some_twice(tmp_path: Path) -> None:
    """The control: with a deal that goes by the order of those present, somebody comes again."""

    def by_order(self: Deals, round: int, patients: np.ndarray) -> Any:
        return self._dealt(round, patients)

    with mock.patch.object(Deals, "_kept", by_order):
        split = began(tmp_path, named=True)
        first = shown(split, 1)
        change(split, CHANGES["the first withdraws"])
        every = [*first, *shown(split, 2)]
    assert len(set(every)) < len(every)


def test_a_place_goes_on_with_its_own_patients_at_every_turn(tmp_path: Path) -> None:
    """The head's losses are of those whose activations were shown, though one of them has left."""
    split = began(tmp_path, named=True)
    batches: list[np.ndarray] = []
    batch = Deals.batch

    def spy(self: Deals, round: int, patients: np.ndarray) -> Any:
        found = batch(self, round, patients)
        batches.append(found[1])
        return found

    with mock.patch.object(Deals, "batch", spy):
        for round in (1, 2):
            assert split.forward(A, round)
            before = batches[-1]
            change(split, lambda rows: rows[1:] if len(rows) > 2 else rows)
            for turn in (split.head, split.backward):
                assert turn(A, round)
                assert set(batches[-1]) <= set(before)
            for ask in (split.forward, split.head, split.backward):
                assert ask(TWO[1], round)
            split.play.close(round)


def test_what_is_kept_of_a_deal_has_a_public_size_and_no_names(tmp_path: Path) -> None:
    sizes = set()
    for own in (1, 9):
        split = began(tmp_path / str(own), named=True, seed=-1)
        rows = table(split).read_text().splitlines()
        table(split).write_text("\n".join(rows[: own + 1]) + "\n")
        assert split.forward(A, 1)
        [kept] = split.play.sites.folder(A).glob("slots-*.key")
        sizes.add(kept.stat().st_size)
        assert kept.stat().st_mode & 0o077 == 0
        assert b"p0" not in kept.read_bytes()
    assert len(sizes) == 1
    assert split.ask(A, Kind.HEAD, split.turn(1), 1, 1).code == "malformed"
