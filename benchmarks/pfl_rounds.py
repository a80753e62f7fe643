"""One worker of pfl-research's simulator, for `engine_cost.py --pfl`: the same work, their engine.

Started once per worker by `engine_cost.py`, which writes a line per round and waits until each
answers: who is still at it would take processors from the next contender. pfl-research 0.6 (`pip
install --no-deps pfl multiprocess prv-accountant`) is no dependency of this project: name the
folder that holds it in PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import engine_apps  # noqa: E402  (after the path is set)
import numpy as np  # noqa: E402
import torch  # noqa: E402


def serve(hospitals: int, work: bool) -> None:
    """Run a round for each line on standard input."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import FederatedAlgorithm
    from pfl.context import CentralContext
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.internal.ops import pytorch_ops
    from pfl.internal.ops.selector import set_framework_module
    from pfl.metrics import Metrics
    from pfl.stats import MappedVectorStatistics

    class PrivateSums(FederatedAlgorithm):
        """A user's statistics are the clipped gradient sum of the hospital of that number."""

        def get_next_central_contexts(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        def process_aggregated_statistics(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
            hospital = int(user_dataset.user_id)
            found = engine_apps.private_sum(hospital) if work else _zeros()
            return MappedVectorStatistics({"sum": torch.as_tensor(found)}), Metrics()

    set_framework_module(pytorch_ops)
    names = cycle(str(k) for k in range(hospitals))
    users = FederatedDataset(
        lambda name: Dataset((np.zeros(engine_apps.RECORDS),), user_id=name), lambda: next(names)
    )
    backend = SimulatedBackend(training_data=users, val_data=users)
    from pfl.common_types import Population

    context: Any = CentralContext(0, False, hospitals, Population.TRAIN, None, None, seed=1)
    algorithm = PrivateSums()
    engine_apps.warm_up(0)
    for _ in sys.stdin:
        found, _ = asyncio.run(
            backend.async_gather_results(None, algorithm, central_context=context)  # type: ignore[arg-type]
        )
        assert found is not None
        print("done", flush=True)


def _zeros() -> np.ndarray:
    return np.zeros(engine_apps.PARAMETERS, dtype=np.float32)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.random.seed(0)  # pfl's workers must draw alike
    serve(int(sys.argv[1]), sys.argv[2] == "work")
