"""An honest server takes over from a hostile one, and ends the training where that can be done.

It can where enough hospitals stand at one chain of sums under the same keys, with a place left, and
have not seen so many sums fail that they gave up. Folders that were put back are left out: their
hospitals wait for their operators.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from accounting import states
from accounting.lines import Line
from accounting.states import Phase, TrainingState
from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from crypto.rosters import Roster, next_chain

if TYPE_CHECKING:
    from tests.door.hostile_server import Moves
    from tests.door.sites import Answer
from tests.door.world import Play

#: Hospitals without whom there is no quorum; of three, one may be missing.
QUORUM = 2


def end_honestly(machine: Moves) -> bool:
    """Go on to the model after one more round, or after none where all are played.

    Returns:
        Whether it could be asked for; then it came.
    """
    standing = _together(machine)
    if len(standing) < QUORUM:
        return False
    for name in standing:
        machine.set_limit(name, tight=False)
    play, closed = machine.play, next(iter(standing.values())).closed
    play.closed = _sums_of(machine, next(iter(standing.values())))
    if any(state.phase is Phase.ENDED for state in standing.values()):
        if not closed:
            return False
    elif closed < play.settings.training.rounds:
        if not all(_has_room(state) for state in standing.values()):
            return False
        closed += 1
        attempt = 1 + max(_last_attempt(state, closed) for state in standing.values())
        here = play.replies.setdefault((closed, attempt), {})
        for name in standing:
            here[name] = _asked(machine, name, Kind.TRAIN, play.request(closed, attempt)).round
        play.close(closed, attempt, names=standing)
    headers = [
        _asked(machine, name, Kind.CONFIRM, play.confirming(closed)).round.header
        for name in standing
    ]
    released = [_asked(machine, name, Kind.RELEASE, play.releasing(headers)) for name in standing]
    assert all(answer.round.model_round == closed for answer in released)
    for name in standing:
        _asked(machine, name, Kind.EVALUATE, play.releasing(headers))
    return True


def state_of(machine: Moves, name: str) -> tuple[TrainingState, list[str]]:
    """Where a hospital stands by its book, and its chain after each round."""
    state, chains = states.NEW, [""]
    for record in machine.sites.lines(name):
        line = Line.from_json(record)
        if line.training == machine.play.training:
            state = states.step(state, line)
            if line.kind in ("close", "adopt"):
                chains += [line.text("chain")] * (line.whole("round") + 1 - len(chains))
    return state, chains


def _together(machine: Moves) -> dict[str, TrainingState]:
    """The most hospitals that stand at one chain under the same keys and go on."""
    groups: dict[Any, dict[str, TrainingState]] = defaultdict(dict)
    for name, seen in machine.seen.items():
        if seen.restored:
            continue
        state, _ = state_of(machine, name)
        if state.phase not in (Phase.NEW, Phase.BOUND, Phase.RETIRED):
            ended = state.phase is Phase.ENDED
            groups[state.closed, state.chain, state.keys, ended][name] = state
    return max(groups.values(), key=len, default={})


def _has_room(state: TrainingState) -> bool:
    bind = state.bind
    assert bind is not None
    return state.places < bind.rounds + bind.spare and state.failures < bind.failures


def _last_attempt(state: TrainingState, round: int) -> int:
    shown = max((one.attempt for one in state.pending), default=0)
    return max(shown, state.place[1] if state.place[0] == round else 0)


def _sums_of(machine: Moves, state: TrainingState) -> dict[int, OpenedRound]:
    """The totals that a chain is made of, among all that were ever made."""
    made = {
        Roster.from_bytes(one.roster).digest(one.total): one
        for one in (*machine.totals, *machine.play.closed.values())
    }
    found: dict[int, OpenedRound] = {}
    standing = [state_of(machine, n) for n, seen in machine.seen.items() if not seen.restored]
    chains = next(chains for found, chains in standing if found == state)
    for round, (before, after) in enumerate(pairwise(chains), start=1):
        for digest, one in made.items():
            if next_chain(bytes.fromhex(before), bytes.fromhex(digest)).hex() == after:
                found[round] = one
    return found


def _asked(machine: Moves, name: str, kind: Kind, request: Any) -> Answer:
    """Ask, and bring what the hospital lacks, as long as it comes nearer."""
    play: Play = machine.play
    answer, stands = play.ask(name, kind, request), -1
    while answer.code.startswith("behind:") and int(answer.code.partition(":")[2]) > stands:
        stands = int(answer.code.partition(":")[2])
        answer = play.ask(name, kind, replace(request, closed=play.closed))
    assert answer, f"{name} {kind}: {answer.code}: {answer.log[-1500:]}"
    return answer
