"""What a hospital shows of a pass of `layers` moves by one clip a message when a patient leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from accounting.ledger import read_ledger
from clients.contract.kinds import Kind
from clients.data import Records
from clients.site import deals
from clients.site.chances import Chances
from clients.site.own_draws import OwnDraws
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.world import Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"
CLIP = 0.5
TURNS = (Kind.FORWARD, Kind.HEAD, Kind.BACKWARD)


@contextmanager
def world(leaver: int | None, *, in_order: bool = False) -> Iterator[list[np.ndarray]]:
    """What is about to be noised, without one patient, dealt as the proof pairs the worlds.

    Args:
        leaver: who is away, by the place among the patients; None for nobody.
        in_order: deal patients by their order instead, as a control.
    """
    before: list[np.ndarray] = []
    released, records, deal = Chances.released, OwnDraws.records, deals.deal_slots

    def watched(self: Chances, value: Any, *given: Any, **more: Any) -> Any:
        value.map(lambda vector: before.append(np.array(vector).ravel()))
        return released(self, value, *given, **more)

    def here(self: OwnDraws) -> Records:
        whole = records(self)
        if leaver is None:
            return whole
        ids = whole.patient_ids
        return whole.of_patients(np.delete(ids, leaver))

    def dealt(patients: int, **public: Any) -> np.ndarray:
        if in_order:
            return np.arange(patients)
        everybody = deal(patients + (leaver is not None), **public)
        return everybody if leaver is None else np.delete(everybody, leaver)

    with (
        mock.patch.object(Chances, "released", watched),
        mock.patch.object(OwnDraws, "records", here),
        mock.patch.object(deals, "deal_slots", dealt),
    ):
        yield before


def messages(play: Play, attempt: int, leaver: int | None, seen: Any = None, **how: bool) -> Any:
    """The three messages of round 1 before noise; the server says the same in both worlds.

    Whoever is away was never there, so the pass is dealt anew.
    """
    split = SplitPlay(play)
    for kept in play.sites.folder(A).glob("slots-*.key"):
        kept.unlink()
    with world(leaver, **how) as before:
        answer = split.forward(A, 1, attempt)
        assert answer, answer.log[-1500:]
        if seen is not None:
            split.shown[A, 1, attempt, Kind.FORWARD] = seen[A, 1, 1, Kind.FORWARD]
        answer = split.head(A, 1, attempt)
        assert answer, answer.log[-1500:]
        if seen is not None:
            split.shown[A, 1, attempt, Kind.HEAD] = seen[A, 1, 1, Kind.HEAD]
        answer = split.backward(A, 1, attempt)
        assert answer, answer.log[-1500:]
    return before, split.shown


def ready(folder: Path) -> Play:
    return started(folder, **LAYERS, privacy__spare_attempts=400, privacy__l2_clip=CLIP)


def patients(play: Play) -> int:
    from tests.in_process import COHORTS

    return int(COHORTS.of(play.settings).patients_by_hospital[A])


def test_any_patient_who_leaves_moves_each_message_by_one_clip_at_most(tmp_path: Path) -> None:
    play = ready(tmp_path)
    play.sites.keep(A)
    whole, seen = messages(play, 1, None)
    count = patients(play)
    moved = np.zeros((count, 3))
    for leaver in range(count):
        less, _ = messages(play, 2 + leaver, leaver, seen)
        moved[leaver] = [np.linalg.norm(a - b) for a, b in zip(whole, less, strict=True)]
    assert moved.max() <= CLIP * (1 + 1e-9)
    # Not because nobody matters: who is in this batch moves what is shown, whoever is not nothing.
    inside = moved[:, 0] > 0
    assert 0 < inside.sum() < count
    assert moved[inside, 0].max() > 0.9 * CLIP
    assert not moved[~inside].any()
    play.sites.close()


def test_dealing_by_order_would_move_a_message_by_more(tmp_path: Path) -> None:
    play = ready(tmp_path)
    whole, seen = messages(play, 1, None, in_order=True)
    less, _ = messages(play, 2, 0, seen, in_order=True)
    assert np.linalg.norm(whole[0] - less[0]) > 2 * CLIP


def test_the_book_says_of_a_pass_what_an_independent_account_says_of_three_messages(
    tmp_path: Path,
) -> None:
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    from accounting.accountants import epsilon

    play = ready(tmp_path)
    messages(play, 1, None)
    [entry] = read_ledger(play.sites.folder(A) / "ledger.jsonl").entries
    assert (entry.event.count, entry.uses, entry.rounds) == (3, 6, 2)
    sigma = play.settings.privacy.noise_multiplier
    expected = from_gaussian_mechanism(sigma).self_compose(3).get_epsilon_for_delta(1e-4)
    assert epsilon([entry.event], 1e-4, "prv") == pytest.approx(expected, rel=0.01)
    # And what was added is that noise: sigma*C in each coordinate.
    assert play.agreement.terms.grid.noise_stddev == pytest.approx(sigma * CLIP, rel=1e-3)


@pytest.mark.parametrize("turn", [Kind.HEAD, Kind.BACKWARD])
def test_a_pass_whose_slots_are_lost_between_turns_goes_on_at_no_turn(
    tmp_path: Path, turn: Kind
) -> None:
    """Patients dealt anew in mid place could be shown four times where three were paid for."""
    play = started(tmp_path, hospitals=2, privacy__dropouts=0, run__seed=-1, **LAYERS)
    split = SplitPlay(play)
    assert split.forward(A, 1)
    if turn is Kind.BACKWARD:
        assert split.head(A, 1)
    [key] = play.sites.folder(A).glob("slots-*.key")
    key.unlink()
    asked = split.head if turn is Kind.HEAD else split.backward
    assert asked(A, 1).code == "stale-place"
    assert not key.exists()
    # Whoever runs the hospital is told what was lost, and what that costs.
    assert f"{key.name} is missing" in play.sites.folder(A).joinpath("hospital.log").read_text()
    # At a higher attempt the rest of the pass is dealt, and paid for, anew.
    split.round(1, attempt=2, names=[A])
    spent = [line for line in play.sites.lines(A) if line["kind"] == "spend"]
    assert [line["uses"] for line in spent] == [6, 6]


def test_without_spare_attempts_a_pass_whose_slots_are_lost_is_refused_for_good(
    tmp_path: Path,
) -> None:
    """Of the last pass; before it, what later passes were planned for is left."""
    one_pass = {"training__rounds": 2, "privacy__spare_attempts": 0, "run__seed": -1}
    play = started(tmp_path, hospitals=2, privacy__dropouts=0, **one_pass, **LAYERS)
    split = SplitPlay(play)
    for turn in (split.forward, split.head, split.backward):
        assert turn(A, 1)
    before = play.sites.lines(A)
    [key] = play.sites.folder(A).glob("slots-*.key")
    key.unlink()
    assert split.forward(A, 1, 2).code == "stale-place"
    assert [line for line in play.sites.lines(A) if line["kind"] == "spend"] == [
        line for line in before if line["kind"] == "spend"
    ]
