"""A model, a loss and data of one's own: nothing here knows of privacy but who is whose record."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from asclepias import Patients
from flwr.app import ArrayRecord, Context, MetricRecord
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional

#: Patients who are trained on; the others are public, and what models are measured on.
TRAINED = 350
#: What a number has to be divided by, or less, to be about 1: public, and not measured from data.
MIDDLE, WIDTH, FEATURE = 150.0, 80.0, 20.0


class Progression(nn.Module):
    """A regression with one hidden layer; it gives a number and how sure it is of it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(10, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, measured: torch.Tensor) -> torch.Tensor:
        """Return (number, logarithm of its spread), [n, 2]."""
        return self.head(torch.tanh(self.hidden(measured)))


def surprise(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How unlikely a target is: the negative log-likelihood of a normal distribution."""
    number, spread = outputs[:, 0], outputs[:, 1].clamp(-2.0, 2.0)
    return spread + (targets - number).square() / (2.0 * (2.0 * spread).exp())


def load_data(context: Context) -> Patients:
    """Return this hospital's own patients.

    A node that says where its file is (`data-path` in its node config) reads that: a line for each
    visit, the patient's name first, ten measurements, the number last. A simulated one has a part
    of the public diabetes data (Efron et al. 2004), one visit each.
    """
    if path := context.node_config.get("data-path"):
        with Path(str(path)).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        table = np.array([row[1:] for row in rows], dtype=np.float32)
        names = [row[0] for row in rows]
        return Patients(table[:, :10], (table[:, 10] - MIDDLE) / WIDTH, patients=names)
    number = int(context.node_config["partition-id"])
    hospitals = int(context.node_config["num-partitions"])
    measured, targets = _public()
    own = slice(number, TRAINED, hospitals)
    names = [f"patient-{one}" for one in range(number, TRAINED, hospitals)]
    return Patients(measured[own], targets[own], patients=names)


def measure(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure a model on public patients: the mean error, in units of the disease's own scale."""
    model = Progression()
    model.load_state_dict(arrays.to_torch_state_dict())
    measured, targets = _public()
    with torch.no_grad():
        found = model(torch.from_numpy(measured[TRAINED:]))[:, 0]
    error = functional.l1_loss(found, torch.from_numpy(targets[TRAINED:]))
    return MetricRecord({"error": WIDTH * float(error)})


def _public() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    measured, numbers = load_diabetes(return_X_y=True)
    return (measured * FEATURE).astype(np.float32), ((numbers - MIDDLE) / WIDTH).astype(np.float32)
