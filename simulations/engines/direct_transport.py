"""One process that is server and all hospitals at once: the cheapest way to run many small runs.

The two apps are the very ones that a deployment runs; what differs is that a message is answered
where it is sent. Nothing has to be started, so a run of a comparison costs its rounds and no more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from flwr.app import Message
from flwr.supercore.run import Run

from simulations.engines.actors import Hospitals
from simulations.engines.local_transport import LocalTransport, server_context

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohorts


class DirectTransport(LocalTransport):
    """Carries messages between a ServerApp and hospitals of the same process."""

    def __init__(self, hospitals: Hospitals, nodes: Iterable[int], run: Run) -> None:
        super().__init__(nodes, run)
        self._hospitals = hospitals
        self._waiting: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages in; each is answered when its reply is pulled."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self._waiting[message.metadata.message_id] = message
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the reply of one message that waits, so that replies are handed on one by one."""
        for identifier in message_ids:
            if message := self._waiting.pop(identifier, None):
                [reply], _ = self._hospitals.answer(message.content, [message.metadata])
                self._be_server()
                reply.metadata.__dict__["_message_id"] = str(uuid4())
                return [reply]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and return all replies."""
        ids = list(self.push_messages(messages))
        return [reply for one in ids for reply in self.pull_messages([one])]


def train_here(
    settings: Settings,
    cohorts: Cohorts,
    transport: Callable[[Hospitals, dict[int, int], Run], DirectTransport] = DirectTransport,
    sites: Sequence[Path] = (),
) -> None:
    """Run a training to its end in this process; ``run.out`` names its folder.

    Args:
        settings: the run's settings.
        cohorts: where both sides read data, so that trainings that follow need not read them again.
        transport: what carries the messages; made from the hospitals, their nodes and the run.
        sites: each hospital's own ``site.toml``; none: they are simulated, in the run's folder.

    Raises:
        TrainingStopped: the run ended cleanly before its last round.
        AuditFailed: what it promised does not hold.
    """
    from clients.client_app import make_client_app
    from clients.contract.terms import hospitals_expected
    from clients.site.worker import Worker
    from simulations.run_audit import audit_run
    from strategies.holdout import Holdout
    from strategies.server_app import make_server_app

    nodes = {secrets.randbits(62) + 2: k for k in range(hospitals_expected(settings))}
    run = Run.create_empty(secrets.randbits(62))
    config = settings.to_config()
    lead = make_server_app(partial(Holdout, cohorts=cohorts), audit_run)
    with closing(Worker(cohorts)) as worker:
        hospitals = Hospitals(make_client_app(worker), config, nodes, sites)
        lead(transport(hospitals, nodes, run), server_context(run, config))
