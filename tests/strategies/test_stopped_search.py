"""A server that is stopped while it looks for a culprit goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from flwr.app import Message

from clients.contract.kinds import Kind
from strategies.culprits import Culprits
from strategies.run.journal import Journal
from strategies.sums import Sums
from tests.exchange_runs import read_json, run_app
from tests.strategies.spoiled_sums import Spoils, by, failures, places, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class KilledAt:
    """Ends the server when so many requests were answered since the first bad sum was closed."""

    def __init__(self, round_: int, count: int) -> None:
        self.round, self.left = round_, count

    def __call__(self, message: Message, reply: Message | None) -> Message | None:
        if reply is not None and message.metadata.message_type in (Kind.TRAIN, Kind.CONFIRM):
            config = message.content.config_records["config"]
            confirming = message.metadata.message_type == Kind.CONFIRM
            if confirming or (config["server-round"], config["attempt"]) > (self.round, 1):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt
        return reply or message


@pytest.mark.parametrize(
    "count",
    [5, 21, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 4, 8, 9, 11, 14, 17))],
)
@pytest.mark.parametrize("since", [2, 5])
def test_a_server_that_is_stopped_in_mid_search_goes_on(
    tmp_path: Path, spoil: Callable[[Spoils], None], since: int, count: int
) -> None:
    spoil(by("hospital-02", since=since))
    settings = settings_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_app(settings, KilledAt(since, count))
    run_app(settings)
    summary = read_json(settings, "summary.json")
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    assert [row["hospital"] for row in summary["left_out"]] == ["hospital-02"]
    for honest in ("hospital-00", "hospital-01", "hospital-03"):
        assert len(places(settings, honest)) == len(set(places(settings, honest)))
        assert failures(settings, honest) < 6


@pytest.mark.parametrize(
    ("where", "name"),
    [(Sums, "reopen"), (Culprits, "stands"), (Culprits, "bring_back"), (Journal, "keep_end")],
)
@pytest.mark.parametrize("since", [2, pytest.param(5, marks=pytest.mark.exhaustive)])
def test_a_server_that_is_stopped_between_two_of_its_files_goes_on(
    tmp_path: Path,
    spoil: Callable[[Spoils], None],
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    name: str,
    since: int,
) -> None:
    spoil(by("hospital-02", since=since))
    settings = settings_of(tmp_path)
    real, calls = getattr(where, name), [0]

    def stopped(self: object, *args: object) -> object:
        calls[0] += 1
        if calls[0] in (1, 3):
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(where, name, stopped)
    for _ in range(3):
        with suppress(KeyboardInterrupt):
            run_app(settings)
            break
    summary = read_json(settings, "summary.json")
    assert calls[0] > 1
    assert (summary["status"], summary["rounds"]) == ("finished", 5)
    assert [row["hospital"] for row in summary["left_out"]] == ["hospital-02"]
    for honest in ("hospital-00", "hospital-01", "hospital-03"):
        assert failures(settings, honest) < 6
