"""Hospitals of a process that share passes of the model end where those do that share none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import pytest
from flwr.app import Message
from safetensors.numpy import load_file

from clients.client_app import make_client_app
from clients.contract.settings import Settings
from clients.learning import joint
from clients.learning.processors import Processors
from clients.site.worker import Worker
from simulations.engines.actors import Hospitals
from simulations.engines.local_transport import LocalTransport, server_context
from tests.in_process import COHORTS, server_app, small_settings

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class OneProcess(LocalTransport):
    """Hospitals of one process, asked as an actor is: all that share a content in one call."""

    def __init__(
        self, settings: Settings, together: bool, processors: Processors | None = None
    ) -> None:
        from flwr.supercore.run import Run

        nodes = {100 + k: k for k in range(settings.partition.hospitals)}
        super().__init__(nodes, Run.create_empty(5))
        app = make_client_app(Worker(COHORTS, processors=processors))
        self._hospitals = Hospitals(
            app, settings.to_config(), nodes, together=together, processors=processors
        )
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer messages."""
        messages, calls = list(messages), dict[int, list[Message]]()
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            calls.setdefault(id(message.content), []).append(message)
        for asked in calls.values():
            envelopes = [message.metadata for message in asked]
            for reply in self._hospitals.answer(asked[0].content, envelopes)[0]:
                self._replies[reply.metadata.reply_to_message_id] = reply
        self._be_server()
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies."""
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer messages and return the replies."""
        return self.pull_messages(self.push_messages(messages))


@contextmanager
def batches_of_passes() -> Iterator[list[int]]:
    """List how many hospitals each shared pass was for."""
    held: list[int] = []
    real = joint.clipped_gradient_sums

    def counted(model: Any, batches: Any, **more: Any) -> Any:
        held.append(len(batches))
        return real(model, batches, **more)

    with mock.patch.object(joint, "clipped_gradient_sums", counted):
        yield held


@pytest.mark.parametrize(
    ("exchange", "shared"),
    [
        ({}, [4, 4, 4]),
        ({"exchange__name": "weights"}, [4, 4, 4]),
        (
            {"exchange__name": "weights", "exchange__local_steps": 2, "privacy__regime": "FPDP"},
            [],
        ),
    ],
    ids=["gradients", "one step", "two steps"],
)
def test_the_model_is_the_same_whether_hospitals_share_passes_or_not(
    tmp_path: Path, exchange: dict[str, object], shared: list[int]
) -> None:
    ends = []
    for together in (True, False):
        out = tmp_path / str(together)
        out.mkdir()
        settings = small_settings(out, **exchange)
        transport = OneProcess(settings, together)
        with batches_of_passes() as held:
            server_app(transport, server_context(transport.run, settings.to_config()))
        assert held == (shared if together else [])
        ends.append(load_file(out / "model.safetensors"))
    for name, tensor in ends[0].items():
        np.testing.assert_allclose(tensor, ends[1][name], rtol=1e-5, atol=1e-6)
        assert tensor.any()
