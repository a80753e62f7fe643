"""A Flower Grid that answers in this process: the real ClientApp, no engine, faults on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients.client_app import make_client_app
from clients.contract.settings import Settings
from clients.data import Cohorts
from clients.site.worker import Worker
from strategies.holdout import Holdout
from strategies.server_app import make_server_app

Meddle = Callable[[Message, Message | None], Message | None]
#: Node ids are no numbers of hospitals; nothing may take them for one.
FIRST_NODE, NODE_STEP = 1000, 7
#: Public data are read and split once for all the servers and hospitals of these tests.
COHORTS = Cohorts()
server_app = make_server_app(partial(Holdout, cohorts=COHORTS))


def hospital_of(message: Message) -> str:
    """The simulated hospital behind a message of `InProcessGrid`."""
    return f"hospital-{(message.metadata.dst_node_id - FIRST_NODE) // NODE_STEP:02d}"


class InProcessGrid(Grid):
    """Answers each message at once by calling the ClientApp; keeps everything the server sees.

    Args:
        config: what the apps are told of the run.
        nodes: how many hospitals there are.
        meddle: sees, changes or swallows what is sent.
        apart: whether each hospital has a process of its own, or one answers for all.
    """

    def __init__(
        self, config: dict, nodes: int, meddle: Meddle | None = None, *, apart: bool = False
    ):
        self._config = config
        self._ids = [FIRST_NODE + NODE_STEP * k for k in range(nodes)]
        self._apart = apart
        self._apps: dict[int, ClientApp] = {}
        self.start_processes()
        self._meddle = meddle
        self._replies: dict[str, Message] = {}
        self.requests: list[Message] = []
        self.replies: list[Message] = []
        self.run_id = 5
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 5, 1, 5

    def start_processes(self) -> None:
        """Start the hospitals' processes anew: nothing that they kept in memory is left."""
        together = make_client_app(Worker(COHORTS))
        self._apps = {
            node: make_client_app(Worker(COHORTS)) if self._apart else together
            for node in self._ids
        }

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(self.run_id)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self._ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self.requests.append(message)
            ids.append(message.metadata.message_id)
            reply = self._answer(message)
            if reply is not None:
                self.replies.append(reply)
                self._replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message | None:
        if self._meddle is not None:
            early = self._meddle(message, None)
            if early is not message:
                return early
        reply = self.answer_of_hospital(message)
        return reply if self._meddle is None else self._meddle(message, reply)

    def answer_of_hospital(self, message: Message) -> Message:
        """What the hospital that a message is for says to it."""
        node = message.metadata.dst_node_id
        context = Context(
            run_id=self.run_id,
            node_id=node,
            node_config={"partition-id": self._ids.index(node), "num-partitions": len(self._ids)},
            state=RecordDict(),
            run_config=self._config,
        )
        return self._apps[node](message, context)


def small_settings(out: Path, **changes: object) -> Settings:
    """A federation of four hospitals that trains in a second; keys as ``group__name``."""
    config: dict[str, object] = {
        "data.name": "breast-cancer",
        "data.public": True,
        "partition.hospitals": 4,
        "training.rounds": 3,
        "training.release-every": 2,
        "training.learning-rate": 1.0,
        "privacy.l2-clip": 1.0,
        "privacy.target-epsilon": 0.0,
        "privacy.noise-multiplier": 2.0,
        "run.seed": 7,
        "run.out": str(out),
        "run.timeout": 0.3,
        "tracking.wandb": "disabled",
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config[f"{group}.{name.replace('_', '-')}"] = value
    return Settings.from_config(config)  # type: ignore[arg-type]
