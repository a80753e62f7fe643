"""No order of asking gets more noised messages of a patient than the terms of a training plan.

Noise is calibrated, and the grid is charged, for so many. Places differ in what they cost: a batch
of `layers` that is shown again costs as much as a whole pass, and visits of an early cycle may have
a step more. So who only counts places lets a server ask for the dearest of them alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from accounting import lines
from accounting.events import GaussianEvent
from accounting.states import NEW, step
from clients.contract.schedule import permitted_events
from clients.contract.visit_messages import Carried, VisitReply
from crypto.roles import Place
from tests.door.split_play import LAYERS, SplitPlay
from tests.door.test_attacks_visits import visit
from tests.door.world import LOCAL, Play, started

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

A = "hospital-00"


def paid(play: Play) -> int:
    spends = [line for line in play.sites.lines(A) if line["kind"] == "spend"]
    return sum(int(line["event"]["count"]) for line in spends)


@pytest.mark.parametrize("spare", [0, 1])
def test_a_batch_is_not_shown_again_instead_of_the_rounds_that_were_planned(
    tmp_path: Path, spare: int
) -> None:
    """Four rounds in two passes: six messages of a patient, where four attempts would cost 12."""
    play = started(tmp_path, **LAYERS, training__rounds=4, privacy__spare_attempts=spare)
    play.sites.keep(A)
    split, planned = SplitPlay(play), 6 + 3 * spare
    assert permitted_events(play.settings) == planned
    answers = [split.forward(A, 1, attempt) for attempt in range(1, 6 + spare)]
    assert [answer.code for answer in answers[planned // 3 :]] == ["stale-place"] * 3
    assert all(answers[: planned // 3])
    assert paid(play) == planned
    play.sites.close()


@pytest.mark.exhaustive
def test_the_planned_rounds_and_spare_attempts_are_all_there(tmp_path: Path) -> None:
    play = started(
        tmp_path,
        hospitals=2,
        **{**LAYERS, "privacy__dropouts": 0},
        training__rounds=4,
        privacy__spare_attempts=2,
    )
    split = SplitPlay(play)
    for round, attempt in ((1, 1), (2, 2), (3, 1), (4, 1)):
        if attempt > 1:
            assert split.forward(A, round, attempt - 1)
        split.round(round, attempt)
    assert paid(play) == 9 <= permitted_events(play.settings) == 12


def test_a_model_does_not_visit_a_hospital_in_the_longest_cycle_alone(tmp_path: Path) -> None:
    """Three cycles share four steps, of which the first has two."""
    play = started(
        tmp_path,
        **LOCAL,
        exchange__name="cyclic",
        exchange__cycles=3,
        training__rounds=4,
        privacy__spare_attempts=0,
    )
    model, trail = Carried(), ()
    for round in (1, 2):
        reply = VisitReply.read(visit(play, round, A, model=model, trail=trail).records)
        model, trail = reply.model, (*trail, reply.model.header)
    assert visit(play, 3, A, model=model, trail=trail).code == "stale-place"
    assert visit(play, 4, A, model=model, trail=trail).code == "stale-place"
    assert paid(play) == permitted_events(play.settings) == 4


def test_a_book_of_an_earlier_version_goes_on_as_it_began() -> None:
    """Its training was bound without a number of messages, and is held by its places alone."""
    event = GaussianEvent(sampling_rate=1.0, noise_multiplier=1.0, count=3)
    digests = {"terms": "T", "own": "O", "members": "M", "code": "C"}
    bound = lines.bind("t", **digests, rounds=4, spare=0, failures=3)
    assert "events" not in bound.fields
    state = step(step(NEW, bound), lines.keyed("t", keys="K"))
    for attempt in range(1, 5):
        place = Place(training="t", round=1, attempt=attempt)
        state = step(state, lines.spend(place, event, purpose="x", uses=3))
    assert (state.paid, state.spent) == (12, 12)
    # The same terms mean the same, whichever version wrote them down.
    again = lines.bind("t", **digests, rounds=4, spare=0, failures=3, events=12)
    before = step(NEW, bound).bind
    assert before == step(NEW, again).bind == replace(before, events=12)  # type: ignore[type-var]
