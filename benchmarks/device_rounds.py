"""What a private step and a sealed round cost on a device: called by ``engine_cost.py --device``.

Steps: a plain step on all hospitals' pictures at once, against the private sums of the same
pictures, of all hospitals together and hospital by hospital; pictures are on the device. Rounds:
the whole app on pictures of chance, unsealed (`modular`), under `one-time` and under `bfv`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

#: Pictures of a hospital in a round.
RECORDS = 32
#: Pictures of a plain step at once: as the private one, it goes through them in pieces.
PLAIN_AT_ONCE = 320
SCHEMES = ("modular", "one-time", "bfv")


def write_pictures(folder: Path, side: int, count: int) -> None:
    """Write colour pictures of chance as a data set of one's own, ``npz:made``."""
    drawn = np.random.default_rng(0)
    parts = {"train": count, "test": 16}
    arrays: dict[str, Any] = {}
    for part, number in parts.items():
        arrays[f"{part}_images"] = drawn.integers(0, 256, (number, side, side, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = drawn.integers(0, 2, number)
    np.savez(folder / "made.npz", **arrays)
    (folder / "made.toml").write_text('classes = ["no", "yes"]\n[pictures]\naxes = "hwc"\n')


def measure_steps(
    device: str, model: str, side: int, hospitals: int, repeats: int
) -> dict[str, Any]:
    """Return seconds of a plain step and of private sums, medians and all."""
    import torch
    from torch.nn import functional

    from clients.learning.batch import Batch
    from clients.learning.device import find_device
    from clients.learning.device_memory import records_at_once
    from clients.learning.dp_sgd import clipped_gradient_sum, clipped_gradient_sums
    from clients.learning.per_sample import PerSample

    where = find_device(device)
    plain, private = (_model(model, side) for _ in range(2))
    plain = plain.to(where)
    per_sample = PerSample(private, device=where)
    shape = (3, side, side)
    per_sample.chunk_records = records_at_once(per_sample, shape, 2, l2_clip=1.0)
    drawn = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(hospitals):
        pictures = torch.randn(RECORDS, *shape, generator=drawn).to(where)
        labels = torch.randint(0, 2, (RECORDS,), generator=drawn)
        batches.append(Batch(inputs=pictures, labels=labels, patients=torch.arange(RECORDS)))
    inputs = torch.cat([torch.as_tensor(one.inputs) for one in batches])
    labels = torch.cat([one.labels for one in batches]).to(where)

    def plain_step() -> None:
        plain.zero_grad()
        pieces = zip(inputs.split(PLAIN_AT_ONCE), labels.split(PLAIN_AT_ONCE), strict=True)
        for some, theirs in pieces:
            functional.cross_entropy(plain(some), theirs, reduction="sum").backward()

    ways: dict[str, Callable[[], Any]] = {
        "plain": plain_step,
        "private, together": lambda: clipped_gradient_sums(per_sample, batches, l2_clip=1.0),
        "private, one by one": lambda: [
            clipped_gradient_sum(per_sample, one, l2_clip=1.0) for one in batches
        ],
    }
    seconds = _in_turn(ways, where, repeats)
    return {
        "hospitals": hospitals,
        "records": hospitals * RECORDS,
        "records_at_once": per_sample.chunk_records,
        "median_seconds": {name: statistics.median(found) for name, found in seconds.items()},
        "seconds": seconds,
    }


def _in_turn(
    ways: dict[str, Callable[[], Any]], device: Any, repeats: int
) -> dict[str, list[float]]:
    """Time each way in turn, so many times, after two rounds that do not count."""
    from clients.site.memory import keep_freed_memory

    keep_freed_memory()  # as hospitals do
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            _wait(device)
            start = time.perf_counter()
            way()
            _wait(device)
            if repeat > 1:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure_rounds(
    device: str,
    model: str,
    side: int,
    hospitals: int,
    rounds: int,
    schemes: Sequence[str],
    whole_app: Callable[..., Any],
) -> dict[str, Any]:
    """Return a round of the whole app by scheme: medians, and of its phases."""
    found, held = {}, max(10, hospitals) * RECORDS
    with TemporaryDirectory() as scratch:
        write_pictures(Path(scratch), side, held)
        for scheme in schemes:
            start = time.perf_counter()
            changes = {
                "data.name": "npz:made",
                "data.dir": scratch,
                "data.image-size": side,
                "partition.name": "iid",
                "partition.hospitals": hospitals,
                "model.name": model,
                "run.device": device,
                "training.sampling-rate": RECORDS * hospitals / held,
                "training.rounds": rounds,
                "training.release-every": rounds,
                "privacy.target-epsilon": 0.0,
                "privacy.noise-multiplier": 1.0,
                "sealing.scheme": scheme,
            }
            found[scheme] = whole_app(changes, Path(scratch) / scheme)
            found[scheme]["seconds"] = time.perf_counter() - start
    return {"hospitals": hospitals, "rounds": rounds, "schemes": found}


def _model(name: str, side: int) -> Any:
    from clients.contract.settings import Settings
    from clients.data import DatasetInfo
    from clients.models import build_model

    classes = ("no", "yes")
    shape = (3, side, side)
    info = DatasetInfo(
        name="npz:made", title="made", task="binary", shape=shape, classes=classes, kind="image"
    )
    settings = Settings.from_config({"data.name": "npz:made", "model.name": name})
    return build_model(settings, info, 0).train()


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_device(
    device: str,
    *,
    model: str,
    side: int,
    hospitals: list[int],
    repeats: int,
    rounds: int,
    schemes: Sequence[str],
    whole_app: Callable[..., Any],
) -> dict[str, Any]:
    """Return steps and rounds for each number of hospitals, and what they were measured on."""
    import os

    import torch

    from clients.learning.device import describe, find_device

    where = find_device(device)
    found: dict[str, Any] = {
        "device": describe(where),
        "torch": torch.__version__,
        "processors": os.cpu_count(),
        "model": model,
        "side": side,
        "steps": [],
        "rounds": [],
    }
    for count in hospitals:
        row = measure_steps(device, model, side, count, repeats)
        found["steps"].append(row)
        cells = ", ".join(f"{name} {s * 1e3:.1f} ms" for name, s in row["median_seconds"].items())
        print(f"K={count:4d} {cells} ({row['records_at_once']} records at once)", flush=True)
    for count in hospitals if rounds else []:
        row = measure_rounds(device, model, side, count, rounds, schemes, whole_app)
        found["rounds"].append(row)
        for scheme, one in row["schemes"].items():
            both = one["phases_median"] | one["server_phases_median"]
            phases = ", ".join(f"{name} {s * 1e3:.1f}" for name, s in both.items())
            print(
                f"K={count:4d} {scheme:9s} round {one['round_median'] * 1e3:.1f} ms; {phases}",
                flush=True,
            )
    return found
