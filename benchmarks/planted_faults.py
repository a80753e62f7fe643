"""Plants faults in the pipeline, one by one, and lists which detector sees each; docs/audit.md.

python benchmarks/planted_faults.py [--only WORDS] [--quick]

Every fault is a small patch of the running code (tests/audit/). Detectors see what left hospitals
and what their ledgers say; a row ends once those have seen a fault that are named for it, and rows
are kept as they come.
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
from tests.audit.beside_faults import BESIDE  # noqa: E402
from tests.audit.blind_faults import BLIND  # noqa: E402
from tests.audit.faults import AUDIT, Fault, planted  # noqa: E402
from tests.audit.fifth_faults import FIFTH  # noqa: E402
from tests.audit.fresh_faults import FRESH  # noqa: E402
from tests.audit.later_faults import LATER  # noqa: E402
from tests.audit.part_faults import PARTS  # noqa: E402
from tests.audit.planted import FAULTS  # noqa: E402
from tests.audit.seventh_faults import SEVENTH  # noqa: E402
from tests.audit.sixth_faults import SIXTH  # noqa: E402
from tests.audit.unseen import UNSEEN  # noqa: E402

#: Faults by when they were planted: detectors were made with the first, and not with the others.
SETS = {
    "known": FAULTS,
    "unseen": UNSEEN,
    "fresh": FRESH,
    "later": LATER,
    "blind": BLIND,
    "fifth": FIFTH,
    "sixth": SIXTH,
    "seventh": SEVENTH,
    "parts": PARTS,
    "beside": BESIDE,
}
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


def _write(found: dict[str, Any]) -> None:
    MEASURED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Plant every fault; fail if one is missed, or if the code as it is does not pass."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="renew the rows whose name holds these words")
    parser.add_argument("--quick", action="store_true", help="the audit of 'audit --data', longer")
    options = parser.parse_args()
    form = QUICK if options.quick else SMALL
    order = ["", *(fault.name for faults in SETS.values() for fault in faults)]
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    rows = {row["fault"]: row for row in known.get("rows", []) if row["fault"] in order}
    chosen = [(name, fault) for name, faults in SETS.items() for fault in faults]
    wrong = 0
    for name, fault in [*([] if options.only else [("", None)]), *chosen]:
        if fault is not None and options.only not in fault.name:
            continue
        row = {"set": name, **detect(fault, form)}
        wrong += bool(row["wrong"])
        rows[row["fault"]] = row
        print(f"{'WRONG: ' if row['wrong'] else ''}{_said(row)}", flush=True)
        # As they come: what is measured is kept, whatever ends the run.
        known["rows"] = [rows[one] for one in order if one in rows]
        _write({"canaries": form.canaries, "sizes": [], **known})
    if not options.only:
        command = "python benchmarks/planted_faults.py" + " --quick" * options.quick
        _write({**known, "command": command, "canaries": form.canaries, "sizes": sizes()})
    print(f"{len(rows) - 1} faults, {wrong} rows that are not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
