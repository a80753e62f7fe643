"""Nobody pays for another attempt at a round before enough hospitals for it are connected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from clients.contract.kinds import Kind
from strategies.errors import TrainingStopped
from tests.exchange_runs import read_json
from tests.in_process import InProcessGrid, hospital_of, server_app, small_settings

AWAY = ("hospital-01", "hospital-02")
CHANGES = {
    "privacy__dropouts": 1,
    "training__rounds": 2,
    "run__attempts": 3,
    "run__timeout": 0.4,
    "run__seed": -1,
}


class Absent(InProcessGrid):
    """Two of four hospitals answer nothing of round 2 until the server has looked for them.

    Args:
        config: of the run.
        connected: whether their nodes are there all the same.
        looks: after how many looks they are back; 0: never.
    """

    def __init__(self, config: dict, *, connected: bool, looks: int = 0) -> None:  # type: ignore[type-arg]
        super().__init__(config, 4, self._silence)
        self._connected, self._looks = connected, looks
        self._left = self._back = False

    def _silence(self, message: Message, reply: Message | None) -> Message | None:
        asked = message.metadata.message_type == Kind.TRAIN and hospital_of(message) in AWAY
        if asked and reply is None and len(self.rounds) > 1:
            self._left = not self._back
        return None if self._left and hospital_of(message) in AWAY else reply or message

    @property
    def rounds(self) -> set[int]:
        asked = [one for one in self.requests if one.metadata.message_type == Kind.TRAIN]
        return {int(one.content.config_records["config"]["server-round"]) for one in asked}  # type: ignore[arg-type]

    def get_node_ids(self) -> Iterable[int]:
        if self._left and self._looks:
            self._looks -= 1
            self._back = self._looks == 0
            self._left = not self._back
        gone = self._left and not self._connected
        return [one for k, one in enumerate(self._ids) if not gone or f"hospital-0{k}" not in AWAY]


@pytest.mark.parametrize(
    ("connected", "looks", "paid"), [(False, 0, 2), (True, 0, 4), (False, 4, 3)]
)
def test_a_retry_is_paid_for_once_enough_hospitals_are_connected(
    tmp_path: Path, connected: bool, looks: int, paid: int
) -> None:
    settings = small_settings(tmp_path, **CHANGES)
    config = settings.to_config()
    grid = Absent(config, connected=connected, looks=looks)
    context = Context(run_id=5, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    if looks:
        server_app(grid, context)
    else:
        with pytest.raises(TrainingStopped, match="round 2 closed with 2 of 4 hospitals"):
            server_app(grid, context)
    assert read_json(settings, "privacy.json")["rounds_spent"] == paid
