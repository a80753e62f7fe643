"""What private inference costs, and whether it says what the model says in plain.

    python benchmarks/private_inference.py [--only ROW ...] [--pictures N] [--json FILE]

Each row is a model that is trained here for a minute on real pictures ($ASCLEPIAS_DATA), then
served by two other processes, a dealer and a provider, over TLS on this machine's loopback. This
process is the patient's agent. Beside wall-clock seconds stand processor seconds, which other work
on the machine does not lengthen. Linear models are also asked under CKKS. How often the answer is
the plain one is counted over real pictures that the model was not trained on, with all three roles
in this process. ``--spu`` names the Python of an environment that has SPU, which is then timed on
the same shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from needed_data import data_or_exit  # noqa: E402  (after the path is set)

from clients.data import load_dataset  # noqa: E402
from clients.learning.evaluation import probabilities  # noqa: E402
from clients.models.catalogue import MODELS  # noqa: E402
from clients.prediction.artefact import Artefact  # noqa: E402
from clients.prediction.doubt import UNKNOWN  # noqa: E402
from clients.prediction.predictor import Predictor  # noqa: E402
from clients.prediction.private_program import Compiled, compile_model  # noqa: E402
from crypto.inference.rehearsal import rehearse  # noqa: E402
from crypto.inference.words import decode, encode  # noqa: E402
from deployment.inference.agents import Agent  # noqa: E402
from deployment.inference.folders import read_folder  # noqa: E402
from deployment.inference.founding import found  # noqa: E402
from deployment.inference.packets import packet_pieces  # noqa: E402

PORTS = (9471, 9472)
SEED = b"\x01" * 32
COMMAND = "python benchmarks/private_inference.py --json docs/measured/private_inference.json"


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        model: its name.
        data: what it is trained on.
        side: of the pictures; those of the data are brought to it.
        steps: of Adam, on 32 pictures each, at the side of the data; of ResNet-18, whose first
            layer depends on the side, on 8 of the row's side.
        pictures: over which answers are compared, at most.
    """

    model: str
    data: str
    side: int
    steps: int
    pictures: int


ROWS = {
    "logistic-28": Row("logistic", "mnist", 28, 300, 1000),
    "scattering-64": Row("scattering", "chest-xray", 64, 300, 1000),
    "cnn-28": Row("cnn", "mnist", 28, 300, 1000),
    "cnn-64": Row("cnn", "chest-xray", 64, 100, 0),
    "squeezenet-64": Row("squeezenet", "chest-xray", 64, 100, 1000),
    "squeezenet-224": Row("squeezenet", "chest-xray", 224, 100, 3),
    "resnet18-64": Row("resnet18", "chest-xray", 64, 12, 0),
    "resnet18-224": Row("resnet18", "chest-xray", 224, 6, 3),
}


def trained(row: Row) -> tuple[Artefact, Any]:
    """Return a model after a short training in plain, and pictures that it was not trained on."""
    import torch

    with data_or_exit():
        data = load_dataset(row.data, os.environ.get("ASCLEPIAS_DATA"), image_size=64)
    info, records = data.info, data.train
    order = np.random.default_rng(0).permutation(len(records))
    used, rest = order[: min(3000, len(order) - 1001)], order[-1001:]
    sized = replace(info, shape=(info.shape[0], row.side, row.side))
    architecture, alike = MODELS[row.model], row.model != "resnet18"
    torch.manual_seed(0)
    module = architecture.build(info if alike else sized)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    inputs = np.asarray(architecture.prepared(info, records.take(used), None).inputs)
    labels = records.labels[used]
    for step in range(row.steps):
        chosen = np.random.default_rng(step).choice(len(used), 32 if alike else 8)
        batch = inputs[chosen] if alike else np.stack(list(_sized(inputs[chosen], row.side)))
        loss = torch.nn.functional.cross_entropy(
            module(torch.from_numpy(batch)), torch.from_numpy(labels[chosen])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pictures = np.asarray(records.take(np.sort(rest)).inputs, dtype=np.float32)
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    made = Artefact(info=sized, architecture=row.model, members={"model": state}, doubt=UNKNOWN)
    return made, _sized(pictures, row.side)


def _sized(pictures: Any, side: int) -> Iterator[Any]:
    """Yield pictures, brought to a side."""
    import torch

    for picture in pictures:
        if picture.shape[1] == side:
            yield picture
            continue
        wide = torch.nn.functional.interpolate(
            torch.from_numpy(picture)[None], (side, side), mode="bilinear"
        )
        yield wide[0].clamp(0, 1).numpy()


def agreement(artefact: Artefact, compiled: Compiled, pictures: Any, most: int) -> dict[str, Any]:
    """Return how often the class is the plain one, and the worst error of a probability."""
    predictor, same, worst, count = Predictor(artefact), 0, 0.0, 0
    for picture in pictures:
        if count == most:
            break
        plain = predictor.chances(picture[None])[0]
        share = shared(compiled, predictor, picture)
        made = rehearse(compiled.program, compiled.weights, share, np.zeros_like(share))
        private = probabilities(decode(made.answer)[None])[0]
        same += int(private.argmax() == plain.argmax())
        worst = max(worst, float(np.abs(private - plain).max()))
        count += 1
    return {"pictures": count, "same": same, "worst_error": worst}


def shared(compiled: Compiled, predictor: Predictor, picture: Any) -> Any:
    """Return a picture as words."""
    row = predictor.prepared(picture[None])[0] if compiled.features else picture
    return encode(compiled.prepared(row))


@contextmanager
def served(folder: Path, artefact: Artefact) -> Iterator[dict[str, int]]:
    """Run dealer and provider as processes, and yield their ids."""
    model = folder / "model.safetensors"
    model.write_bytes(artefact.to_bytes())
    addresses = [f"127.0.0.1:{port}" for port in PORTS]
    list(found(folder / "c", model, ["ada"], provider=addresses[0], dealer=addresses[1]))
    text = (folder / "c" / "provider" / "inference.toml").read_text()
    text = re.sub(r"= (20|200)\n", "= 100000\n", text)
    text = text.replace("encrypted = false", "encrypted = true")
    (folder / "c" / "provider" / "inference.toml").write_text(text)
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for role in ("dealer", "provider"):
            command = [sys.executable, "-m", "deployment", "infer", role, str(folder / "c" / role)]
            processes[role] = subprocess.Popen(
                command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            stdout = processes[role].stdout
            assert stdout is not None
            if "ready" not in stdout.readline():
                raise SystemExit(f"the {role} did not start")
        yield {role: process.pid for role, process in processes.items()}
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()


def processor(pid: int) -> float:
    """Return the processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def dealing(compiled: Compiled) -> dict[str, float]:
    """Return what making one packet costs a dealer."""
    masks = compiled.program.masks(SEED)
    begun, used, size = time.perf_counter(), time.process_time(), 0
    for piece in packet_pieces(compiled.program, masks, b"\x02" * 32, b"\x03" * 32):
        size += len(piece)
    return {
        "seconds": time.perf_counter() - begun,
        "processor": time.process_time() - used,
        "bytes": size,
    }


def asked(folder: Path, pids: dict[str, int], share: Any, repeats: int) -> dict[str, Any]:
    """Return what predictions cost a patient and a provider."""
    found: list[dict[str, float]] = []
    stock = folder / "c" / "dealer" / "stock"
    with Agent(read_folder(folder / "c" / "patients" / "ada", "patient")) as agent:
        list(agent.fetch(repeats))
        fetched = agent.traffic.seconds.get("packet", 0.0)
        for _ in range(repeats):
            while len(list(stock.rglob("*.packet"))) < 2:  # what the dealer makes takes no turn
                time.sleep(0.05)
            before = time.process_time() + processor(pids["provider"])
            agent.prepare()
            prepared = time.process_time() + processor(pids["provider"]) - before
            own, other = time.process_time(), processor(pids["provider"])
            agent.predict(share)
            seconds = dict(agent.traffic.seconds)
            seconds["prepare_processor"] = prepared
            seconds["patient_processor"] = time.process_time() - own
            seconds["provider_processor"] = processor(pids["provider"]) - other
            found.append(seconds)
        traffic = agent.traffic
        result: dict[str, Any] = {
            name: statistics.median(one[name] for one in found) for name in found[0]
        }
        result["best_online"] = min(one["online"] for one in found)
        result["fetch"] = fetched
        result["rounds"] = traffic.rounds
        result["bytes"] = {
            "patient_to_provider": traffic.sent["provider"],
            "provider_to_patient": traffic.received["provider"],
            "dealer_to_patient": traffic.received["dealer"],
            "dealer_to_provider": len(b'{"ok": true}') + 32 + 8,
            "provider_to_patient_once": traffic.received["weights"],
        }
        if agent.about.encrypted:
            result["encrypted"] = encrypted(agent, share, repeats)
    return result


def encrypted(agent: Agent, share: Any, repeats: int) -> dict[str, Any]:
    """Return what the same costs under CKKS, without a dealer."""
    seconds = []
    for _ in range(repeats + 1):  # the first starts the provider's child
        agent.predict_encrypted(share)
        seconds.append(agent.traffic.seconds["encrypted"])
    return {
        "seconds": statistics.median(seconds[1:]),
        "patient_to_provider": agent.traffic.sent["provider"],
        "provider_to_patient": agent.traffic.received["provider"],
    }


def measure(name: str, row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    artefact, pictures = trained(row)
    compiled, predictor = compile_model(artefact), Predictor(artefact)
    picture = next(pictures)
    predictor.chances(picture[None])
    begun = time.perf_counter()
    predictor.chances(picture[None])
    plain = time.perf_counter() - begun
    result: dict[str, Any] = {"row": name, "model": row.model, "side": row.side, "plain": plain}
    result["dealing"] = dealing(compiled)
    share = shared(compiled, predictor, picture)
    with tempfile.TemporaryDirectory() as made, served(Path(made), artefact) as pids:
        result |= asked(Path(made), pids, share, options.repeats)
    most = row.pictures if options.pictures is None else min(row.pictures, options.pictures)
    result["agreement"] = agreement(artefact, compiled, pictures, most)
    if options.spu:
        result["spu"] = spu(options.spu, row, artefact)
    result["load"] = os.getloadavg()[0]
    return result


def spu(python: str, row: Row, artefact: Artefact) -> dict[str, Any]:
    """Return what SPU takes for a model of this shape, in an environment of its own."""
    worker = ROOT / "benchmarks" / "spu_worker.py"
    words = [python, str(worker), row.model, *map(str, artefact.info.shape)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr else "no output"}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def main() -> int:
    """Measure the rows, and print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--pictures", type=int, help="over which answers are compared, at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--spu", default="", help="Python of an environment that has SPU")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {}
    if options.json and options.json.exists():
        rows = {one["row"]: one for one in json.loads(options.json.read_text())["rows"]}
    for name in options.only:
        rows[name] = measure(name, ROWS[name], options)
        print(json.dumps(rows[name]), flush=True)
        if options.json:
            kept = [rows[one] for one in ROWS if one in rows]
            command = (
                "python benchmarks/private_inference.py --json docs/measured/private_inference.json"
            )
            said = {"command": command, "cores": os.cpu_count(), "rows": kept}
            options.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
