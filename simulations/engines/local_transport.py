"""What every transport of this machine is: one run, its nodes, the identity of its server's side.

How messages are carried is what transports differ in; to Flower each is a `Grid`. Flower takes a
message only from a process that says who it is, so whoever leads a training here says it is the
server's side of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Context, Message, RecordDict, UserConfigValue
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

#: Node id of the server's side, as in Flower's own engines.
SERVER_NODE = 1


class LocalTransport(Grid):
    """A transport to nodes of this machine; `push_messages` and `pull_messages` are missing.

    Args:
        nodes: ids of all hospitals' nodes.
        run: the run that messages belong to.
    """

    def __init__(self, nodes: Iterable[int], run: Run) -> None:
        self._node_ids = list(nodes)
        self._run = run
        self._be_server()

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message; kept because Flower's abstract Grid asks for it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all hospitals' nodes."""
        return list(self._node_ids)

    def _be_server(self) -> None:
        """Say that this process is the server's side, so that it may make messages."""
        TaskIdentity.run_id, TaskIdentity.node_id = self._run.run_id, SERVER_NODE
        TaskIdentity.task_id = self._run.run_id


def server_context(run: Run, config: Mapping[str, UserConfigValue]) -> Context:
    """Return what the ServerApp is told of its run."""
    return Context(
        run_id=run.run_id,
        node_id=SERVER_NODE,
        node_config={},
        state=RecordDict(),
        run_config=dict(config),
    )
