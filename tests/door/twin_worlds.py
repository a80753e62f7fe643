"""Two worlds that differ in one patient's record, and one server that does the same in both.

Whatever the record holds, and whether the patient is there at all, the server sees the same: codes,
shapes and sizes of answers, how many lines and files there are. What it does in both worlds is the
same in its own words: a total of these hospitals' answers, this bit of it turned, this place.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from crypto.errors import KeyMismatchError
from tests.door.sites import Answer
from tests.door.tables import table_settings, with_tables
from tests.door.world import Play, agreement_of

A, B, C = NAMES = ("hospital-00", "hospital-01", "hospital-02")
ROUNDS = 3
_NAME = st.sampled_from(NAMES)
#: What the record of the last of A's ten patients is in the other world, or who is there besides.
OTHERS: dict[str, dict[str, Any]] = {
    "one more": {"own": 11},
    "one less": {"own": 9},
    "no number": {"cell": "many"},
    "out of range": {"cell": "1e300"},
    "no class": {"label": "perhaps"},
    "another": {"label": "yes", "cell": "0.9"},
}
KINDS = (Kind.TRAIN, Kind.CONFIRM, Kind.RELEASE, Kind.EVALUATE, Kind.JOIN, Kind.LEAD, Kind.HEAD)


def shape_of(answer: Answer) -> object:
    """Everything in an answer but the values."""
    if answer.content is None:
        return answer.code
    arrays = [
        (name, key, one.dtype, tuple(one.shape), len(one.data))
        for name, record in sorted(answer.content.array_records.items())
        for key, one in record.items()
    ]
    metrics = [(n, sorted(one)) for n, one in sorted(answer.content.metric_records.items())]
    words = [
        (name, key, value if not isinstance(value, bytes | list) else len(value))
        for name, record in sorted(answer.content.config_records.items())
        for key, value in record.items()
        if key != "public"  # a bundle, whose JSON holds random digits
    ]
    return arrays, metrics, words


class TwinWorlds(RuleBasedStateMachine):
    """One server, two worlds."""

    #: One of `OTHERS`.
    other: str

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="twins-"))
        self.plays = []
        for number, own in enumerate(({}, OTHERS[self.other])):
            folder = self.folder / str(number)
            folder.mkdir()
            sites = with_tables(folder, **own)
            settings = table_settings(
                self.folder / "0", privacy__spare_attempts=2, run__snapshot_every=1
            )
            self.plays.append(Play.of(sites, settings, agreement_of(settings)))
        # One server: the same id, nonce and terms in both.
        self.plays[1].agreement = self.plays[0].agreement
        for play in self.plays:
            play.begin()
        self.next_round(list(NAMES))

    def teardown(self) -> None:
        if hasattr(self, "plays"):
            for play in self.plays:
                play.sites.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def both(self, name: str, kind: Kind, asked: Any) -> None:
        """Ask the same in both worlds; `asked` makes a play's request."""
        seen = []
        for play in self.plays:
            request = asked(play)
            answer = play.ask(name, kind, request)
            seen.append(shape_of(answer))
            if kind is Kind.TRAIN and answer and answer.round.sealed:
                place = (request.round, request.attempt)
                play.replies.setdefault(place, {})[name] = answer.round
        assert seen[0] == seen[1], (name, kind)

    @rule(
        name=_NAME,
        kind=st.sampled_from(KINDS),
        round=st.integers(0, ROUNDS + 1),
        attempt=st.integers(0, 3),
        asking=st.sampled_from(("", *NAMES)),
    )
    def ask_anything(self, name: str, kind: Kind, round: int, attempt: int, asking: str) -> None:
        def asked(play: Play) -> Any:
            if kind is Kind.JOIN:
                return play.joining()
            if kind is Kind.LEAD:
                return play.leading()
            if kind in (Kind.RELEASE, Kind.EVALUATE):
                return play.releasing((), closed=play.closed)
            return play.request(round, attempt, release_from=asking, snapshot_from=asking)

        self.both(name, kind, asked)

    @rule(attempt=st.integers(1, 3), releaser=_NAME, missing=_NAME)
    def go_on(self, attempt: int, releaser: str, missing: str) -> None:
        """The next round, with two hospitals or all three."""
        names = [one for one in NAMES if one != missing or attempt == 1]
        self.next_round(names, attempt, releaser)

    def next_round(self, names: list[str], attempt: int = 1, releaser: str = "") -> None:
        round = min(len(self.plays[0].closed) + 1, ROUNDS)
        asked = {"release_from": releaser, "snapshot_from": releaser}
        for name in names:
            self.both(name, Kind.TRAIN, lambda play: play.request(round, attempt, **asked))
        if len(self.plays[0].replies.get((round, attempt), {})) >= 2:
            for play in self.plays:
                try:
                    play.close(round, attempt)
                except KeyMismatchError:
                    return

    @rule(name=_NAME, bit=st.integers(0, 10_000), attempt=st.integers(1, 3))
    def show_a_spoilt_total(self, name: str, bit: int, attempt: int) -> None:
        def asked(play: Play) -> Any:
            round = len(play.closed)
            one = play.closed[round]
            total = bytearray(one.total)
            total[bit % len(total)] ^= 1 << bit % 8
            spoilt = OpenedRound(total=bytes(total), roster=one.roster)
            return replace(play.request(round + 1, attempt), closed={round: spoilt})

        if self.plays[0].closed:
            self.both(name, Kind.TRAIN, asked)

    @rule(names=st.permutations(NAMES))
    def end(self, names: list[str]) -> None:
        """Confirm the last sum, and ask for what follows from it."""
        if not self.plays[0].closed:
            return
        last = len(self.plays[0].closed)
        headers: list[list[bytes]] = [[], []]
        for name in names:
            answers = [play.ask(name, Kind.CONFIRM, play.confirming(last)) for play in self.plays]
            assert shape_of(answers[0]) == shape_of(answers[1])
            for known, answer in zip(headers, answers, strict=True):
                known += [answer.round.header] if answer else []
        by_play = dict(zip(map(id, self.plays), headers, strict=True))
        for kind in (Kind.RELEASE, Kind.EVALUATE):
            self.both(names[0], kind, lambda play: play.releasing(by_play[id(play)]))

    @rule(name=_NAME)
    def restart(self, name: str) -> None:
        for play in self.plays:
            play.sites.restart(name)

    @rule(name=_NAME)
    def keep(self, name: str) -> None:
        for play in self.plays:
            play.sites.keep(name)

    @invariant()
    def books_and_files_are_alike(self) -> None:
        for name in NAMES if hasattr(self, "plays") else ():
            kinds = [play.sites.kinds(name) for play in self.plays]
            assert kinds[0] == kinds[1], name
            files = [
                {path.name for path in play.sites.folder(name).iterdir()} - {"readings.log"}
                for play in self.plays
            ]
            assert files[0] == files[1], name
