"""Everything that a hostile server can do to three hospitals, in any order.

What is promised here needs no peers: a folder that is put back from a backup may answer places
again that it answered before, so after `restore` what leaves is counted against the lines of all
books that the folder ever had, and heads are no longer compared.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
)

from accounting import states
from accounting.lines import Line
from clients.contract.ceremony_messages import EndRequest
from clients.contract.kinds import Kind
from clients.contract.messages import OpenedRound
from clients.contract.settings import Settings
from crypto.errors import KeyMismatchError
from crypto.headers import SignedHeader
from crypto.modular import ModularOpener
from crypto.roles import Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder
from tests.door.faults import Killed, failing, full
from tests.door.sites import Answer, Sites
from tests.door.world import Play, agreement_of, door_settings

A, B, C = NAMES = ("hospital-00", "hospital-01", "hospital-02")
ROUNDS, SPARE, EPSILON = 3, 2, 12.0
_LIMIT = f"max-epsilon = {EPSILON}\ndelta = 1e-4"

OWN = door_settings(privacy__spare_attempts=SPARE, run__snapshot_every=1)
#: What a submitter may send under the training's id.
POOL: tuple[Settings, ...] = (
    OWN,
    door_settings(privacy__spare_attempts=SPARE, run__snapshot_every=1, run__attempts=7),
    door_settings(privacy__spare_attempts=SPARE + 5, run__snapshot_every=1),
    door_settings(privacy__spare_attempts=SPARE, training__rounds=ROUNDS + 2),
    door_settings(privacy__noise_multiplier=0.1, privacy__spare_attempts=SPARE),
    door_settings(privacy__l2_clip=2.0, privacy__spare_attempts=SPARE),
    door_settings(privacy__regime="F", privacy__noise_multiplier=0.0, sealing__scheme="plain"),
    door_settings(privacy__regime="FPDP", sealing__scheme="plain"),
    door_settings(training__sampling_rate=1.0),
    door_settings(privacy__dropouts=0),
    door_settings(run__seed=8),
    door_settings(exchange__name="cyclic", privacy__regime="FPDP", sealing__scheme="plain"),
)
KINDS = (Kind.TRAIN, Kind.CONFIRM, Kind.RELEASE, Kind.EVALUATE, Kind.JOIN, Kind.LEAD, Kind.FORWARD)


@dataclass
class Seen:
    """What one hospital let go, and what its books said."""

    payloads: dict[tuple[int, int], set[bytes]] = field(default_factory=dict)
    paid: set[tuple[str, int]] = field(default_factory=set)
    restored: bool = False
    book: bytes = b""


class Moves(RuleBasedStateMachine):
    """Everything that a server can do, to three hospitals with one training."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hostile-"))
        self.sites = Sites(self.folder / "c")
        for name in NAMES:
            self.sites.rewrite(name, "delta = 1e-4", _LIMIT)
        self.play = Play.of(self.sites, OWN, _agreement())
        self.play.begin()
        self.seen = {name: Seen() for name in NAMES}
        self.totals: list[OpenedRound] = []
        self.snapshots: list[bytes] = [b"", b"junk"]
        self.headers: list[bytes] = [b"junk"]
        self.models: dict[int, set[str]] = {}
        self.opened: dict[tuple[str, int], set[str]] = {}
        self.codes: set[str] = set()
        #: Hospitals whose own limits forbid the training at present.
        self.tight: set[str] = set()
        #: Digests of the totals that anybody opened, and that any book named.
        self.opened_totals: set[str] = set()
        self.committed: set[str] = set()
        real, opened_totals = ModularOpener.open, self.opened_totals

        def spy(opener: ModularOpener, total: Sealed, *rest: Any) -> Any:
            opened_totals.add(sha256(total.payload).hexdigest())
            return real(opener, total, *rest)

        self.patched = mock.patch.object(ModularOpener, "open", spy)
        self.patched.start()
        # Without a round behind it a server has nothing to play with.
        self.honest_round(1)

    def teardown(self) -> None:
        if hasattr(self, "patched"):
            self.patched.stop()
            self.sites.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # What the server does.

    def send(self, name: str, kind: Kind, request: Any, submitted: Settings = OWN) -> Answer:
        before = self.sites.kinds(name).count("spend") if name in self.tight else -1
        answer = self.sites.ask(name, kind, request, submitted)
        self.note(name, kind, request, answer)
        # The site asks for more noise than the training has.
        assert before < 0 or before == self.sites.kinds(name).count("spend"), name
        return answer

    def note(self, name: str, kind: Kind, request: Any, answer: Answer) -> None:
        if not answer:
            self.codes.add(answer.code)
            return
        if kind not in (Kind.TRAIN, Kind.CONFIRM, Kind.RELEASE):
            return
        reply = answer.round
        if reply.sealed:
            place = (request.round, request.attempt)
            self.seen[name].payloads.setdefault(place, set()).add(reply.sealed)
            self.play.replies.setdefault(place, {})[name] = reply
        if reply.header:
            self.headers.append(reply.header)
        if reply.snapshot:
            self.snapshots.append(reply.snapshot)
        if reply.model:
            words = b"".join(t.numpy().tobytes() for _, t in sorted(reply.model.items()))
            self.models.setdefault(reply.model_round, set()).add(words.hex())

    def request(self, data: st.DataObject, round: int, attempt: int) -> Any:
        closed = {}
        if self.totals and data.draw(st.booleans(), "with a total"):
            for number in {round - 1, data.draw(st.integers(-1, ROUNDS + 1), "its round")}:
                closed[number] = data.draw(st.sampled_from(self.totals), "total")
        elif round - 1 in self.play.closed:
            closed[round - 1] = self.play.closed[round - 1]
        opened = {
            n: Roster.from_bytes(one.roster).digest(one.total)
            for n, one in self.play.closed.items()
        }
        return self.play.request(
            round,
            attempt,
            closed=closed,
            opened=opened,
            snapshot=data.draw(st.sampled_from(self.snapshots), "snapshot"),
            release_from=data.draw(st.sampled_from(("", *NAMES)), "release from"),
            snapshot_from=data.draw(st.sampled_from(("", *NAMES)), "snapshot from"),
        )

    @rule(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
    def ask_anything(self, data: st.DataObject, name: str, kind: Kind) -> None:
        round = data.draw(st.integers(-1, ROUNDS + 2), "round")
        attempt = data.draw(st.integers(0, 5), "attempt")
        if kind in (Kind.RELEASE, Kind.EVALUATE):
            headers = data.draw(st.lists(st.sampled_from(self.headers), max_size=4), "headers")
            request: Any = self.play.releasing(headers, closed=self.play.closed)
        elif kind is Kind.JOIN:
            request = self.play.joining()
        elif kind is Kind.LEAD:
            request = self.play.leading()
        else:
            request = self.request(data, round, attempt)
        self.send(name, kind, request)

    @rule(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS))
    def ask_on_other_terms(self, data: st.DataObject, name: str, kind: Kind) -> None:
        submitted = POOL[data.draw(st.integers(0, len(POOL) - 1), "settings")]
        before = [line for line in self.count(name) if line.training]
        if kind in (Kind.RELEASE, Kind.EVALUATE, Kind.JOIN, Kind.LEAD):
            kind = Kind.TRAIN
        request = self.request(data, data.draw(st.integers(1, ROUNDS)), 1)
        binds = data.draw(st.sampled_from((self.play.bind, "", "00" * 32)))
        answer = self.send(name, kind, replace(request, bind=binds), submitted)
        if submitted not in POOL[:2] or binds != self.play.bind:
            assert not answer
            # A torn end may have been mended; nothing is said of any training.
            assert [line for line in self.count(name) if line.training] == before

    @rule(data=st.data(), attempt=st.integers(1, 3))
    def go_on_honestly(self, data: st.DataObject, attempt: int) -> None:
        """The next round with everybody, so that later ones are reached at all."""
        self.honest_round(attempt, data.draw(st.sampled_from(NAMES)))

    def honest_round(self, attempt: int, releaser: str = "") -> None:
        round = min(len(self.play.closed) + 1, ROUNDS)
        for name in NAMES:
            request = self.play.request(
                round, attempt, release_from=releaser, snapshot_from=releaser
            )
            self.send(name, Kind.TRAIN, request)
        here = self.play.replies.get((round, attempt), {})
        if len(here) >= 2:
            # Keys that came again to one hospital alone leave nothing that could be added up.
            with suppress(KeyMismatchError):
                self.play.close(round, attempt)
                self.totals.append(self.play.closed[round])

    @rule(attempt=st.integers(1, 3), meant=st.integers(0, 1))
    def fork(self, attempt: int, meant: int) -> None:
        """Two sums of one round to two hospitals, each of which is asked for what it makes."""
        round = len(self.play.closed) + 1
        if meant or round >= ROUNDS:
            return
        for name in NAMES:
            self.send(name, Kind.TRAIN, self.play.request(round, attempt))
        here = self.play.replies.get((round, attempt), {})
        for name, members in ((A, NAMES), (B, (A, B))):
            if set(members) <= set(here):
                with suppress(KeyMismatchError):
                    sums = {round: self.play.sum(round, attempt, members)}
                    self.send(name, Kind.CONFIRM, self.play.request(round, closed=sums))
                    release = self.play.releasing(self.headers[-2:], closed=sums)
                    self.send(name, Kind.RELEASE, release)

    @rule(data=st.data())
    def make_a_total(self, data: st.DataObject) -> None:
        """Of any two or three answers, perhaps spoilt, perhaps of a roster of others."""
        if not self.play.replies:
            return
        place = data.draw(st.sampled_from(sorted(self.play.replies)), "place")
        here = self.play.replies[place]
        members = data.draw(st.permutations(sorted(here)), "members")
        members = members[: data.draw(st.integers(1, len(members)), "how many")]
        try:
            one = self.play.sum(*place, members)
        except KeyMismatchError:
            return
        how = data.draw(st.sampled_from(("honest", "flip", "doubled", "others")), "how")
        if how == "flip":
            total = bytearray(one.total)
            total[data.draw(st.integers(0, len(total) - 1))] ^= 1
            one = OpenedRound(total=bytes(total), roster=one.roster)
        elif how == "doubled":
            adder = make_adder(self.play.agreement.terms.sealing)
            for name in [*members, members[0]][:3]:
                adder.add(Sealed(payload=here[name].sealed))
            one = OpenedRound(total=adder.total().payload, roster=one.roster)
        elif how == "others":
            everybody = Roster.of(SignedHeader.from_bytes(r.header) for r in here.values())
            one = OpenedRound(total=one.total, roster=everybody.to_bytes())
        self.totals.append(one)

    @rule(
        name=st.sampled_from(NAMES),
        attempt=st.integers(0, 3),
        how=st.sampled_from(("honest", "frame", "value", "tag", "none")),
    )
    def ask_for_the_next_place(self, name: str, attempt: int, how: str) -> None:
        """The place that a hospital expects, over the sum that it expects or a spoilt one."""
        round = len(self.play.closed) + 1
        request = self.play.request(round, attempt)
        if how == "none" or not request.closed:
            request = replace(request, closed={})
        elif how != "honest":
            one = request.closed[round - 1]
            total = bytearray(one.total)
            total[{"frame": 3, "value": len(total) // 2, "tag": -1}[how]] ^= 1
            spoilt = OpenedRound(total=bytes(total), roster=one.roster)
            request = replace(request, closed={round - 1: spoilt})
        self.send(name, Kind.TRAIN, request)

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def confirm_the_last(self, data: st.DataObject, name: str) -> None:
        if self.play.closed:
            round = max(self.play.closed)
            self.send(name, Kind.CONFIRM, self.play.confirming(round))

    @rule(name=st.sampled_from(NAMES), meant=st.integers(0, 4))
    def end(self, name: str, meant: int) -> None:
        """Say that the training is over, now and then: nothing comes after it at that hospital."""
        if not meant:
            request = EndRequest(training=self.play.training, bind=self.play.bind)
            self.send(name, Kind.END, request)

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        self.sites.restart(name)

    @rule(name=st.sampled_from(NAMES))
    def keep(self, name: str) -> None:
        self.sites.keep(name)

    @rule(
        data=st.data(),
        name=st.sampled_from(NAMES),
        number=st.integers(0, 14),
        after=st.booleans(),
        stay=st.booleans(),
    )
    def crash(self, data: st.DataObject, name: str, number: int, after: bool, stay: bool) -> None:
        """The process dies at the n-th thing it does to a file."""
        request = self.request(data, *data.draw(_PLACES))
        with suppress(Killed), failing(number, Killed, after=after):
            self.note(name, Kind.TRAIN, request, self.sites.ask(name, Kind.TRAIN, request, OWN))
        if not stay:
            self.sites.restart(name)

    @rule(data=st.data(), name=st.sampled_from(NAMES), number=st.integers(0, 14))
    def fill_the_disk(self, data: st.DataObject, name: str, number: int) -> None:
        request = self.request(data, *data.draw(_PLACES))
        with failing(number, full):
            self.send(name, Kind.TRAIN, request)

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def ask_twice(self, data: st.DataObject, name: str) -> None:
        request = self.request(data, *data.draw(_PLACES))
        first = self.send(name, Kind.TRAIN, request)
        again = self.send(name, Kind.TRAIN, request)
        assert not first or first.payload == again.payload

    @rule(name=st.sampled_from(NAMES))
    def back_up(self, name: str) -> None:
        backup = self.folder / f"backup-{name}"
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self.sites.folder(name), backup)

    @rule(name=st.sampled_from(NAMES))
    def restore(self, name: str) -> None:
        backup = self.folder / f"backup-{name}"
        if backup.exists():
            self.forget(name)
            shutil.rmtree(self.sites.folder(name))
            shutil.copytree(backup, self.sites.folder(name))

    @rule(name=st.sampled_from(NAMES))
    def delete_the_book(self, name: str) -> None:
        self.forget(name)
        (self.sites.folder(name) / "ledger.jsonl").unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        self.sites.restart(name)
        self.count(name)
        self.seen[name].restored = True
        self.seen[name].book = b""

    @rule(name=st.sampled_from(NAMES), tight=st.booleans())
    def set_the_limit(self, name: str, tight: bool) -> None:
        self.set_limit(name, tight=tight)

    def set_limit(self, name: str, *, tight: bool) -> None:
        file = self.sites.consortium.site(name) / "site.toml"
        text, loose = file.read_text(), "min-noise-multiplier = 0.0"
        wanted = "min-noise-multiplier = 2.5" if tight else loose
        other = loose if tight else "min-noise-multiplier = 2.5"
        file.write_text(text.replace(other, wanted))
        (self.tight.add if tight else self.tight.discard)(name)

    # What its books say.

    def book_of(self, name: str) -> bytes:
        path = self.sites.folder(name) / "ledger.jsonl"
        return path.read_bytes() if path.exists() else b""

    def count(self, name: str) -> list[Line]:
        """The book's lines, each of which `step` allows; payments of all books are remembered."""
        path = self.sites.folder(name) / "ledger.jsonl"
        if not path.exists():
            return []
        found = [Line.from_json(record) for record in self.sites.lines(name)]
        state = states.NEW
        for line in found:
            if line.training == self.play.training:
                state = states.step(state, line)
        for line in found:
            if line.kind == "spend":
                self.seen[name].paid.add((str(line.fields["time"]), line.whole("uses")))
            if line.kind == "commit":
                self.committed.add(line.text("total"))
        return found


_PLACES = st.tuples(st.integers(1, ROUNDS), st.integers(1, 3))
_AGREED: list[Any] = []


def _agreement() -> Any:
    if not _AGREED:
        _AGREED.append(agreement_of(OWN))
    return _AGREED[0]
