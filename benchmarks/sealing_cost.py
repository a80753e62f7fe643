"""What sealing costs: one hospital seals, the server adds K vectors, one hospital opens the sum.

Peers run interleaved in the same process on the same numbers, so that ratios mean something:

* Dopamine's way: TenSEAL BFV, n = 4096, t = 40961, values times 1000, one per slot;
* NVFlare's parameters: TenSEAL CKKS, n = 8192, [60, 40, 40] bits, scale 2**40, one vector per layer
  (and NVFlare's own classes where nvflare is installed);
* pairwise AES-CTR masks: what no homomorphic scheme can beat.

    python benchmarks/sealing_cost.py [--json FILE] [--repeats 9] [--large] [--many 100 1000]
        [--ahead] [--memory] [--seal-alone] [--cpu]
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sealing_contenders import (
    BOUND,
    Contender,
    Dopamine,
    Masks,
    NvflareClasses,
    NvflareParameters,
    Ours,
    SealAlone,
)

from clients.site.memory import keep_freed_memory
from crypto.schemes import make_adder

#: Numbers are of one thread; libraries read these when they are imported.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SQUEEZENET, RESNET18 = 725_061, 11_179_077
FIRES = (
    (64, 16, 64),
    (128, 16, 64),
    (128, 32, 128),
    (256, 32, 128),
    (256, 48, 192),
    (384, 48, 192),
    (384, 64, 256),
    (512, 64, 256),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One path's medians, in milliseconds and bytes."""

    path: str
    seal_ms: float
    server_ms: float
    open_ms: float
    up_bytes: int
    down_bytes: int
    error_of_mean: float

    @property
    def whole_ms(self) -> float:
        return self.seal_ms + self.server_ms + self.open_ms


def _squeezenet_layers(classes: int = 5) -> list[int]:
    """Sizes of SqueezeNet 1.1's 52 arrays."""
    layers = [3 * 64 * 9, 64]
    for inputs, squeeze, expand in FIRES:
        layers += [inputs * squeeze, squeeze]
        layers += [squeeze * expand, expand, squeeze * expand * 9, expand]
    return [*layers, 512 * classes, classes]


def _timed(function: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    start = clock()
    result = function()
    return 1e3 * (clock() - start), result


def _measure(
    contender: Contender, vectors: list[np.ndarray], clock: Callable[[], float]
) -> dict[str, float]:
    """One pass; the seal time is the mean over all that seal."""
    own = vectors[: contender.senders]
    seal_ms, distinct = _timed(lambda: [contender.seal(vector) for vector in own], clock)
    sealed = [distinct[index % len(own)] for index in range(len(vectors))]
    vectors = [own[index % len(own)] for index in range(len(vectors))]
    server_ms, total = _timed(lambda: contender.add(sealed), clock)
    contender.answer()
    open_ms, opened = _timed(lambda: contender.open(total), clock)
    error = float(np.abs(opened - sum(vectors)).max()) / len(vectors)
    return {
        "seal_ms": seal_ms / len(own),
        "server_ms": server_ms,
        "open_ms": open_ms,
        "up_bytes": contender.size(sealed[0]),
        "down_bytes": contender.size(total),
        "error_of_mean": error,
    }


def _run(
    contenders: list[Contender],
    values: int,
    hospitals: int,
    repeats: int,
    clock: Callable[[], float],
) -> list[_Row]:
    random = np.random.default_rng(0)
    vectors = [
        np.clip(random.normal(scale=0.2, size=values), -BOUND, BOUND) for _ in range(hospitals)
    ]
    passes: dict[str, list[dict[str, float]]] = {one.name: [] for one in contenders}
    for turn in range(repeats + 1):
        for contender in contenders:
            if turn > contender.passes:
                continue
            # TenSEAL prints a warning for every vector longer than a ciphertext.
            with contextlib.redirect_stdout(io.StringIO()):
                measured = _measure(contender, vectors, clock)
            if turn or repeats == 1:
                passes[contender.name].append(measured)
        if repeats == 1:
            break
    return [
        _Row(
            path=name,
            up_bytes=int(rows[0]["up_bytes"]),
            down_bytes=int(rows[0]["down_bytes"]),
            error_of_mean=max(row["error_of_mean"] for row in rows),
            **{
                key: median(row[key] for row in rows) for key in ("seal_ms", "server_ms", "open_ms")
            },
        )
        for name, rows in passes.items()
    ]


def _stream(
    ours: Ours, vectors: list[np.ndarray], hospitals: int, clock: Callable[[], float]
) -> _Row:
    """Many hospitals, each sealed vector added as it comes and forgotten; medians over them."""
    adder, seals, adds = ours.adder(), [], []
    whole = np.zeros_like(vectors[0])
    for index in range(hospitals):
        vector = vectors[index % len(vectors)]
        whole += vector
        ours.ready()
        seal_ms, sealed = _timed(lambda vector=vector: ours.seal(vector), clock)
        add_ms, _ = _timed(lambda sealed=sealed: adder.add(sealed), clock)
        seals.append(seal_ms)
        adds.append(add_ms)
    answer_ms = 1e3 * ours.answer()
    if answer_ms:
        print(
            f"{ours.name}: a holder answers in {answer_ms:.1f} ms, and gets {ours.received:,.0f} "
            "bytes of envelopes a hospital"
        )
    total = adder.total()
    opens = [_timed(lambda: ours.open(total), clock) for _ in range(3)]
    return _Row(
        path=ours.name,
        seal_ms=median(seals),
        server_ms=sum(adds),
        open_ms=median(milliseconds for milliseconds, _ in opens),
        up_bytes=ours.size(sealed),
        down_bytes=total.size,
        error_of_mean=float(np.abs(opens[0][1] - whole).max()) / hospitals,
    )


def _many(hospitals: int, clock: Callable[[], float], values: int = SQUEEZENET) -> list[_Row]:
    """What grows with the number of hospitals, and what does not."""
    random = np.random.default_rng(0)
    vectors = [np.clip(random.normal(scale=0.2, size=values), -BOUND, BOUND) for _ in range(10)]
    variants = (("bfv", "symmetric", 0), ("one-time", "auto", 0), ("one-time", "auto", 5))
    rows = []
    for scheme, mode, dropouts in variants:
        ours = Ours(scheme, mode, 13, values, hospitals, dropouts)
        rows.append(_stream(ours, vectors, hospitals, clock))
    return rows


def _ahead(
    values: int, hospitals: int, repeats: int, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """What of sealing can be made before the vector is there, and what is left then."""
    random, found = np.random.default_rng(0), {}
    vector = np.clip(random.normal(scale=0.2, size=values), -BOUND, BOUND)
    for variant in (("bfv", "symmetric"), ("one-time", "auto"), ("modular", "auto")):
        ours = Ours(*variant, 13, values, hospitals)
        whole, parts = [], []
        for _ in range(repeats + 1):
            whole.append(_timed(lambda ours=ours: ours.seal(vector), clock)[0])
            parts.append(ours.in_two(vector, clock))
        made, left = (1e3 * median(times) for times in zip(*parts[1:], strict=True))
        found[ours.name] = {"ahead_ms": made, "left_ms": left, "at_once_ms": median(whole[1:])}
        print(
            f"{ours.name:34} ahead {made:6.1f} ms, left {left:6.1f} ms; "
            f"at once {median(whole[1:]):6.1f} ms"
        )
    return found


def _seal_alone(
    values: int, hospitals: int, repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """What of `bfv` is SEAL's own, in milliseconds a vector: no code of ours can go below it."""
    alone = SealAlone(values, hospitals)
    steps = {"encrypt": alone.encrypt, "add": alone.add, "decrypt": alone.decrypt}
    times = [
        {name: _timed(step, clock)[0] for name, step in steps.items()} for _ in range(repeats + 1)
    ][1:]
    found = {f"{name}_ms": median(one[name] for one in times) for name in steps}
    each = found["encrypt_ms"] + found["add_ms"]
    print(
        f"SEAL alone, {alone.count} ciphertexts: encrypt {found['encrypt_ms']:.1f} ms a hospital, "
        f"expand and add {found['add_ms']:.1f} ms a hospital, decrypt {found['decrypt_ms']:.1f} "
        f"ms; with {hospitals} hospitals on two processors {hospitals * each / 2:.0f} ms a round, "
        "decrypting not counted"
    )
    return found


def _peak_memory(hospitals: int, values: int = SQUEEZENET, mode: str = "symmetric") -> float:
    """MiB that a server's adder takes at its peak, in a process of its own."""
    command = [sys.executable, __file__, "--memory-child", str(hospitals), str(values), mode]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1])


def _memory_child(hospitals: int, values: int, mode: str) -> None:
    # One plan for every K: more hospitals planned for would mean more ciphertexts.
    ours = Ours("bfv", mode, 13, values, 1000)
    # Arriving one at a time from two senders' repeated bytes: the adder keeps none of them.
    sealed = [ours.seal(np.zeros(values)) for _ in range(2)]
    # Forget the peak that sealing left behind (Linux, proc(5)); then only the adder counts.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    adder = make_adder(ours.plan)
    for index in range(hospitals):
        adder.add(sealed[index % 2])
    adder.total()
    sys.stdout.write(f"{(_status_kib('VmHWM') - before) / 1024:.3f}\n")


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _show(rows: list[_Row], values: int, hospitals: int, baseline: str) -> None:
    whole = next((row.whole_ms for row in rows if row.path == baseline), math.nan)
    print(f"\nd = {values:,}, K = {hospitals}: medians in milliseconds")
    print(
        f"{'path':46}{'seal':>9}{'server':>9}{'open':>9}{'whole':>9}{'faster':>8}"
        f"{'up MB':>8}{'x f32':>7}{'down MB':>9}{'error':>10}"
    )
    for row in rows:
        print(
            f"{row.path:46}{row.seal_ms:9.1f}{row.server_ms:9.1f}{row.open_ms:9.1f}"
            f"{row.whole_ms:9.1f}{whole / row.whole_ms:7.1f}x{row.up_bytes / 1e6:8.2f}"
            f"{row.up_bytes / (4 * values):7.2f}{row.down_bytes / 1e6:9.2f}"
            f"{row.error_of_mean:10.1e}"
        )


def _document(rows: list[_Row], values: int, hospitals: int) -> dict[str, Any]:
    return {
        "values": values,
        "hospitals": hospitals,
        "rows": [{**asdict(row), "whole_ms": row.whole_ms} for row in rows],
    }


def _more(
    options: argparse.Namespace,
    result: dict[str, Any],
    hospitals: int,
    clock: Callable[[], float],
) -> None:
    """What is measured only where it is asked for."""
    if options.large:
        chosen = [("bfv", "symmetric", 13), ("one-time", "auto", 13), ("one-time", "auto", 13, 2)]
        chosen += [("bfv", "public", 13)]
        few: list[Contender] = [
            Ours(*variant[:3], RESNET18, hospitals, *variant[3:]) for variant in chosen
        ]
        rows = _run([Dopamine(), *few], RESNET18, hospitals, 1, clock)
        _show(rows, RESNET18, hospitals, Dopamine.name)
        result["tables"].append(_document(rows, RESNET18, hospitals))
    for count in options.many:
        rows = _many(count, clock)
        _show(rows, SQUEEZENET, count, rows[0].path)
        result["tables"].append(_document(rows, SQUEEZENET, count))
    if options.ahead:
        result["ahead"] = _ahead(SQUEEZENET, hospitals, options.repeats, clock)
    if options.seal_alone:
        result["seal_alone"] = _seal_alone(SQUEEZENET, hospitals, options.repeats, clock)
    if options.memory:
        result["server_peak_mib"] = {
            mode: {str(count): _peak_memory(count, mode=mode) for count in (10, 100, 1000)}
            for mode in ("symmetric", "public")
        }
        for mode, peaks in result["server_peak_mib"].items():
            text = ", ".join(f"K = {count}: {peak:.1f} MiB" for count, peak in peaks.items())
            print(f"server peak memory, {mode}: {text}")


def _on_one_thread() -> None:
    """Begin again where libraries would have started more."""
    if any(os.environ.get(name) != "1" for name in _THREADS):
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--values", type=int, default=SQUEEZENET)
    parser.add_argument("--hospitals", type=int, default=10)
    parser.add_argument("--large", action="store_true", help="also d = 11.2 M (ResNet-18)")
    parser.add_argument("--cpu", action="store_true", help="CPU time: for a busy machine")
    parser.add_argument(
        "--many", type=int, nargs="*", default=[], help="also so many hospitals: 100 1000"
    )
    parser.add_argument("--ahead", action="store_true", help="also what is made ahead of a vector")
    parser.add_argument("--memory", action="store_true", help="also peak memory by K")
    parser.add_argument("--seal-alone", action="store_true", help="also SEAL's own part of bfv")
    parser.add_argument("--memory-child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _on_one_thread()
    if options.memory_child:
        hospitals, values, mode = options.memory_child
        _memory_child(int(hospitals), int(values), mode)
        return
    keep_freed_memory()  # as hospitals do
    values, hospitals = options.values, options.hospitals
    clock = time.process_time if options.cpu else time.perf_counter
    layers = _squeezenet_layers() if values == SQUEEZENET else [values]
    variants = [("bfv", "symmetric", 13), ("bfv", "symmetric", 20), ("bfv", "public", 13)]
    variants += [("one-time", "auto", 13), ("one-time", "auto", 20), ("one-time", "auto", 13, 2)]
    variants += [("ckks", "symmetric", 20), ("modular", "auto", 13), ("plain", "auto", 13)]
    peers: list[Contender] = [Dopamine(), NvflareParameters(layers), Masks(values, hospitals)]
    ours = [Ours(*variant[:3], values, hospitals, *variant[3:]) for variant in variants]
    if importlib.util.find_spec("nvflare") is None:
        print("nvflare is not installed: its own classes are not measured")
    else:
        peers.append(NvflareClasses(layers))
    rows = _run([*peers, *ours], values, hospitals, options.repeats, clock)
    _show(rows, values, hospitals, Dopamine.name)
    result: dict[str, Any] = {
        "clock": "cpu" if options.cpu else "wall",
        "machine": {"python": platform.python_version(), "processor": platform.processor()},
        "command": "python benchmarks/sealing_cost.py " + " ".join(sys.argv[1:]),
        "tables": [_document(rows, values, hospitals)],
    }
    _more(options, result, hospitals, clock)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    _main()
