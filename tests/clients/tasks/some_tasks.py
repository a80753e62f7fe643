"""A question of each kind, with made-up targets in its form."""

from __future__ import annotations

import torch

from clients.tasks.question import Question

NAMES = ("none", "mild", "severe")
QUESTIONS = {
    "classification": Question(kind="multiclass", names=NAMES),
    "ordinal": Question(kind="ordinal", asked="ordinal", names=NAMES),
    "multi-label": Question(kind="multi-label", names=("effusion", "mass", "nodule")),
    "regression": Question(kind="regression", range=(-10.0, 30.0)),
    "survival": Question(kind="survival", names=("0", "1"), horizons=(1.0, 2.0, 5.0)),
    "segmentation": Question(kind="segmentation", names=NAMES, space=(4, 5)),
}


def made_targets(question: Question, records: int, seed: int = 0) -> torch.Tensor:
    """Return targets of a question, as a hospital's records hold them."""
    random = torch.Generator().manual_seed(seed)
    if question.kind == "regression":
        return -15 + 50 * torch.rand(records, generator=random)
    if question.kind == "survival":
        time = 6 * torch.rand(records, generator=random)
        return torch.stack([time, (torch.rand(records, generator=random) < 0.6).float()], dim=1)
    low = -1 if question.kind == "multi-label" else 0
    high = 2 if question.kind == "multi-label" else len(question.names)
    shape = (records, *question.shape)
    return torch.randint(low, high, shape, generator=random)
