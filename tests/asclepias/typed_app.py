"""A user's file, checked by `mypy --strict`: it uses the public names and nothing else of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam

import asclepias
from asclepias import (
    Audit,
    Ledger,
    ObserverRow,
    Patients,
    Place,
    Quantiser,
    SealingPlan,
    SecureFedAvg,
    calibrate,
    epsilon,
    hospital_mod,
    make_adder,
    make_keys,
    make_opener,
    make_sealer,
    observers,
    plan_sealing,
    private_client,
)


def net() -> torch.nn.Module:
    return torch.nn.Linear(4, 2)


def load(context: Context) -> Patients:
    return Patients(np.zeros((3, 4)), np.zeros(3, dtype=np.int64), patients=["a", "a", "b"])


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square()


private: ClientApp = private_client(net, load, squared, one_record_each=True)
sealed = ClientApp(mods=[hospital_mod])


def lead(grid: Grid) -> ArrayRecord:
    def evaluate(rounds: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"rounds": rounds})

    strategy = SecureFedAvg(FedAdam(eta=0.1), patients=100, target_epsilon=1.0)
    first = ArrayRecord(net().state_dict())
    result = strategy.start(grid, first, num_rounds=5, evaluate_fn=evaluate)
    assert strategy.folder is not None
    Audit(folder=strategy.folder).carry_out()
    return result.arrays


def cost(path: Path) -> list[ObserverRow]:
    sigma: float = calibrate(target_epsilon=1.0, delta=1e-5, sampling_rate=0.1, rounds=10)
    assert epsilon(noise_multiplier=sigma, sampling_rate=0.1, rounds=10, delta=1e-5) <= 1.0
    with Ledger(path, site="lyon", cohort="scans") as ledger:
        assert not ledger.entries()
    return observers(
        regime="FSCDP",
        hospitals=3,
        sampling_rate=0.1,
        noise_multiplier=sigma,
        rounds=10,
        delta=1e-5,
    )


def total() -> list[float]:
    grid = Quantiser(step=0.1, bound=1.0)
    plan: SealingPlan = plan_sealing(values=1, hospitals=1, grid=grid, scheme="modular")
    keys, place = make_keys(plan), Place(training="demo", round=1, attempt=1)
    one = make_sealer(plan, keys, "lyon").seal(np.ones(1), place)
    adder = make_adder(plan, keys.key_id)
    adder.add(one)
    found = make_opener(plan, keys).open(adder.total(), {"lyon": one.nonce}, place)
    return [float(value) for value in found] + [float(len(asclepias.__version__))]
