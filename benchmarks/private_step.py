"""What a private step costs, over a plain step on the same records: time and memory, beside peers.

    python benchmarks/private_step.py [--device cuda] [--json docs/measured/private_step.json]

A plain step is forward and backward of the mean loss, as it is mostly written, or with maps whose
channels lie last. Private ones clip each patient's gradient and add the clipped ones up: by Opacus'
hooks, which write all gradients out; by Opacus' own ghost clipping, which goes back twice; by
torch.func (vmap of grad); and as a hospital does it here. Times are taken in turns, with one
thread; memory is the peak of what tensors take beside the model and the records.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from clients.data.records import DatasetInfo
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.models.catalogue import MODELS
from clients.site.memory import keep_freed_memory

PLAIN, OURS = "plain step", "ours"
CLIP = 1.0
Step = Callable[[], object]


class Work:
    """A model and the records of one step, on a device.

    Args:
        name: of `MODELS`.
        side: of the pictures, in pixels.
        patients: how many.
        each: records of a patient.
        device: torch's name for it.
    """

    def __init__(self, name: str, side: int, patients: int, each: int, device: str) -> None:
        info = DatasetInfo(
            name="made up",
            title="made up",
            task="multiclass",
            shape=(3, side, side),
            classes=("no", "yes"),
            kind="image",
            input_range=(0.0, 1.0),
        )
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.own = MODELS[name].build(info)
        self.module = copy.deepcopy(self.own).to(device)
        self.inputs = torch.rand(patients * each, *info.shape).to(device)
        self.labels = (torch.arange(patients * each) % 2).to(device)
        self.patients = torch.arange(patients).repeat_interleave(each)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return those that are trained."""
        return [one for one in self.module.parameters() if one.requires_grad]


def plain(work: Work) -> Step:
    """Forward and backward of the mean loss, as without privacy."""

    def step() -> None:
        loss = functional.cross_entropy(work.module(work.inputs), work.labels)
        torch.autograd.backward(loss)
        for parameter in work.parameters():
            parameter.grad = None

    return step


def plain_last(work: Work) -> Step:
    """The same with the channels of all maps last in memory."""
    work.inputs = work.inputs.contiguous(memory_format=torch.channels_last)
    return plain(work)


def ours(work: Work) -> Step:
    """The clipped sum of a hospital of this app."""
    model = PerSample(work.own, device=work.device)
    batch = Batch(inputs=work.inputs, labels=work.labels, patients=work.patients)
    return lambda: clipped_gradient_sum(model, batch, l2_clip=CLIP)


def hooks(work: Work) -> Step:
    """The same by Opacus' hooks, as it is for models that are not large."""
    model = PerSample(work.own, device=work.device, way="hooks")
    batch = Batch(inputs=work.inputs, labels=work.labels, patients=work.patients)
    return lambda: clipped_gradient_sum(model, batch, l2_clip=CLIP)


def ghost_clipping(work: Work) -> Step:
    """Opacus' own ghost clipping: norms in one backward pass, the clipped sum in a second."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    module = GradSampleModuleFastGradientClipping(
        work.module, max_grad_norm=CLIP, use_ghost_clipping=True, loss_reduction="sum"
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(module.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=len(work.labels),
        loss_reduction="sum",
    )
    criterion = torch.nn.CrossEntropyLoss(reduction="sum")
    loss = DPLossFastGradientClipping(module, optimizer, criterion, loss_reduction="sum")

    def step() -> None:
        loss(module(work.inputs), work.labels).backward()
        module.zero_grad(set_to_none=True)

    return step


def vmapped(work: Work) -> Step:
    """torch.func: the gradient of one record's loss, mapped over the records."""
    from torch.func import functional_call, grad, vmap

    values = {name: one.detach() for name, one in work.module.named_parameters()}

    def loss(values: Any, record: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logits = functional_call(work.module, values, (record[None],))
        return functional.cross_entropy(logits, label[None])

    of_all = vmap(grad(loss), in_dims=(None, 0, 0))

    def step() -> list[torch.Tensor]:
        rows = [one.flatten(1) for one in of_all(values, work.inputs, work.labels).values()]
        norms = torch.stack([one.norm(dim=1) for one in rows]).norm(dim=0)
        scale = CLIP / norms.clamp_min(CLIP)
        return [scale @ one for one in rows]

    return step


WAYS: dict[str, Callable[[Work], Step]] = {
    PLAIN: plain,
    "plain step, channels last": plain_last,
    "Opacus' hooks": hooks,
    "Opacus' ghost clipping": ghost_clipping,
    "torch.func": vmapped,
    OURS: ours,
}
#: Peers whose unit is a record: they are left out where patients have several.
BY_RECORD = ("Opacus' ghost clipping", "torch.func")


def seconds(steps: dict[str, Step], repeats: int, device: str) -> dict[str, float]:
    """Return each one's median over so many turns; the first turn warms up.

    A turn is two steps, of which the second is timed: in a training a step follows one of its own
    kind, whose memory it finds in caches. On a processor it is the processor's time, which other
    work on the machine changes little.
    """
    on_device = device.startswith("cuda")
    clock = time.perf_counter if on_device else time.process_time
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            step()
            if on_device:
                torch.cuda.synchronize()
            start = clock()
            step()
            if on_device:
                torch.cuda.synchronize()
            times[name].append(clock() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def peak_mib(step: Step, device: str) -> float:
    """Return how far one step takes the memory of tensors above what they had before.

    By torch's own count, so that neither libraries nor gaps between tensors are in it.
    """
    step()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            step()
        found.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in events if event.get("name") == "[memory]"]
    before = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return float(max(one["Total Allocated"] for one in changes) - before) / 2**20


def measure(model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way of taking a step."""
    sizes = (options.side, options.patients, options.each, options.device)
    ways = [way for way in WAYS if options.each == 1 or way not in BY_RECORD]
    steps = {way: WAYS[way](Work(model, *sizes)) for way in ways}
    times = seconds(steps, options.repeats, options.device)
    peaks = {way: peak_mib(step, options.device) for way, step in steps.items()}
    return [
        {
            "way": way,
            "ms": 1000 * times[way],
            "over_plain": times[way] / times[PLAIN],
            "peak_mib": peaks[way],
            "peak_over_plain": peaks[way] / peaks[PLAIN],
        }
        for way in ways
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["squeezenet", "resnet18"])
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--each", type=int, default=1, help="records of a patient")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, help="add the numbers to this file")
    return parser.parse_args()


def _main() -> None:
    options = _options()
    torch.set_num_threads(1)
    keep_freed_memory()
    found = {}
    for model in options.models:
        named = f"{model} {options.side}x{options.side}, {options.patients} patients"
        named += f" of {options.each} records" if options.each > 1 else ""
        found[named] = measure(model, options)
        print(
            f"\n{named}, {options.device}\n{'':26}{'ms':>9}{'x plain':>9}{'MiB':>9}{'x plain':>9}"
        )
        for row in found[named]:
            print(
                f"{row['way']:26}{row['ms']:9.1f}{row['over_plain']:9.2f}"
                f"{row['peak_mib']:9.0f}{row['peak_over_plain']:9.2f}"
            )
    if options.json:
        kept = json.loads(options.json.read_text()) if options.json.exists() else {}
        command = f"python {' '.join(sys.argv)}"
        for named, rows in found.items():
            entry = {"command": command, "load": os.getloadavg()[0], "rows": rows}
            kept.setdefault(options.device, {})[named] = entry
        options.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    _main()
