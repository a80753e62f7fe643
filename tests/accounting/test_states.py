from typing import NamedTuple

import pytest

from accounting import lines
from accounting.errors import BookError, LedgerError
from accounting.events import ExactEvent, GaussianEvent
from accounting.lines import Line
from accounting.states import NEW, Phase, step

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)


class Place(NamedTuple):
    training: str
    round: int
    attempt: int


def at(round, attempt=1):
    return Place("t", round, attempt)


def bind(**changes):
    digests = {"terms": "T", "own": "O", "members": "M", "code": "C"}
    return lines.bind("t", **{**digests, "rounds": 4, "spare": 2, "failures": 3, **changes})


def spend(round, attempt=1, event=EVENT, uses=1, **changes):
    return lines.spend(at(round, attempt), event, purpose="x", uses=uses, **changes)


def seal(round, attempt=1):
    return lines.seal(at(round, attempt), reply="R")


def again(round, attempt=1):
    return lines.again(at(round, attempt))


def show(round, turn, attempt=1):
    return lines.show(at(round, attempt), turn=turn)


def commit(round, attempt=1, total="S", group=""):
    return lines.commit(at(round, attempt), roster="roster", total=total, group=group)


def close(round):
    return lines.close("t", round=round, chain=f"chain {round}")


def adopt(round):
    return lines.adopt("t", round=round, chain=f"chain {round}")


def public(about):
    return lines.public("t", purpose="evaluate", about=about)


def whole(round):
    return spend(round), seal(round), commit(round), close(round)


KEYED = (bind(), lines.keyed("t", keys="K"))
VISITS = (bind(rounds=6, visits=2, spare=1), KEYED[1])
SEEDED = (bind(repeats=True), KEYED[1])
PASS = spend(1, uses=6, rounds=2)
END, RETIRE = lines.end("t", round=1), lines.retire("t")


def after(*all_lines, state=NEW):
    for line in all_lines:
        state = step(state, line)
    return state


def test_a_training_goes_its_way():
    state = after(*KEYED, *whole(1), spend(2), seal(2))
    assert (state.phase, state.place, state.closed) == (Phase.SEALED, (2, 1), 1)
    assert (state.spent, state.places, state.failures, state.reply) == (2, 2, 0, "R")
    assert after(commit(2), close(2), lines.end("t", round=2), state=state).phase is Phase.ENDED


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        # Keys and binding.
        ((), KEYED[1], "keys-missing"),
        ((), spend(1), "keys-missing"),
        ((bind(),), spend(1), "keys-missing"),
        (KEYED, bind(terms="other"), "training-bound"),
        (KEYED, bind(own="other"), "training-bound"),
        (KEYED, bind(members="other"), "training-bound"),
        (KEYED, bind(rounds=3), "training-bound"),
        ((*KEYED, RETIRE), bind(), "training-retired"),
        ((*KEYED, spend(1)), KEYED[1], "training-bound"),
        ((*KEYED, *whole(1)), KEYED[1], "training-bound"),
        ((*KEYED, adopt(1)), KEYED[1], "training-bound"),
        ((*KEYED, commit(1)), KEYED[1], "training-bound"),
        # Places rise.
        (KEYED, spend(0), "malformed"),
        (KEYED, spend(1, 0), "malformed"),
        (KEYED, spend(1, event=ExactEvent(count=0)), "malformed"),
        (KEYED, spend(1, uses=0), "malformed"),
        (KEYED, spend(1, uses=3, rounds=2), "malformed"),
        (KEYED, spend(1, uses=5, rounds=5), "malformed"),
        (KEYED, spend(2), "stale-place"),
        ((*KEYED, spend(1)), spend(1), "stale-place"),
        ((*KEYED, spend(1, 3)), spend(1, 2), "stale-place"),
        ((*KEYED, *whole(1)), spend(1, 2), "stale-place"),
        ((*KEYED, *(line for r in range(1, 5) for line in whole(r))), spend(5), "stale-place"),
        ((*KEYED, *(spend(1, a) for a in range(1, 7))), spend(1, 7), "stale-place"),
        ((*KEYED, commit(1)), spend(1), "stale-place"),
        # What was paid for is sealed once, at its own place.
        (KEYED, seal(1), "stale-place"),
        ((*KEYED, spend(1), seal(1)), seal(1), "stale-place"),
        ((*KEYED, spend(1), spend(1, 2)), seal(1), "stale-place"),
        ((*KEYED, spend(1), commit(1)), seal(1), "stale-place"),
        # Nothing is computed again, but what follows from a seed and was not opened.
        ((*KEYED, spend(1)), again(1), "stale-place"),
        ((*KEYED, spend(1), seal(1)), again(1), "stale-place"),
        (SEEDED, again(1), "stale-place"),
        ((*SEEDED, spend(1), seal(1)), again(1, 2), "stale-place"),
        ((*SEEDED, spend(1, 2), seal(1, 2)), again(1), "stale-place"),
        ((*SEEDED, spend(1), seal(1), lines.answer(at(1), roster="A")), again(1), "stale-place"),
        ((*SEEDED, spend(1), seal(1), commit(1)), again(1), "stale-place"),
        ((*SEEDED, *whole(1)), again(1), "stale-place"),
        ((*SEEDED, spend(1), seal(1), again(1), seal(1)), seal(1), "stale-place"),
        ((*KEYED, spend(1)), bind(repeats=True), "training-bound"),
        # Turns.
        ((*KEYED, PASS), show(1, 4), "stale-place"),
        ((*KEYED, PASS), show(1, 0), "stale-place"),
        ((*KEYED, PASS, show(1, 1)), show(1, 1), "stale-place"),
        ((*KEYED, PASS, show(1, 2)), show(1, 1), "stale-place"),
        ((*KEYED, PASS, show(1, 3)), seal(1), "stale-place"),
        (KEYED, show(1, 1), "stale-place"),
        ((*KEYED, PASS), show(1, 1, attempt=2), "stale-place"),
        ((*KEYED, PASS, adopt(1), show(2, 1)), show(2, 1, attempt=2), "stale-place"),
        ((*KEYED, PASS, adopt(1)), show(2, 2), "stale-place"),
        ((*KEYED, PASS, adopt(2)), show(3, 1), "stale-place"),
        # One total.
        (KEYED, commit(2), "opening-refused"),
        (KEYED, commit(1, 0), "opening-refused"),
        ((*KEYED, commit(1)), commit(1, total="other"), "opening-refused"),
        ((*KEYED, commit(1, 2)), commit(1, 1, total="other"), "opening-refused"),
        ((*KEYED, *whole(1)), commit(1, 2, total="other"), "opening-refused"),
        ((*KEYED, spend(1, 2)), commit(1, 1), "opening-refused"),
        (
            (*KEYED, *(commit(1, a, total=str(a)) for a in (1, 2, 3))),
            commit(1, 4, total="4"),
            "training-retired",
        ),
        (KEYED, close(1), "opening-refused"),
        ((*KEYED, commit(1)), close(2), "opening-refused"),
        ((*KEYED, commit(1), spend(1, 2)), close(1), "opening-refused"),
        ((*KEYED, commit(1), close(1)), close(1), "opening-refused"),
        ((*KEYED, *whole(1)), adopt(1), "opening-refused"),
        (KEYED, adopt(5), "opening-refused"),
        # Answers.
        ((*KEYED, spend(1)), lines.answer(at(1), roster="A"), "stale-place"),
        ((*KEYED, spend(1, 2), seal(1, 2)), lines.answer(at(1), roster="A"), "stale-place"),
        (
            (*KEYED, spend(1), seal(1), lines.answer(at(1), roster="A")),
            lines.answer(at(1), roster="B"),
            "stale-place",
        ),
        ((*KEYED, lines.answer(at(1), roster="A")), spend(1), "stale-place"),
        ((*KEYED, commit(1)), lines.answer(at(1), roster="A"), "stale-place"),
        (
            (*KEYED, commit(1), lines.answer(at(1, 2), roster="A")),
            commit(1, total="other"),
            "opening-refused",
        ),
        ((*KEYED, commit(1), lines.answer(at(1, 2), roster="A")), close(1), "opening-refused"),
        ((*KEYED, spend(1), lines.answer(at(1, 2), roster="A")), seal(1), "stale-place"),
        ((*KEYED, lines.answer(at(1), roster="A")), seal(1), "stale-place"),
        # The end.
        ((*KEYED, *whole(1)), lines.end("t", round=2), "stale-place"),
        ((*KEYED, *whole(1), END), spend(2), "stale-place"),
        ((*KEYED, *whole(1), END), commit(2), "stale-place"),
        ((*KEYED, *whole(1), END), adopt(2), "stale-place"),
        ((*KEYED, RETIRE), spend(1), "training-retired"),
        ((*KEYED, RETIRE), commit(1), "training-retired"),
        # Visits.
        ((*VISITS, spend(2)), spend(1), "stale-place"),
        ((*VISITS, spend(1), spend(3), spend(5)), spend(6), "stale-place"),
        (VISITS, spend(7), "stale-place"),
        (VISITS, commit(1), "malformed"),
        (VISITS, spend(1, uses=2, rounds=2), "malformed"),
        (VISITS, adopt(1), "opening-refused"),
        ((), Line("joke", "t", {}), "malformed"),
        # Figures of public records.
        ((), public("a"), "keys-missing"),
        ((bind(),), public("a"), "keys-missing"),
        ((*KEYED, RETIRE), public("a"), "training-retired"),
        ((*VISITS, *map(public, "abcdefg")), public("h"), "stale-place"),
    ],
)
def test_a_forbidden_move_is_refused_by_its_code(before, line, code):
    state = after(*before)
    with pytest.raises(BookError) as refused:
        step(state, line)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "moves",
    [
        (*KEYED, lines.keyed("t", keys="again"), *whole(1)),
        (*KEYED, spend(1), spend(1, 2), spend(1, 3), seal(1, 3)),
        (*KEYED, spend(1), seal(1), spend(1, 2), seal(1, 2), commit(1, 2), close(1)),
        (*KEYED, commit(1), close(1), commit(2), close(2), spend(3)),
        (*KEYED, commit(1), spend(1, 2), seal(1, 2), commit(1, 2, total="other"), close(1)),
        (*KEYED, *whole(1), adopt(3), spend(4), seal(4)),
        (*KEYED, PASS, show(1, 1), show(1, 2), seal(1), commit(1), close(1), show(2, 1), seal(2)),
        (*KEYED, PASS, show(1, 2), seal(1), spend(1, 2, uses=3), adopt(1), show(2, 1)),
        (*KEYED, spend(1), seal(1), lines.answer(at(1), roster="A"), commit(1), close(1)),
        (*KEYED, lines.answer(at(1, 2), roster="A"), spend(1, 3)),
        # Who left an older place in whatever way is a holder at a higher one.
        (*KEYED, spend(1), lines.answer(at(1, 2), roster="A"), commit(1, 2), close(1)),
        (*KEYED, PASS, show(1, 1), lines.answer(at(1, 2), roster="A"), spend(1, 3)),
        (*KEYED, spend(1), seal(1), commit(1), lines.answer(at(1, 2), roster="A"), commit(1, 2)),
        (*KEYED, commit(1, group="a"), commit(1, group="b"), close(1), spend(2)),
        (*KEYED, commit(1), close(1), spend(2), seal(2), commit(2), END),
        (*VISITS, spend(1), seal(1), spend(4, 2), seal(4, 2)),
        (*SEEDED, spend(1), again(1), seal(1), again(1), seal(1), commit(1), close(1)),
        (*SEEDED, PASS, show(1, 2), again(1), show(1, 1), seal(1), again(1), seal(1)),
        (*KEYED, RETIRE, RETIRE, lines.charge("t", EVENT, why="lost")),
        (*KEYED, public("a"), spend(1), public("b"), seal(1), public("b"), commit(1), close(1)),
        (*KEYED, *whole(1), END, public("a")),
    ],
)
def test_an_allowed_way_is_allowed(moves):
    after(*moves)


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (KEYED, bind()),
        ((*KEYED, commit(1)), commit(1)),
        (
            (*KEYED, spend(1), seal(1), lines.answer(at(1), roster="A")),
            lines.answer(at(1), roster="A"),
        ),
        ((*KEYED, *whole(1), END), END),
        ((*KEYED, RETIRE), RETIRE),
        ((*KEYED, public("a")), public("a")),
    ],
)
def test_the_same_again_changes_nothing(before, line):
    state = after(*before)
    assert step(state, line) is state


def test_a_commit_without_its_close_has_failed_and_a_close_takes_it_back():
    state = after(*KEYED, commit(1, 1), commit(1, 2, total="other"))
    assert state.failures == 2
    state = after(close(1), state=state)
    assert state.failures == 1
    assert after(commit(2), adopt(3), state=state).failures == 2


def test_what_is_computed_again_is_paid_for_once():
    state = after(*SEEDED, spend(1, uses=2), seal(1), again(1))
    assert (state.phase, state.turn, state.turns, state.reply) == (Phase.SPENT, 0, 2, "")
    assert (state.places, state.spent, state.paid) == (1, 1, 1)


def test_a_line_without_its_fields_is_damage():
    with pytest.raises(LedgerError, match="round"):
        after(*KEYED, Line("close", "t", {"chain": "c"}))


def test_a_holder_without_an_update_has_signed_nothing_at_the_place_that_it_answers():
    """A roster that holds a signature of its own there shows a book that has gone back."""
    state = NEW
    for line in (*KEYED, spend(1), seal(1), lines.answer(at(1, 2), roster="A")):
        state = step(state, line)
    assert (state.place, state.reply, state.roster) == ((1, 2), "", "A")
