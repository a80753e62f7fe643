"""Who is left out so that one signed update that spoils a sum does not end a training.

Nobody can see into a sealed update, so nobody sees which one spoils a sum: its tags or its range
fail at every hospital alike. The sum is void then, and the round is done again without a few
hospitals at a time, set by set in the order of their names, until one sum opens. Its left-out set
holds the culprit. Members return one by one in later rounds, and whoever spoils the sum again is
named and left out for good.

    verdict = judge(opened, refused, least)          # what the hospitals' answers say of a sum
    culprits.void(number, attempt, ...)              # who is left out next, on disk first
    culprits.stands(number, names)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from clients.contract.faults import Code
from strategies.errors import TrainingStopped

if TYPE_CHECKING:
    from strategies.run.journal import Journal

#: How often a hospital may be shown a sum of one search first, about.
_MOST_TIMES = 3

RETURNED = "returned, and the sum with its update did not open"
FORKED = "opened a sum that the others refused"
SUSPECTED = "in the set without which the sum opened"


class Verdict(Enum):
    """What hospitals' answers say of a sum that they were shown."""

    STANDS = "stands"
    VOID = "void"
    AWAY = "away"
    TIE = "tie"


def judge(opened: Collection[str], refused: Collection[str], least: int) -> Verdict:
    """Return what answers say of a sum: honest hospitals agree about it.

    Args:
        opened: hospitals that opened it.
        refused: hospitals that did not.
        least: K - d, hospitals that are honest and there.
    """
    enough = len(opened) >= least, len(refused) >= least
    if enough == (True, True) and len(opened) == len(refused):
        return Verdict.TIE
    if enough == (False, False):
        return Verdict.AWAY
    return Verdict.STANDS if (len(opened), enough[0]) > (len(refused), enough[1]) else Verdict.VOID


def refused_by(faults: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hospitals that did not open a sum, by the codes that they answered with."""
    return tuple(sorted(name for name, code in faults.items() if code == Code.OPENING_REFUSED))


def who_opened(number: int, opened: Collection[str], faults: Mapping[str, str]) -> str:
    """Name who opened a round's sum and who refused it; "" where nobody did."""
    refused = refused_by(faults)
    if not refused:
        return ""
    others = ", ".join(sorted(opened)) or "nobody"
    return f" The sum of round {number} was opened by {others}, refused by {', '.join(refused)}."


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A hospital that is not asked any more.

    Attributes:
        hospital: its name.
        round: whose sum it spoiled, or may have.
        why: in words.
    """

    hospital: str
    round: int
    why: str


@dataclass(kw_only=True)
class _Kept:
    """What a server that is started again must know of a search.

    Attributes:
        void_round: the last round with a void sum; 0: none.
        void_attempt: the last attempt at it whose sum was void.
        ahead: the attempt at the next round with which that was found; 0: none was made.
        sets: of hospitals, left out in turn; empty where nobody is searched for.
        turn: the set that is left out now.
        suspects: left out -> round of the search.
        blamed: left out for good -> (round, why).
        returning: a suspect that is asked again; "" where there is none.
        since: the round from which it is.
    """

    void_round: int = 0
    void_attempt: int = 0
    ahead: int = 0
    sets: list[list[str]] = field(default_factory=list)
    turn: int = 0
    suspects: dict[str, int] = field(default_factory=dict)
    blamed: dict[str, tuple[int, str]] = field(default_factory=dict)
    returning: str = ""
    since: int = 0


class Culprits:
    """Whom a training by sums leaves out, and why.

    Args:
        names: all hospitals, sorted.
        dropouts: d, how many may be missing in a sum.
        journal: where it is kept; a training that goes on reads it from there.
    """

    def __init__(self, names: Sequence[str], dropouts: int, journal: Journal) -> None:
        self._names = tuple(names)
        self._dropouts = dropouts
        self._journal = journal
        self._kept = _Kept(**journal.read_culprits())
        self._kept.blamed = {n: (int(r), str(w)) for n, (r, w) in self._kept.blamed.items()}

    @property
    def asked(self) -> tuple[str, ...]:
        """Hospitals that are asked to contribute, sorted."""
        out = {*self._kept.suspects, *self._kept.blamed, *self._set}
        return tuple(name for name in self._names if name not in out)

    @property
    def left_out(self) -> list[LeftOut]:
        """Who is left out for good or under suspicion, sorted by name."""
        found = [LeftOut(hospital=n, round=r, why=w) for n, (r, w) in self._kept.blamed.items()]
        found += [
            LeftOut(hospital=n, round=r, why=SUSPECTED) for n, r in self._kept.suspects.items()
        ]
        return sorted(found, key=lambda one: one.hospital)

    def searching(self, number: int) -> bool:
        """Whether a round's sum is one of a search, which few hospitals are shown first."""
        return bool(self._kept.sets) and number == self._kept.void_round

    def is_void(self, number: int, attempt: int) -> bool:
        """Whether an attempt at a round came to a sum that hospitals refused."""
        return number == self._kept.void_round and attempt <= self._kept.void_attempt

    def last_attempt(self, number: int) -> int:
        """Return the last attempt at a round that a void sum shows was made; 0 for none."""
        kept = self._kept
        if number == kept.void_round:
            return kept.void_attempt
        return kept.ahead if number == kept.void_round + 1 else 0

    def void(
        self,
        number: int,
        attempt: int,
        *,
        names: Collection[str],
        ahead: int = 0,
        opened: Collection[str] = (),
        first: Collection[str] = (),
    ) -> None:
        """Decide who is left out next, now that a round's sum did not open.

        Args:
            number: the round.
            attempt: at it, of the refused sum.
            names: who is in the sum.
            ahead: the attempt at the next round with which it was shown; 0: with none.
            opened: who says to have opened it all the same.
            first: whom others accuse, without proof: left out before the rest.

        Raises:
            TrainingStopped: nobody is left who could be left out.
        """
        kept = self._kept
        if number > kept.void_round:
            self._end_search()
        if not self._dropouts:
            raise TrainingStopped(
                f"a signed update spoils the sum of round {number}: no hospital opens it. Without "
                "planned dropouts (privacy.dropouts = 0) nobody can be left out to find whose."
            )
        searching = self.searching(number)
        blamed = {n: (number, FORKED) for n in opened if n not in kept.blamed}
        # Where others' shares are refused, nothing is said of who has returned.
        if not first or kept.returning in first:
            blamed |= self._returned_in_vain(number, names, blamed)
        kept.void_round, kept.void_attempt, kept.ahead = number, attempt, ahead
        kept.blamed |= blamed
        kept.suspects = {n: r for n, r in kept.suspects.items() if n not in blamed}
        if blamed:
            kept.sets, kept.turn = [], 0
        elif searching:
            kept.turn += 1
        else:
            kept.sets, kept.turn = self._new_sets(names, first), 0
        self._require_enough(number, progress=bool(blamed or kept.sets))
        self._keep()

    def stands(self, number: int, contributors: Collection[str]) -> tuple[str, ...]:
        """Take down that a round's sum was opened; returns whose return has come to a good end.

        Args:
            number: the round.
            contributors: who is in its sum.
        """
        kept = self._kept
        if kept.sets and number >= kept.void_round:
            self._end_search()
            self._keep()
        if not kept.returning or kept.returning not in contributors or number < kept.since:
            return ()
        returned, kept.returning = kept.returning, ""
        self._keep()
        return (returned,)

    def bring_back(self, number: int) -> str:
        """Ask the next suspect again from a round on; returns its name, "" for nobody."""
        kept = self._kept
        if kept.returning or kept.sets or not kept.suspects:
            return ""
        kept.returning, kept.since = min(kept.suspects), number
        del kept.suspects[kept.returning]
        self._keep()
        return kept.returning

    def show_first(self, ask: Callable[[str], str], times: int) -> tuple[Verdict, dict[str, str]]:
        """Show a sum of a search to d + 1 hospitals in turn: if all refuse it, an honest one did.

        Args:
            ask: shows it to one hospital; returns its code, "" where it opened the sum.
            times: how often those are asked that do not answer.

        Returns:
            ``VOID``, ``STANDS`` as soon as one opened it, or ``AWAY``; and codes by hospital.
        """
        asked, faults = self.asked, dict[str, str]()
        start = self._kept.turn * (self._dropouts + 1) % len(asked)
        for _ in range(times):
            for name in (*asked[start:], *asked[:start]):
                if faults.get(name) in (Code.OPENING_REFUSED, Code.STALE_PLACE):
                    continue
                code = ask(name)
                if not code:
                    return Verdict.STANDS, faults
                faults[name] = code
                if len(refused_by(faults)) > self._dropouts:
                    return Verdict.VOID, faults
        return Verdict.AWAY, faults

    @property
    def _set(self) -> tuple[str, ...]:
        """The set that is left out now."""
        kept = self._kept
        return tuple(kept.sets[kept.turn]) if kept.turn < len(kept.sets) else ()

    def _returned_in_vain(
        self, number: int, names: Collection[str], blamed: Collection[str]
    ) -> dict[str, tuple[int, str]]:
        """Whom the void sum of a round blames since it returned; else it is a suspect again."""
        kept, found = self._kept, dict[str, tuple[int, str]]()
        if kept.returning and kept.returning in names:
            found[kept.returning] = (number, RETURNED)
        named = kept.returning in {*blamed, *found}
        if kept.returning and (named or kept.since <= number):
            if not named:
                kept.suspects[kept.returning] = number
            kept.returning = ""
        return found

    def _end_search(self) -> None:
        """Suspect the set without which a sum opened."""
        kept = self._kept
        kept.suspects |= dict.fromkeys(self._set, kept.void_round)
        kept.sets, kept.turn = [], 0

    def _new_sets(self, contributors: Collection[str], first: Collection[str]) -> list[list[str]]:
        """Return the sets that may be left out beside those who are, in a fixed order by name.

        A hospital that is away already is missing as well, so the sets are smaller then; unless
        they were so small, and so many, that the search would wear the others out.
        """
        most = self._dropouts - len({*self._kept.suspects, *self._kept.blamed})
        if most < 1:
            return []
        names = [name for name in self.asked if name in contributors]
        names.sort(key=lambda name: name not in first)
        size = most - len(self.asked) + len(names)
        if size * _MOST_TIMES < self._dropouts + 1:
            size = most
        return [names[k : k + size] for k in range(0, len(names), size)]

    def _require_enough(self, number: int, *, progress: bool) -> None:
        """Insist that there is somebody to leave out, and that enough hospitals are left.

        Raises:
            TrainingStopped: there is not. Nothing was kept, so a server that is started again shows
                the same sum once more.
        """
        kept, most = self._kept, f"{self._dropouts} (privacy.dropouts)"
        if kept.sets and kept.turn >= len(kept.sets):
            raise TrainingStopped(
                f"signed updates spoil the sum of round {number}, and it did not open without any "
                f"one of the sets of at most {most} hospitals that were left out in turn: two or "
                "more hospitals in different sets spoil it, and cannot be left out together."
            )
        out = sorted({*kept.suspects, *kept.blamed})
        if len(out) > self._dropouts or not progress:
            raise TrainingStopped(
                f"a signed update spoils the sum of round {number}, and no more than {most} "
                f"hospitals can be left out: {', '.join(out)}."
            )

    def _keep(self) -> None:
        self._journal.keep_culprits(asdict(self._kept))
