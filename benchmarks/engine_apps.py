"""The work that `engine_cost.py` times: small ClientApps, a bare loop, Flower's stock engine."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from clients.site.memory import keep_freed_memory

#: Parameters of the CNN below; a null client returns as many float32.
PARAMETERS = 55_987
RECORDS = 32

null_app = ClientApp()
dp_app = ClientApp()


def request() -> RecordDict:
    """Return what a round sends: a model's worth of bytes."""
    array = Array("float32", (PARAMETERS,), "raw", bytes(4 * PARAMETERS))
    return RecordDict({"arrays": ArrayRecord({"x": array}), "config": ConfigRecord({"round": 1})})


def _reply(vector: np.ndarray, message: Message) -> Message:
    data = Array("float32", vector.shape, "raw", vector.astype(np.float32).tobytes())
    records = {"arrays": ArrayRecord({"x": data}), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(records), reply_to=message)


@null_app.train()
def null_train(message: Message, context: Context) -> Message:
    """Answer with zeros."""
    if context.run_config.get("keep-memory"):
        keep_freed_memory()
    return _reply(np.zeros(PARAMETERS, dtype=np.float32), message)


@dp_app.train()
def dp_train(message: Message, context: Context) -> Message:
    """Answer with one private gradient sum."""
    if context.run_config.get("keep-memory"):
        keep_freed_memory()
    return _reply(private_sum(int(context.node_config["partition-id"])), message)


@lru_cache(maxsize=1)
def _model() -> Any:
    import torch
    from torch import nn

    from clients.learning.per_sample import PerSample

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 27),
        nn.ReLU(),
        nn.Linear(27, 10),
    )
    return PerSample(module)


@lru_cache(maxsize=128)
def _batch(hospital: int) -> Any:
    import torch

    from clients.learning.batch import Batch

    generator = torch.Generator().manual_seed(hospital % 128)
    return Batch(
        inputs=torch.randn(RECORDS, 1, 28, 28, generator=generator),
        labels=torch.randint(0, 10, (RECORDS,), generator=generator),
        patients=torch.arange(RECORDS),
    )


def private_sum(hospital: int) -> np.ndarray:
    """Return the clipped gradient sum of a hospital's 32 patients."""
    from clients.learning.dp_sgd import clipped_gradient_sum

    return clipped_gradient_sum(_model(), _batch(hospital % 128), l2_clip=1.0).total


def warm_up(_: int) -> None:
    """Import what the work needs."""
    private_sum(0)


def bare_half(task: tuple[list[int], bool]) -> np.ndarray:
    """Do the work of half the hospitals in this process and return their sum."""
    hospitals, work = task
    total = np.zeros(PARAMETERS, dtype=np.float64)
    for hospital in hospitals:
        total += private_sum(hospital)[:PARAMETERS] if work else 0.0
    return total.astype(np.float32)


def add_up_vectors(vectors: Iterable[np.ndarray]) -> np.ndarray:
    """Add the two halves."""
    return np.sum(list(vectors), axis=0)


def nothing() -> np.ndarray:
    """Return a sum of no replies."""
    return np.zeros(PARAMETERS, dtype=np.float64)


def add_to(total: np.ndarray, reply: Message) -> None:
    """Add a hospital's reply, as a server without sealing would."""
    data = reply.content.array_records["arrays"]["x"].data
    total += np.frombuffer(data, dtype=np.float32)[:PARAMETERS]


class StockEngine:
    """Flower's simulation engine, held open so that one round at a time can be timed."""

    def __init__(self, app: str, hospitals: int) -> None:
        self._app = {"engine_apps:null_app": null_app, "engine_apps:dp_app": dp_app}[app]
        self._hospitals = hospitals
        self._go: queue.Queue[bool] = queue.Queue()
        self._done: queue.Queue[bool] = queue.Queue()

    def __enter__(self) -> StockEngine:
        self._thread = threading.Thread(target=self._simulate)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go.put(False)
        self._thread.join()

    def run_round(self) -> None:
        """Run one round and wait for its end."""
        self._go.put(True)
        self._done.get()

    def _simulate(self) -> None:
        from flwr.simulation import run_simulation

        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            while self._go.get():
                content = request()
                nodes = list(grid.get_node_ids())
                replies = grid.send_and_receive([Message(content, n, "train") for n in nodes])
                total = nothing()
                for reply in replies:
                    add_to(total, reply)
                self._done.put(True)

        os.environ["PYTHONPATH"] = os.pathsep.join(
            [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
        )
        resources = {"num_cpus": 1, "num_gpus": 0.0}
        run_simulation(
            server, self._app, self._hospitals, backend_config={"client_resources": resources}
        )
