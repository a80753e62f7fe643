"""A server that is killed between a round's first request and its end: one roster a place, ever."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from accounting.chain import read_chain
from clients.contract.kinds import Kind
from clients.contract.settings import Settings
from strategies.run.journal import Journal
from tests.exchange_runs import model_bytes, read_json, recorded
from tests.in_process import InProcessGrid, Meddle, hospital_of, server_app
from tests.strategies.test_shared_keys import NAMES, shared_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

ROUND, LAST = 2, NAMES[-1]
#: With shares of noise, seeds of noise are opened and kept as the key's shares are.
OPTIONS: dict[str, object] = {"privacy__spare_attempts": 3, "privacy__regime": "FSCDP"}


class Killed(KeyboardInterrupt):
    """What a signal leaves of a server."""


class Kill:
    """Kills the server once, at a step of one round; sees every roster that holders are asked."""

    def __init__(self, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._step = step
        self.rosters: dict[tuple[int, int], set[bytes]] = defaultdict(set)
        self.restarted = False
        for name, what in (
            ("keep_attempt", "attempt"),
            ("fix_roster", "roster"),
            ("keep_round", "closed"),
        ):
            self._around(monkeypatch, name, what)

    def _around(self, monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
        real: Callable[..., None] = getattr(Journal, name)

        def killed(journal: Journal, *args: Any) -> None:
            here = (what == "roster" and args[0].place.round == ROUND) or args[0] == ROUND
            if here:
                self.at(f"full {what}")
                self.at(f"before {what}")
            real(journal, *args)
            if here:
                self.at(f"after {what}")

        monkeypatch.setattr(Journal, name, killed)

    def at(self, step: str) -> None:
        if step == self._step and not self.restarted:
            self.restarted = True
            if step.startswith("full"):
                raise OSError(errno.ENOSPC, "no space left on the device")
            raise Killed

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        kind, words = message.metadata.message_type, message.content.config_records["config"]
        number = words.get("server-round", 0)
        if kind == Kind.ANSWER and reply is not None:
            place = (number, words["attempt"])
            self.rosters[place].add(message.content.array_records["arrays"]["roster"].data)
        if number == ROUND and reply is not None:
            if hospital_of(message) == NAMES[2]:
                self.at({Kind.TRAIN: "half collected", Kind.ANSWER: "half answered"}.get(kind, ""))
            # After the restart somebody else is there than before: the roster must not change.
            if self.restarted and kind == Kind.TRAIN and hospital_of(message) == NAMES[0]:
                return None
        early = self._step != "half collected" and not self.restarted and number == ROUND
        if early and kind == Kind.TRAIN and hospital_of(message) == LAST:
            return None
        return reply or message


def server_of(settings: Settings, meddle: Meddle) -> Callable[[], None]:
    """A server that can be started again, over hospitals that live on."""
    config = settings.to_config()
    grid = InProcessGrid(config, settings.partition.hospitals, meddle)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    return lambda: server_app(grid, context)


STEPS = ["half answered"]
MORE = [
    "after roster",
    "before attempt",
    "after attempt",
    "half collected",
    "before roster",
    "before closed",
    "after closed",
    "full attempt",
    "full roster",
    "full closed",
]


@pytest.mark.parametrize(
    "step", [*STEPS, *(pytest.param(one, marks=pytest.mark.exhaustive) for one in MORE)]
)
def test_a_server_that_was_killed_asks_for_the_roster_that_it_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    settings = shared_settings(tmp_path, **OPTIONS)
    kill = Kill(step, monkeypatch)
    serve = server_of(settings, kill)
    with pytest.raises((Killed, OSError)):
        serve()
    serve()
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 3)
    assert all(len(rosters) == 1 for rosters in kill.rosters.values())
    for name in NAMES:
        lines = read_chain(tmp_path / "sites" / name / "ledger.jsonl").records
        answers = [
            (one["round"], one["attempt"], one["roster"])
            for one in lines
            if one["kind"] == "answer"
        ]
        places = [(number, attempt) for number, attempt, _ in answers]
        assert places == sorted(set(places))
    assert model_bytes(settings)
    assert not any("noise of" in row["message"] for row in recorded(settings, "warning"))


@pytest.mark.exhaustive
def test_a_server_that_forgets_its_roster_asks_for_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: hospitals see it then, answer the first alone, and the attempt is void."""
    settings = shared_settings(tmp_path, **OPTIONS)
    kill = Kill("half answered", monkeypatch)
    serve = server_of(settings, kill)
    with pytest.raises(Killed):
        serve()
    monkeypatch.setattr(Journal, "read_fixed", lambda *_: None)
    serve()
    assert len(kill.rosters[ROUND, 1]) == 2
    codes = {(row["round"], row["attempt"], row["code"]) for row in recorded(settings, "fault")}
    assert (ROUND, 1, "stale-place") in codes
