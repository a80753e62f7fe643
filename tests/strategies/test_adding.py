"""A round's sum grows with each reply that comes, and is whole when the last has come."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from clients.contract.kinds import Kind
from simulations.engines.direct_transport import DirectTransport, train_here
from strategies import group_adders
from tests.in_process import COHORTS, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


@pytest.mark.parametrize("scheme", ["one-time", "bfv"])
def test_replies_are_added_while_others_are_still_at_work(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adders: list[Any] = []
    real = group_adders.make_adder

    def make_adder(*given: Any) -> Any:
        adders.append(real(*given))
        return adders[-1]

    monkeypatch.setattr(group_adders, "make_adder", make_adder)
    added: list[int] = []

    class OneByOne(DirectTransport):
        """Hospitals compute one after the other, when their replies are asked for."""

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            [reply] = list(super().pull_messages(message_ids))
            if reply.metadata.message_type == Kind.TRAIN:
                added.append(adders[-1].contributions)
            return [reply]

    settings = small_settings(tmp_path, sealing__scheme=scheme, training__rounds=2, run__timeout=60)
    train_here(settings, COHORTS, OneByOne)
    assert added == [0, 1, 2, 3] * 2
