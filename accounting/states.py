"""What a training may do next at a hospital: one pure function from state and line to state.

    NEW -bind-> BOUND -keyed-> IDLE, round 0 closed
    IDLE -spend-> SPENT [-show-> SHOWN, turn by turn] -seal-> SEALED [-answer-> ANSWERED]
    any of these -commit-> COMMITTED -close-> IDLE, one round more closed
    any of these -adopt-> IDLE, or -spend-> SPENT, or -answer-> ANSWERED without an update, at a
        higher attempt: the older place is void, paid
    SPENT, SHOWN, SEALED -again-> SPENT at the same place, where answers follow from a seed
    -end-> ENDED; -retire-> RETIRED
    -public-> itself: figures of public records, as many answers as there are places

A place is (round, attempt), and places rise. Where models visit hospitals, a place is a visit, and
nothing is committed or closed between them. A pass of several rounds is paid once: in its later
rounds the first "show" begins the place. A commit without its close has failed, whatever the cause.

Whoever appends a line asks `step` first, and whoever reads a book asks it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from accounting.errors import BookError
from accounting.lines import Line


class Phase(Enum):
    """Where a training stands."""

    NEW = "new"
    BOUND = "bound"
    IDLE = "idle"
    SPENT = "spent"
    SHOWN = "shown"
    SEALED = "sealed"
    ANSWERED = "answered"
    COMMITTED = "committed"
    ENDED = "ended"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """What an id stands for, as in `lines.bind`. Binds that differ in `code` alone are equal.

    How many `events` there may be follows from the terms; a book of an earlier version does not say
    it.
    """

    terms: str
    own: str
    members: str
    rounds: int
    spare: int
    failures: int
    visits: int
    code: str = field(compare=False)
    events: int = field(default=0, compare=False)
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A total that was committed to, and not closed yet."""

    group: str
    attempt: int
    roster: str
    total: str


class TrainingState(NamedTuple):
    """One training at one hospital, as its lines tell it.

    Attributes:
        phase: where it stands.
        bind: what its id stands for.
        keys: digest of the public bundle.
        place: (round, attempt) of the last place; (0, 0) before the first.
        turn: the last turn shown at that place.
        turns: messages that are paid for at that place.
        covered: the last round of the paid pass.
        covered_turns: messages that are paid for in each of its rounds.
        reply: digest of the last message of the place; "" before it is sealed.
        roster: what was answered at the place.
        closed: the last round that was opened well, or taken over.
        chain: digest of all sums up to it.
        pending: commits of the next round, one a group.
        failures: commits without a close, pending ones included.
        places: how many were begun.
        spent: events, counted.
        paid: those of them that places cost; the others were charged.
        figures: answers about public records.
        about: what the last of them was about.
        adopted: the last round that was taken over rather than opened.
    """

    phase: Phase = Phase.NEW
    bind: Bind | None = None
    keys: str = ""
    place: tuple[int, int] = (0, 0)
    turn: int = 0
    turns: int = 0
    covered: int = 0
    covered_turns: int = 0
    reply: str = ""
    roster: str = ""
    closed: int = 0
    chain: str = ""
    pending: tuple[Commit, ...] = ()
    failures: int = 0
    places: int = 0
    spent: int = 0
    paid: int = 0
    figures: int = 0
    about: str = ""
    adopted: int = 0

    @property
    def repeats(self) -> bool:
        """Whether its place may be computed again: it follows from a seed, and was not opened."""
        begun = self.phase in (Phase.SPENT, Phase.SHOWN, Phase.SEALED)
        return begun and self.bind is not None and self.bind.repeats

    @property
    def takes_keys(self) -> bool:
        """Whether keys may come, or come again: nothing was paid for, answered or opened yet."""
        begun = self.closed or self.places or self.failures
        return self.phase in (Phase.BOUND, Phase.IDLE) and not begun


NEW = TrainingState()


def step(state: TrainingState, line: Line) -> TrainingState:
    """The state after a line; the very same object where the line says nothing new.

    Raises:
        BookError: the move is forbidden.
        LedgerError: a field of the line is missing or of the wrong kind.
    """
    move = _MOVES.get(line.kind)
    if move is None:
        raise BookError("malformed", f"no line of a training has kind {line.kind!r}")
    if state.phase is Phase.RETIRED and line.kind not in ("retire", "charge"):
        raise BookError("training-retired", f"{line.kind} in a training that is retired")
    return move(state, line)


def _bind(state: TrainingState, line: Line) -> TrainingState:
    given = Bind(
        terms=line.text("terms"),
        own=line.text("own"),
        members=line.text("members"),
        code=line.text("code"),
        rounds=line.whole("rounds"),
        spare=line.whole("spare"),
        failures=line.whole("failures"),
        visits=line.whole("visits"),
        events=line.whole("events", 0),
        repeats=line.whole("repeats", 0) == 1,
    )
    if not given.rounds or not given.failures:
        raise BookError("malformed", "a training has a round, and a failure that ends it, at least")
    if state.bind is None:
        return state._replace(bind=given, phase=Phase.BOUND)
    if state.bind != given:
        raise BookError("training-bound", "the training is bound to something else")
    return state if state.bind.code == given.code else state._replace(bind=given)


def _keyed(state: TrainingState, line: Line) -> TrainingState:
    if state.bind is None:
        raise BookError("keys-missing", "keys came before the training was bound")
    if not state.takes_keys:
        raise BookError("training-bound", "keys cannot be replaced in a training under way")
    return state._replace(keys=line.text("keys"), phase=Phase.IDLE)


def _spend(state: TrainingState, line: Line) -> TrainingState:
    bind = _under_way(state, line)
    place = _next_place(state, bind, line)
    uses, rounds = line.whole("uses"), line.whole("rounds", 1)
    if line.count() < 1 or uses < 1 or rounds < 1 or uses % rounds:
        raise BookError(
            "malformed",
            f"{line.count()} events for {uses} messages in {rounds} rounds, expected 1 of each or "
            "more, and as many messages in each round",
        )
    paid = state.paid + line.count()
    if 0 < bind.events < paid:
        raise BookError(
            "stale-place", f"{paid} events with {place}, the training has {bind.events} in all"
        )
    last = place[0] + rounds - 1
    if rounds > 1 and (bind.visits or last > bind.rounds):
        raise BookError("malformed", f"a pass of {rounds} rounds from {place[0]} on")
    turns = uses // rounds
    covered = (last, turns) if last > state.covered else (state.covered, state.covered_turns)
    return state._replace(
        phase=Phase.SPENT,
        place=place,
        turn=0,
        turns=turns,
        covered=covered[0],
        covered_turns=covered[1],
        reply="",
        roster="",
        places=state.places + 1,
        spent=state.spent + line.count(),
        paid=paid,
    )


def _again(state: TrainingState, line: Line) -> TrainingState:
    _under_way(state, line)
    if not state.repeats or _place(line) != state.place:
        raise BookError("stale-place", f"{_place(line)} again at {state.place}")
    return state._replace(phase=Phase.SPENT, turn=0, reply="")


def _show(state: TrainingState, line: Line) -> TrainingState:
    bind = _under_way(state, line)
    turn = line.whole("turn")
    if state.phase in (Phase.SPENT, Phase.SHOWN) and _place(line) == state.place:
        if not state.turn < turn <= state.turns:
            raise BookError(
                "stale-place", f"turn {turn} after {state.turn}, of {state.turns} paid for"
            )
        return state._replace(phase=Phase.SHOWN, turn=turn)
    place = _next_place(state, bind, line)
    if not state.place[0] < place[0] <= state.covered or turn != 1:
        raise BookError("stale-place", f"turn {turn} of {place} is not paid for")
    return state._replace(
        phase=Phase.SHOWN,
        place=place,
        turn=1,
        turns=state.covered_turns,
        reply="",
        roster="",
        places=state.places + 1,
    )


def _seal(state: TrainingState, line: Line) -> TrainingState:
    _under_way(state, line)
    if state.phase not in (Phase.SPENT, Phase.SHOWN) or _place(line) != state.place:
        raise BookError("stale-place", f"seal of {_place(line)} at {state.place}")
    if state.turn >= state.turns:
        raise BookError("stale-place", f"all {state.turns} messages of {state.place} were shown")
    return state._replace(phase=Phase.SEALED, reply=line.text("reply"))


def _answer(state: TrainingState, line: Line) -> TrainingState:
    bind = _under_way(state, line)
    place, roster = _place(line), line.text("roster")
    if state.phase is Phase.ANSWERED and place == state.place:
        if roster == state.roster:
            return state
        raise BookError("stale-place", f"another roster of {place} was answered")
    if state.phase is Phase.SEALED and place == state.place:
        return state._replace(phase=Phase.ANSWERED, roster=roster)
    _check_round(state, bind, place)
    if place <= state.place:
        raise BookError("stale-place", f"answer for {place} at {state.place}")
    return state._replace(
        phase=Phase.ANSWERED, place=place, turn=0, turns=0, reply="", roster=roster
    )


def _commit(state: TrainingState, line: Line) -> TrainingState:
    bind = _under_way(state, line)
    given = Commit(
        group=line.text("group"),
        attempt=line.whole("attempt"),
        roster=line.text("roster"),
        total=line.text("total"),
    )
    round, attempt = place = _place(line)
    if bind.visits:
        raise BookError("malformed", "models that visit have no sums")
    if round != state.closed + 1 or round > bind.rounds or attempt < 1 or place < state.place:
        raise BookError(
            "opening-refused", f"total of {place} after round {state.closed}, at {state.place}"
        )
    before = next((one for one in state.pending if one.group == given.group), None)
    if before == given and state.phase is Phase.COMMITTED:
        return state
    if before is not None and attempt <= before.attempt:
        raise BookError("opening-refused", f"another total of {place}")
    if state.failures >= bind.failures:
        raise BookError("training-retired", f"{state.failures} openings have failed")
    others = tuple(one for one in state.pending if one is not before)
    return state._replace(
        phase=Phase.COMMITTED,
        pending=(*others, given),
        failures=state.failures + 1,
    )


def _close(state: TrainingState, line: Line) -> TrainingState:
    _under_way(state, line)
    round = line.whole("round")
    if state.phase is not Phase.COMMITTED or round != state.closed + 1:
        raise BookError("opening-refused", f"round {round} closes without a commit")
    return _closed(state, round, line.text("chain"), state.failures - len(state.pending))


def _adopt(state: TrainingState, line: Line) -> TrainingState:
    bind = _under_way(state, line)
    round = line.whole("round")
    if bind.visits or not state.closed < round <= bind.rounds:
        raise BookError("opening-refused", f"snapshot after round {round} at {state.closed}")
    return _closed(state, round, line.text("chain"), state.failures)._replace(adopted=round)


def _closed(state: TrainingState, round: int, chain: str, failures: int) -> TrainingState:
    return state._replace(
        phase=Phase.IDLE, closed=round, chain=chain, pending=(), failures=failures, reply=""
    )


def _end(state: TrainingState, line: Line) -> TrainingState:
    if state.phase is Phase.ENDED and line.whole("round") == state.closed:
        return state
    bind = _under_way(state, line)
    if bind.visits or line.whole("round") != state.closed:
        raise BookError("stale-place", f"end at {line.whole('round')}, not {state.closed}")
    return state._replace(phase=Phase.ENDED, pending=(), reply="")


def _retire(state: TrainingState, _: Line) -> TrainingState:
    if state.phase is Phase.RETIRED:
        return state
    return state._replace(phase=Phase.RETIRED, pending=(), reply="")


def _charge(state: TrainingState, line: Line) -> TrainingState:
    if line.count() < 1:
        raise BookError("malformed", "a charge of nothing")
    return state._replace(spent=state.spent + line.count())


def _public(state: TrainingState, line: Line) -> TrainingState:
    bind, about = state.bind, f"{line.text('purpose')} {line.text('about')}"
    if bind is None or state.phase is Phase.BOUND:
        raise BookError("keys-missing", "figures in a training without keys")
    if about == state.about:
        return state
    if state.figures >= bind.rounds + bind.spare:
        raise BookError("stale-place", f"{state.figures} answers about public records were given")
    return state._replace(figures=state.figures + 1, about=about)


#: What moves a training, each called like its kind of line: about all of it, a place, or a sum.
_ABOUT = (
    (_bind, _keyed, _end, _retire, _charge, _public),
    (_spend, _again, _show, _seal, _answer),
    (_commit, _close, _adopt),
)
_MOVES: dict[str, Callable[[TrainingState, Line], TrainingState]] = {
    move.__name__.removeprefix("_"): move for moves in _ABOUT for move in moves
}


def _under_way(state: TrainingState, line: Line) -> Bind:
    """The bind of a training that has keys and has not ended."""
    if state.bind is None or state.phase is Phase.BOUND:
        raise BookError("keys-missing", f"{line.kind} in a training without keys")
    if state.phase is Phase.ENDED:
        raise BookError("stale-place", f"{line.kind} in a training that has ended")
    return state.bind


def _place(line: Line) -> tuple[int, int]:
    return line.whole("round"), line.whole("attempt")


def _next_place(state: TrainingState, bind: Bind, line: Line) -> tuple[int, int]:
    """The place of a line that begins one: the next round's, and higher than any before."""
    place = _place(line)
    _check_round(state, bind, place)
    if place <= state.place:
        raise BookError("stale-place", f"{line.kind} at {place} after {state.place}")
    if state.places >= (bind.visits or bind.rounds) + bind.spare:
        raise BookError("stale-place", f"{state.places} places are all that the training has")
    return place


def _check_round(state: TrainingState, bind: Bind, place: tuple[int, int]) -> None:
    round, attempt = place
    if not round or not attempt:
        raise BookError("malformed", f"place {place}, expected 1 or more of each")
    if round > bind.rounds or (not bind.visits and round != state.closed + 1):
        raise BookError("stale-place", f"round {round} of {bind.rounds} after {state.closed}")
    if state.pending and attempt <= max(one.attempt for one in state.pending):
        raise BookError("stale-place", f"a total of {place} was seen")
