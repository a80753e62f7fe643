"""Replies with anything wrong in them: the server names their sender, and nothing else happens.

The hospitals' side of it is `tests/door/test_attacks_messages.py`, by the same mutations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.app.message import make_message

from clients.contract.kinds import Kind
from clients.contract.messages import ARRAYS
from clients.contract.terms import hospitals_expected
from strategies.errors import TrainingStopped
from strategies.secure_fedavg import SecureFedAvg
from tests.door.test_attacks_messages import mutated
from tests.exchange_runs import read_json, recorded
from tests.in_process import InProcessGrid, hospital_of, server_app, small_settings
from tests.strategies.test_hostile_replies import ENSEMBLE, LAYERS, SHARED, SUMS, VISITS

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

LIAR = "hospital-03"
ROUNDS = 4
Hook = Callable[[Message, Message | None], Message | None]


def run_with(hook: Hook, path: Path, changes: dict[str, object]) -> str:
    """Run the real server, with a hook between it and the hospitals; how it ended."""
    settings = small_settings(path, run__attempts=2, **changes)
    config = settings.to_config()
    grid = InProcessGrid(config, hospitals_expected(settings), hook)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    try:
        server_app(grid, context)
    except TrainingStopped as stopped:
        return str(stopped)
    return ""


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_mutated_contributions_are_their_senders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    draw, told, taken, honest = random.Random(3), 0, 0, SecureFedAvg.aggregate_train

    def bombarded(self: SecureFedAvg, round: int, replies: Iterable[Message]) -> Any:
        nonlocal told, taken
        came = list(replies)
        [own] = [one for one in came if self._nodes.name_of(one.metadata.src_node_id) == LIAR]
        for _ in range(count // ROUNDS):
            wrong = make_message(metadata=own.metadata, content=mutated(own.content, draw))
            honest(self, round, [wrong])
            told += 1
            faults, contributors = self.outcome.faults, self.outcome.contributors
            assert [*faults, *contributors] == [LIAR], (faults, contributors)
            assert self.outcome.closed is None
            if contributors:
                # Nothing that matters was changed: what was sealed and signed is what was sent.
                taken += 1
                for name in ("sealed", "header"):
                    sent, kept = (one.content[ARRAYS][name].data for one in (own, wrong))
                    assert sent == kept
        return honest(self, round, came)

    monkeypatch.setattr(SecureFedAvg, "aggregate_train", bombarded)
    changes = {**SUMS, "training__rounds": ROUNDS}
    assert run_with(lambda asked, reply: reply or asked, tmp_path, changes) == ""
    # Mutations are no noise: most are refused, and some leave what counts as it was.
    assert told == count
    assert 0.05 * count < taken < 0.8 * count
    assert recorded(small_settings(tmp_path, **changes), "fault") == []


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        (SUMS, 1),
        *(
            pytest.param(one, runs, marks=pytest.mark.exhaustive)
            for one, runs in ((SUMS, 8), (SHARED, 4), (VISITS, 6), (ENSEMBLE, 4), (LAYERS, 4))
        ),
    ],
    ids=["sums", "many sums", "shared", "visits", "ensemble", "layers"],
)
def test_a_run_with_mutated_replies_of_any_kind_ends_in_order(
    tmp_path: Path, changes: dict[str, object], runs: int
) -> None:
    told: set[str] = set()
    for number in range(runs):
        draw, folder = random.Random(100 + number), tmp_path / str(number)
        folder.mkdir()

        def lies(asked: Message, reply: Message | None, draw: random.Random = draw) -> Any:
            mine = hospital_of(asked) == LIAR and reply is not None and not reply.has_error()
            # The ceremony comes first, and a run that ends in it would show no more.
            kind = asked.metadata.message_type
            begins = kind in (Kind.JOIN, Kind.REVEAL, Kind.LEAD, Kind.KEYS)
            if reply is None or not mine or draw.random() < (0.97 if begins else 0.4):
                return reply or asked
            told.add(kind)
            return Message(mutated(reply.content, draw), reply_to=asked)

        message = run_with(lies, folder, changes)
        settings = small_settings(folder, **changes)
        status = read_json(settings, "summary.json")["status"]
        assert (status == "finished") == (message == ""), message
        assert status in ("finished", "stopped")
        assert {row["hospital"] for row in recorded(settings, "fault")} <= {LIAR}
        assert not any(f"hospital-0{k}:" in message for k in range(3)), message
    assert told
