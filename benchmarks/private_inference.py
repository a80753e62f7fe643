"""What private inference costs, and whether it says what the model says in plain.

    python benchmarks/private_inference.py [--only ROW ...] [--pictures N] [--json FILE]

Each row is a model that is trained here for a minute on real pictures ($ASCLEPIAS_DATA), then
served by two other processes, a dealer and a provider, over TLS on this machine's loopback. This
process is the patient's agent. Beside wall-clock seconds stand processor seconds, which other work
on the machine does not lengthen. Linear models are also asked under CKKS. How often the answer is
the plain one is counted over real pictures that the model was not trained on. ``--spu`` names the
Python of an environment that has SPU (``python3.11 -m venv spu; spu/bin/pip install spu``), which
is then timed on the same shapes. Cells are kept in FILE as they are measured; the same command goes
on where one was cut short.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from private_agreement import agreement  # noqa: E402  (after the path is set)
from private_rows import ROWS, Row, shared, trained  # noqa: E402

from clients.prediction.artefact import Artefact  # noqa: E402
from clients.prediction.predictor import Predictor  # noqa: E402
from clients.prediction.private_program import Compiled, compile_model  # noqa: E402
from crypto.whole_file import write_shared  # noqa: E402
from deployment.inference.agents import Agent  # noqa: E402
from deployment.inference.folders import read_folder  # noqa: E402
from deployment.inference.founding import found  # noqa: E402
from deployment.inference.packets import packet_pieces  # noqa: E402
from simulations.engines.local_server import free_port  # noqa: E402

SEED = b"\x01" * 32
COMMAND = "python benchmarks/private_inference.py --json docs/measured/private_inference.json"
#: What is measured of a row, in the order in which all rows are: what takes long comes last.
CELLS = ("timing", "spu", "agreement")
#: Models that `spu_worker.py` has.
ON_SPU = ("logistic", "squeezenet")


@contextmanager
def served(folder: Path, artefact: Artefact) -> Iterator[dict[str, int]]:
    """Run dealer and provider as processes, and yield their ids."""
    model = folder / "model.safetensors"
    model.write_bytes(artefact.to_bytes())
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
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
        of_packet = agent.traffic.received["dealer"]
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
            "dealer_to_patient": of_packet + traffic.received["dealer"],
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


def timing(row: Row, repeats: int) -> dict[str, Any]:
    """Return what one prediction costs each party."""
    load = os.getloadavg()[0]
    artefact, pictures = trained(row)
    compiled, predictor = compile_model(artefact), Predictor(artefact)
    picture = pictures[0]
    predictor.chances(picture[None])
    begun = time.perf_counter()
    predictor.chances(picture[None])
    result = {"plain": time.perf_counter() - begun, "load": load, "dealing": dealing(compiled)}
    share = shared(compiled, predictor, picture)
    with tempfile.TemporaryDirectory() as made, served(Path(made), artefact) as pids:
        return result | asked(Path(made), pids, share, repeats)


def compared(row: Row, most: int | None, kept: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield how often answers are the plain ones, over more and more pictures."""
    artefact, pictures = trained(row)
    count = row.pictures if most is None else min(row.pictures, most)
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "model.safetensors"
        file.write_bytes(artefact.to_bytes())
        yield from agreement(file, pictures[1 : 1 + count], kept)


def spu(python: str, row: Row) -> dict[str, Any]:
    """Return what SPU takes for a model of this shape, in an environment of its own."""
    worker = ROOT / "benchmarks" / "spu_worker.py"
    channels = 3 if row.model == "squeezenet" else 1
    words = [python, str(worker), row.model, *map(str, (channels, row.side, row.side))]
    load = os.getloadavg()[0]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise SystemExit(f"SPU ended with code {done.returncode}: {last}; leave --spu out")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer | {"load": load}


class Kept:
    """The cells that are measured, in a file that is written after each.

    Args:
        file: JSON; None for nowhere. One that was cut short is gone on with, a whole one anew.
    """

    def __init__(self, file: Path | None) -> None:
        said = json.loads(file.read_text()) if file is not None and file.exists() else {}
        self._file, self._cut = file, bool(said.get("cut"))
        self._rows: dict[str, dict[str, Any]] = {one["row"]: one for one in said.get("rows", [])}

    def begin(self, cells: Sequence[str], names: Sequence[str]) -> None:
        """Forget what is to be measured anew; SPU's too where it is not: it would be of before."""
        for name, cell in product(names, () if self._cut else cells):
            self._rows.get(name, {}).pop(cell, None)

    def of(self, cell: str, name: str) -> dict[str, Any]:
        """Return what is known of a cell; empty where it is nothing."""
        return dict(self._rows.get(name, {}).get(cell, {}))

    def put(self, cell: str, name: str, found: dict[str, Any]) -> None:
        """Write a cell; others are to come."""
        row = self._rows.setdefault(name, {"row": name})
        row |= {"model": ROWS[name].model, "side": ROWS[name].side, cell: found}
        self._write(cut=True)

    def end(self) -> None:
        """Write that nothing is missing, and no more than is shown."""
        for row in self._rows.values():
            row.get("agreement", {}).pop("chunks", None)
        self._write(cut=False)

    def _write(self, *, cut: bool) -> None:
        kept = [self._rows[one] for one in ROWS if one in self._rows]
        said = {"command": COMMAND, "cores": os.cpu_count(), "cut": cut, "rows": kept}
        if self._file is not None:
            write_shared(self._file, (json.dumps(said, indent=1) + "\n").encode())


def fill(cell: str, name: str, kept: Kept, options: argparse.Namespace) -> None:
    """Measure one cell, or what is missing of it."""
    row, begun = ROWS[name], time.perf_counter()
    if cell == "agreement":
        for made in compared(row, options.pictures, kept.of(cell, name)):
            kept.put(cell, name, made)
    elif not kept.of(cell, name):
        one = timing(row, options.repeats) if cell == "timing" else spu(options.spu, row)
        kept.put(cell, name, one)
    shown = {key: value for key, value in kept.of(cell, name).items() if key != "chunks"}
    spent = time.perf_counter() - begun
    print(f"{name} {cell} ({spent:.0f} s): {json.dumps(shown)}", flush=True)


def main() -> int:
    """Measure the cells, and print and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS), help="rows")
    parser.add_argument("--cells", nargs="*", choices=CELLS, default=list(CELLS))
    parser.add_argument("--pictures", type=int, help="over which answers are compared, at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--spu", default="", help="Python of an environment that has SPU")
    parser.add_argument("--json", type=Path, help="where cells are kept")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # dealer and provider end as well
    kept = Kept(options.json)
    kept.begin(options.cells, options.only)
    for cell, name in product(CELLS, options.only):
        there = cell != "spu" or (options.spu and ROWS[name].model in ON_SPU)
        if cell in options.cells and there:
            fill(cell, name, kept, options)
    kept.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
