"""Writes the measured tables of README and docs from what the measuring commands left on disk.

    python benchmarks/write_tables.py [--run RUN] [--check]

A block ``<!-- measured: NAME -->`` ... ``<!-- end -->`` of a page is replaced by the table of that
name. Sources are the JSON files in ``docs/measured/`` and, with ``--run``, a run folder whose end
tables become ``docs/measured/default.txt``. ``--check`` writes nothing and fails if a page is not
what its sources say.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
MEASURED = ROOT / "docs" / "measured"
PAGES = (
    "README.md",
    "docs/performance.md",
    "docs/audit.md",
    "docs/prediction.md",
    "docs/private-inference.md",
    "docs/data.md",
    "docs/attacks.md",
    "docs/flower-app.md",
    "docs/tasks.md",
)
BLOCK = re.compile(r"(<!-- measured: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def default_output() -> str:
    """Return the end tables of the default scenario, as `make simulate` prints them."""
    return "```text\n" + (MEASURED / "default.txt").read_text(encoding="utf-8") + "```\n"


def sealing_table() -> str:
    """Return the cost of sealing beside its peers."""
    found = _read("sealing_cost.json")
    parts = [_sealing_rows(table) for table in found["tables"]]
    memory = [
        [mode, *(f"{mib:.1f}" for mib in by_hospitals.values())]
        for mode, by_hospitals in found.get("server_peak_mib", {}).items()
    ]
    if memory:
        counts = next(iter(found["server_peak_mib"].values()))
        head = ["server's peak memory, MiB", *(f"K = {count}" for count in counts)]
        parts.append(_rows(head, memory))
    return "\n".join([*parts, f"Measured by `{found['command']}`.\n"])


def _sealing_rows(table: dict[str, Any]) -> str:
    peers = [row for row in table["rows"] if row["path"].startswith("Dopamine")]
    first = (peers or table["rows"])[0]
    reference = first["whole_ms"]
    against = "Dopamine's way" if peers else first["path"].removeprefix("ours: ")
    rows = [
        [
            row["path"],
            f"{row['seal_ms']:.0f}",
            f"{row['server_ms']:.0f}",
            f"{row['open_ms']:.0f}",
            f"{reference / row['whole_ms']:.2g}",
            f"{row['up_bytes'] / (4 * table['values']):.2f}",
        ]
        for row in table["rows"]
    ]
    named = f"d = {table['values']:,}, K = {table['hospitals']}"
    head = [named, "seal ms", "server ms", "open ms", f"speed / {against}", "up / float32"]
    return _rows(head, rows)


def engine_table() -> str:
    """Return the cost of a simulated round beside its peers."""
    peers = ("bare loop", "bare loop, memory kept", "pfl-research", "stock Flower")
    rows = []
    for hospitals, measures in _read("engine_cost.json").items():
        if not hospitals.isdigit():
            continue
        for name, measure in measures.items():
            medians = measure["median_seconds"]
            ours = medians["ours"]
            cells = [f"{medians[p] / ours:.2f}" if p in medians else "-" for p in peers]
            named = f"{name.replace('_', ' ')}, K = {hospitals}"
            rows.append([named, f"{ours * 1000:.0f}", *cells])
    return _rows(["round", "ours ms", *(f"{peer} / ours" for peer in peers)], rows)


def sealed_table() -> str:
    """Return what sealing adds to a round of the whole app, and where a round's time goes."""
    found, phases = _read("engine_cost.json")["sealed"], import_module("device_tables").PHASES
    medians, runs = found["median_seconds"], found["runs"]
    unsealed = medians["modular"]
    rows = [
        [scheme, *(f"{run['phases_median'].get(name, 0.0):.4f}" for name in phases)]
        for scheme, (run, *_) in runs.items()
    ]
    sealed = [(scheme, median) for scheme, median in medians.items() if scheme != "modular"]
    ratios = ", ".join(f"{m / unsealed:.2f} times ({m:.2f} s) under `{name}`" for name, m in sealed)
    said = f"An unsealed round takes {unsealed:.2f} s, a sealed one {ratios}.\n\n"
    return said + _rows(["a hospital's seconds by phase", *phases], rows)


def scale_table() -> str:
    """Return seconds and memory per hospital as their number grows."""
    rows = []
    for count, row in _read("engine_cost.json")["scale"].items():
        memory = sum(row["peak_memory_mib"]["hospital_processes"])
        each = row["round_median"] / int(count) * 1000
        server = row["peak_memory_mib"]["server"]
        rows.append([f"K = {count}", f"{each:.1f}", f"{memory:.0f}", f"{server:.0f}"])
    head = ["hospitals", "ms per hospital and round", "hospitals' processes, MiB", "server, MiB"]
    return _rows(head, rows)


def deployed_table() -> str:
    """Return what a round of a real local deployment takes, beside Flower's SuperNode."""
    found = _read("deployed_round.json")["nodes"]
    torch = found["torch_import_seconds"]
    rows = []
    for name, node in found["nodes"].items():
        seconds = node["round_seconds"]
        start = statistics.median(node["start_seconds"])
        # A forked process has torch already; a stock one imports it first.
        own = start - torch if name == "flower-supernode" else start
        rows.append(
            [
                f"`{name}`",
                *(f"{value:.2f}" for value in (statistics.median(seconds), min(seconds))),
                f"{max(seconds):.2f}",
                f"{sum(node['phases_median'].values()):.2f}",
                f"{own:.2f}",
                f"{node['load_before']:.1f} to {node['load_after']:.1f}",
            ]
        )
    head = ["seconds", "a round", "least", "most", "work in it", "process to first work", "load"]
    count = len(found["nodes"]["asclepias supernode"]["round_seconds"])
    said = (
        f"{count} rounds each with {found['hospitals']} hospitals on {found['processors']} "
        f"processors, by `{found['command']}`. `{head[5]}` leaves out torch's own import "
        f"({torch:.1f} s); with stock SuperNodes it includes that of flwr-datasets, which stand-in "
        "hospitals of a benchmark need and real ones do not.\n"
    )
    return "\n".join([_rows(head, rows), said])


def deployed_schemes() -> str:
    """Return what a round of a real local deployment takes for each way of sealing."""
    found = _read("deployed_round.json")["schemes"]
    base = statistics.median(found["schemes"]["bfv"]["round_seconds"])
    rows = []
    for name, run in found["schemes"].items():
        seconds = run["round_seconds"]
        median, target = statistics.median(seconds), found["targets"][name]
        rows.append(
            [
                name,
                *(f"{value:.2f}" for value in (median, min(seconds), max(seconds))),
                f"{median / base:.2f}",
                f"{target:.2f}" if target else "",
                f"{sum(run['phases_median'].values()):.2f}",
                f"{run['load_before']:.1f} to {run['load_after']:.1f}",
            ]
        )
    head = ["sealing", "a round, s", "least", "most", "of bfv", "at most", "work in it, s", "load"]
    count = len(found["schemes"]["bfv"]["round_seconds"])
    said = (
        f"{count} rounds each with {found['hospitals']} hospitals on {found['processors']} "
        f"processors, by `{found['command']}`.\n"
    )
    return "\n".join([_rows(head, rows), said])


def many_rounds() -> str:
    """Return what many rounds of the default scenario take, start and reports included."""
    found = _read("engine_cost.json")["default"]
    median = 1000 * found["round_median"]
    return f"{found['rounds']:,} rounds: {found['seconds']:.0f} s, {median:.0f} ms per round.\n"


def audit_table() -> str:
    """Return how often bounds of audits are above their claims, and how close they are."""
    found = _read("audit.json")
    head = ["claim", "observer"]
    rows = []
    for measured in found["claims"].values():
        for observer in measured["observers"]:
            bounds = observer["bounds"]
            rows.append(
                [
                    f"{observer['claim']:.3g}",
                    ", ".join(observer["observers"]),
                    *(
                        text
                        for bound in bounds.values()
                        for text in (f"{bound['median']:.2f}", f"{100 * bound['above']:.1f}%")
                    ),
                ]
            )
    names = list(next(iter(found["claims"].values()))["observers"][0]["bounds"])
    head += [text for name in names for text in (f"{name}: of the claim", "above")]
    sizes = "; ".join(
        f"epsilon {claim}: {one['audits']} audits with {one['canaries']:,} canaries, "
        f"{one['seconds']:.1f} s of a processor each, {one['failed']} failed"
        for claim, one in found["claims"].items()
    )
    return _rows(head, rows) + f"\n{sizes}. Measured by `{found['command']}`.\n"


def own_calibration() -> str:
    """Return at how many hospitals sets hold the truth, by the pooled threshold and their own."""
    found = _read("own_calibration.json")
    rows = []
    for row in found["rows"]:
        pooled, own = row["pooled"], row["own"]
        rows.append(
            [
                f"{row['data']}, {row['model']}: by {row['split']}",
                str(pooled["covered"]),
                f"{min(own['covered'])} to {max(own['covered'])}",
                *(f"{one['least']:.3f}" for one in (pooled, own)),
                *(f"{one['size']:.2f}" for one in (pooled, own)),
            ]
        )
    head = [
        f"{found['hospitals']} hospitals",
        "covered: pooled",
        "own",
        "least coverage: pooled",
        "own",
        "classes in a set: pooled",
        "own",
    ]
    said = (
        f"Covered: sets hold the truth of at least {found['coverage']:.0%} of the hospital's "
        f"population. Each hospital calibrates on {found['patients']} patients, "
        f"{found['repeats']} times over, with {found['confidence']:.0%} confidence. Measured by "
        f"`{found['command']}`.\n"
    )
    return _rows(head, rows) + "\n" + said


def planted_faults() -> str:
    """Return which detector sees which planted fault, and by what."""
    from fault_tables import fault_table

    return fault_table(_read("planted_faults.json"), _rows)


def over_seeds(name: str) -> str:
    """Return what a benchmark measured over fresh seeds, by its own layout.

    Args:
        name: of the benchmark, and of what it has left in ``docs/measured``.
    """
    head, rows, said = import_module(name).page_rows(_read(f"{name}.json"))
    return _rows(head, rows) + "\n" + said


def private(name: str) -> str:
    """Return what private predictions cost and how right they are, or what a copy is worth."""
    from private_tables import PAGES

    return PAGES[name](_read(f"{name.replace('-', '_')}.json"), _rows)


def device_table() -> str:
    """Return what a private step and a sealed round cost on a GPU."""
    from device_tables import device_tables

    return device_tables(_read("device_rounds.json"), _rows)


def attacks(name: str) -> str:
    """Return what an attack reached, beside what theory allows."""
    from attack_tables import attack_table

    return attack_table(name, _read, _rows)


def robust_groups() -> str:
    """Return what one hospital that lies costs, in one sum of all and in sums of groups."""
    from robust_groups import robust_groups_table

    return robust_groups_table(_read("robust_groups.json"), _rows)


def private_step() -> str:
    """Return what a private step costs over a plain one: time, and the peak of tensors' memory."""
    from device_tables import private_step_tables

    return private_step_tables(_read("private_step.json"), _rows)


def quickstart_peers() -> str:
    """Return what making Flower's quickstart private takes, with ours and with peers."""
    from quickstart_tables import peers_table

    return peers_table(_read("quickstart_peers.json"), _rows)


def _read(name: str) -> Any:
    return json.loads((MEASURED / name).read_text(encoding="utf-8"))


TABLES: dict[str, Callable[[], str]] = {
    "default-output": default_output,
    "sealing": sealing_table,
    "engine": engine_table,
    "start": lambda: import_module("start_cost").start_text(_read("start_cost.json")),
    "sealed": sealed_table,
    "scale": scale_table,
    "many-rounds": many_rounds,
    "deployed": deployed_table,
    "deployed-schemes": deployed_schemes,
    "audit": audit_table,
    "planted-faults": planted_faults,
    "own-calibration": own_calibration,
    "private-inference": lambda: private("private-inference"),
    "model-copy": lambda: private("model-copy"),
    "uneven-table": lambda: over_seeds("uneven_table"),
    "tasks": lambda: over_seeds("task_rows"),
    "device": device_table,
    "private-step": private_step,
    "robust-groups": robust_groups,
    "quickstart-peers": quickstart_peers,
}


def keep_run(run: Path) -> None:
    """Keep the end tables of a run as text, exactly as they are printed."""
    from rich.console import Console

    from simulations.pages.tables import WIDTH, observer_table, summary_table
    from strategies.run.reading import read_run

    found = read_run(run)
    console = Console(file=StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    console.print(summary_table(found.summary))
    console.print(observer_table(found.privacy["observers"], found.privacy["unit"]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in text.splitlines()]
    MEASURED.mkdir(parents=True, exist_ok=True)
    (MEASURED / "default.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def written(page: str) -> str:
    """Return a page's text with every block replaced."""

    def block(match: re.Match[str]) -> str:
        try:
            name = match["name"]
            table = attacks(name) if name.startswith("attack-") else TABLES[name]()
        except (FileNotFoundError, KeyError):
            table = "Not measured yet.\n"
        return match[1] + table + match[3]

    return BLOCK.sub(block, page)


def main() -> int:
    """Rewrite the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, help="run folder of the default scenario")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    options = parser.parse_args()
    if options.run:
        keep_run(options.run)
    stale = []
    for name in PAGES:
        path = ROOT / name
        if not path.exists():
            continue
        before = path.read_text(encoding="utf-8")
        after = written(before)
        if after != before:
            stale.append(name)
            if not options.check:
                path.write_text(after, encoding="utf-8")
    print(f"{'out of date' if options.check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
