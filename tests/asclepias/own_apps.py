"""Small apps as a user of Flower would write them, and a grid that answers with one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from asclepias import Patients
from tests.in_process import InProcessGrid

HOSPITALS, FEATURES, CLASSES = 3, 5, 3
#: Records of each hospital: uneven, as they are.
SIZES = (30, 50, 40)
PATIENTS = sum(SIZES)


class AppGrid(InProcessGrid):
    """Answers with a user's ClientApp.

    Args:
        app: makes it; each made is a process.
        nodes: hospitals.
        apart: whether each hospital has a process of its own.
        fresh: whether each message has one.
    """

    def __init__(
        self,
        app: Callable[[], ClientApp],
        nodes: int = HOSPITALS,
        *,
        apart: bool = False,
        fresh: bool = False,
    ) -> None:
        self._app = app
        self._fresh = fresh
        super().__init__({"local-steps": 2}, nodes, apart=apart)

    def start_processes(self) -> None:
        together = self._app()
        self._apps = {node: self._app() if self._apart else together for node in self._ids}

    def answer_of_hospital(self, message: Message) -> Message:
        if self._fresh:
            self.start_processes()
        return super().answer_of_hospital(message)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def first_arrays(seed: int = 1) -> ArrayRecord:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ArrayRecord(net().state_dict())


def records(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and class numbers of one hospital."""
    draw = np.random.default_rng(number)
    inputs = draw.normal(size=(SIZES[number], FEATURES)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0.5)


def load(context: Context) -> Patients:
    return Patients(*records(int(context.node_config["partition-id"])))


def train(message: Message, context: Context) -> Message:
    """Full-batch steps on a hospital's records, as a plain Flower app takes them."""
    module = net()
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    inputs, labels = records(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
    for _ in range(int(context.run_config.get("local-steps", 1))):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            module(torch.from_numpy(inputs)), torch.from_numpy(labels)
        )
        loss.backward()
        optimizer.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(module.state_dict()),
            "metrics": MetricRecord({"num-examples": len(inputs)}),
        }
    )
    return Message(content, reply_to=message)


def plain_app() -> ClientApp:
    app = ClientApp()
    app.train()(train)
    return app


def values(arrays: ArrayRecord) -> Mapping[str, np.ndarray]:
    return {name: array.numpy() for name, array in arrays.items()}


def furthest(one: ArrayRecord, other: ArrayRecord) -> float:
    """The largest difference of two models, parameter by parameter."""
    first, second = values(one), values(other)
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)
