"""Plants faults in the pipeline, one by one, and lists which detector sees each; docs/audit.md.

python benchmarks/planted_faults.py [--only WORDS] [--quick]

Every fault is a small patch of the running code (tests/audit/planted.py). Detectors see what left
hospitals and what their ledgers say; a row ends once those have seen a fault that are named for it.
The code as it is comes first and must pass them all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from simulations.audit.data_audit import DATA, RECONCILIATION, DataAudit, audit_data  # noqa: E402
from simulations.audit.gates import END  # noqa: E402
from simulations.audit.plans import QUICK, SMALL, Form  # noqa: E402
from simulations.audit.results import sentence  # noqa: E402
from simulations.launch import logging_to  # noqa: E402
from simulations.run_audit import attack, planned_run  # noqa: E402
from simulations.scenario import find_scenario, resolve  # noqa: E402
from tests.audit.faults import AUDIT, Fault, planted  # noqa: E402
from tests.audit.planted import FAULTS  # noqa: E402

#: Canaries of the audit of a run, to see how many a tenth less noise takes.
SIZES = (500, 2_000, 10_000, 50_000)
MEASURED = ROOT / "docs" / "measured" / "planted_faults.json"


def detect(fault: Fault | None, form: Form) -> dict[str, Any]:
    """Return what each detector says of the code with a fault in it, or as it is.

    Returns:
        The fault's name, and by detector how many gates shut and what the first of them found.
    """
    expected = {one for one in fault.caught_by if one != AUDIT} if fault else {"all"}

    def enough(audit: DataAudit) -> bool:
        return expected <= {one.detector for one in audit.shut}

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        log = Path(folder) / "audit.log"
        with (
            logging_to(log, "info", terminal=False),
            planted(fault) if fault else nullcontext(),
        ):
            audit = audit_data(Path(folder) / "audit", form, enough=enough)
            detectors = {AUDIT: attacked()}
    for name in (DATA, RECONCILIATION):
        shut = sorted((one for one in audit.shut if one.detector == name), key=_oddness)
        detectors[name] = {
            "shut": len(shut),
            "gate": shut[0].gate.name if shut else "",
            "found": sentence(shut[0]) if shut else "",
        }
    named = set(fault.caught_by) if fault else set()
    seen = {name for name, one in detectors.items() if one["shut"]}
    return {
        "fault": fault.name if fault else "",
        "gates": len(audit.found),
        "detectors": detectors,
        "wrong": sorted(named - seen if fault else seen),
        "seconds": round(time.perf_counter() - started, 1),
    }


def attacked(*assignments: str) -> dict[str, Any]:
    """Return what the audit that comes with every run says, of the scenario `default`."""
    settings = resolve(find_scenario("default"), assignments, {})
    audit = attack(settings, planned_run(settings), lambda *_: None).audit
    bounds = [f"the {name} bound" for one in audit.findings for name in one.refuted_by]
    gates = sorted((one for one in audit.gates if not one.open(audit.error)), key=_chance)
    return {
        "shut": len(audit.failures),
        "gate": gates[0].name if gates else (bounds or [""])[0],
        "found": (audit.failures or [""])[0],
        "bounds": len(bounds),
    }


def sizes() -> list[dict[str, Any]]:
    """Return what the audit of a run says of a tenth less noise, by its number of canaries."""
    [fault] = [one for one in FAULTS if one.name == "a tenth less noise"]
    rows = []
    for count in SIZES:
        with planted(fault):
            found = attacked(f"audit.canaries={count}")
        rows.append({"canaries": count, **found})
        print(f"{count} canaries: {found['bounds']} bounds, {found['shut']} in all", flush=True)
    return rows


def _chance(gate: Any) -> float:
    return float(gate.chance)


def _oddness(found: Any) -> tuple[float, bool]:
    """Order gates by chance; that a training did not end says less than why."""
    return float(found.gate.chance), found.gate.name == END


def _said(row: Mapping[str, Any]) -> str:
    cells = [
        f"{name}: {one['shut']} ({one['gate']})" if one["shut"] else f"{name}: -"
        for name, one in row["detectors"].items()
    ]
    return f"{row['fault'] or 'the code as it is'}: {'; '.join(cells)}"


def main() -> int:
    """Plant every fault; fail if one is missed, or if the code as it is does not pass."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="renew the rows whose name holds these words")
    parser.add_argument("--quick", action="store_true", help="the audit of 'audit --data', longer")
    options = parser.parse_args()
    form = QUICK if options.quick else SMALL
    chosen: list[Fault | None] = [one for one in FAULTS if options.only in one.name]
    rows, missed = [], 0
    for fault in chosen if options.only else [None, *chosen]:
        row = detect(fault, form)
        missed += bool(row["wrong"])
        rows.append(row)
        print(f"{'WRONG: ' if row['wrong'] else ''}{_said(row)}", flush=True)
    if options.only:
        found = json.loads(MEASURED.read_text(encoding="utf-8"))
        new = {row["fault"]: row for row in rows}
        found["rows"] = [new.get(row["fault"], row) for row in found["rows"]]
    else:
        command = "python benchmarks/planted_faults.py" + " --quick" * options.quick
        found = {"command": command, "canaries": form.canaries, "rows": rows, "sizes": sizes()}
    MEASURED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{len(chosen)} faults, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
