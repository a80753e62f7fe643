"""Records of sampled patients, and in what pieces they go through a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from accounting.private import Unreleased
from clients.learning.device import CPU
from clients.learning.late_rows import JoinedRows, LateRows

#: Records whose gradients are held at once. Larger chunks are slower: per-sample gradients of 3,200
#: records fall out of the processor's caches, those of 32 do not.
CHUNK_RECORDS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Unreleased):
    """Records of the sampled patients.

    Attributes:
        inputs: float32 ``[n, *shape]``, here or made when they are asked for.
        labels: int64 ``[n]``, or other targets; here, or read when they are asked for.
        patients: int64 ``[n]``; equal values are one patient.
    """

    inputs: torch.Tensor | LateRows
    labels: torch.Tensor | LateRows
    patients: torch.Tensor

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def late(self) -> bool:
        """Whether anything of it is read only when it is asked for."""
        return isinstance(self.inputs, LateRows) or isinstance(self.labels, LateRows)

    def made(self, device: torch.device = CPU) -> Batch:
        """Return the same with its inputs on a device, and its targets here."""
        inputs, labels = self.inputs, self.labels
        if isinstance(inputs, torch.Tensor) and inputs.device == device and not self.late:
            return self
        made = inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs.made(device)
        read = labels if isinstance(labels, torch.Tensor) else labels.made()
        return Batch(inputs=made, labels=read, patients=self.patients)


def chunks_of_patients(
    patients: torch.Tensor, chunk_records: int = CHUNK_RECORDS
) -> Iterator[torch.Tensor]:
    """Yield the numbers of about so many records at a time; each patient's stay together.

    Args:
        patients: int64 ``[n]``, whose each record is.
        chunk_records: records of a chunk, unless a patient has more.
    """
    order = torch.argsort(patients, stable=True)
    if 0 < len(order) <= chunk_records:
        yield order  # mostly: a hospital's batch is small, and a call costs more than what is in it
        return
    _, counts = torch.unique_consecutive(patients[order], return_counts=True)
    start = stop = 0
    for count in counts.tolist():
        if stop > start and stop - start + count > chunk_records:
            yield order[start:stop]
            start = stop
        stop += count
    if stop > start:
        yield order[start:stop]


def passes(
    hospitals: Sequence[torch.Tensor], chunk_records: int
) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Yield what goes through the model together: hospitals' numbers and rows of each.

    A pass holds chunks of several hospitals as long as all their records are few enough.

    Args:
        hospitals: the patients of each one's records.
        chunk_records: records of a pass, unless a patient has more.
    """
    together: list[tuple[int, torch.Tensor]] = []
    for number, patients in enumerate(hospitals):
        for rows in chunks_of_patients(patients, chunk_records):
            if together and len(rows) + sum(len(r) for _, r in together) > chunk_records:
                yield together
                together = []
            together.append((number, rows))
    if together:
        yield together


def joined(batches: list[Batch]) -> tuple[Batch, list[int]]:
    """Return chunks as one, its patients numbered from 0, and how many each chunk has."""
    numbered = [torch.unique_consecutive(one.patients, return_inverse=True) for one in batches]
    counts = [len(members) for members, _ in numbered]
    first, patients = 0, []
    for count, (_, owner) in zip(counts, numbered, strict=True):
        patients.append(owner + first)
        first += count
    if len(batches) == 1:
        only = batches[0]
        return Batch(inputs=only.inputs, labels=only.labels, patients=patients[0]), counts
    return Batch(
        inputs=_one_after_another([one.inputs for one in batches]),
        labels=_one_after_another([one.labels for one in batches]),
        patients=torch.cat(patients),
    ), counts


def _one_after_another(parts: Sequence[torch.Tensor | LateRows]) -> torch.Tensor | LateRows:
    whole = [rows for rows in parts if isinstance(rows, torch.Tensor)]
    return torch.cat(whole) if len(whole) == len(parts) else JoinedRows(parts)


def take(batch: Batch, index: torch.Tensor) -> Batch:
    """Return some records of a batch, by their numbers."""
    return Batch(
        inputs=rows_of(batch.inputs, index),
        labels=rows_of(batch.labels, index),
        patients=batch.patients[index],
    )


def rows_of(part: torch.Tensor | LateRows, index: torch.Tensor) -> torch.Tensor | LateRows:
    """Return some rows of what a batch holds; nothing late is read."""
    return part[index] if isinstance(part, torch.Tensor) else part.take(index)
