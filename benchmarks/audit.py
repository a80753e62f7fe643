"""Whether the audit's bounds hold and are tight: hundreds of audits of what is claimed.

    python benchmarks/audit.py [--audits 200] [--claims 0.3,1,3,8] [--set KEY=VALUE]

Each audit attacks the default scenario's terms at a target epsilon, by unmodified code. Of the
bounds at 95%, at most one in twenty may be above its claim but for chance, for every observer; the
goal for the shown one is 0.85 of the claim in the median, 0.75 at epsilon 0.3. Results go to
``docs/measured/audit.json`` as they come, and from there into ``docs/audit.md`` by
``benchmarks/write_tables.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from accounting.audit_findings import Finding

#: Audits after which what was found so far is written.
KEPT_EVERY = 10
FILE = ROOT / "docs" / "measured" / "audit.json"


def measure(claim: float, audits: int, assignments: list[str]) -> Iterator[dict[str, Any]]:
    """Audit one claim again and again; yield what was found so far, now and then."""
    from clients.audit.conduct import carry_out
    from simulations.run_audit import planned_run
    from simulations.scenario import find_scenario, resolve

    words = [f"privacy.target-epsilon={claim}", *assignments]
    settings = resolve(find_scenario("default"), words, {})
    run = planned_run(settings)
    findings: list[tuple[Finding, ...]] = []
    seconds, failed = [], 0
    for number in range(1, audits + 1):
        started = time.process_time()
        audit, plan = carry_out(settings, run)
        seconds.append(time.process_time() - started)
        findings.append(audit.findings)
        failed += not audit.passed
        _say(f"epsilon {claim:g}: audit {number} of {audits}, {failed} failed")
        if number % KEPT_EVERY == 0 or number == audits:
            rows = [_row([one[place] for one in findings]) for place in range(len(findings[0]))]
            yield {
                "audits": number,
                "canaries": plan.canaries[1],
                "failed": failed,
                "seconds": round(statistics.median(seconds), 2),
                "observers": rows,
            }


def _row(found: list[Finding]) -> dict[str, Any]:
    """What all audits found of one sight."""
    bounds = {}
    for place, bound in enumerate(found[0].bounds):
        ratios = [one.bounds[place].value / one.claim for one in found]
        bounds[bound.name] = {
            "median": round(statistics.median(ratios), 3),
            "above": sum(ratio > 1.0 for ratio in ratios) / len(ratios),
        }
    return {"observers": list(found[0].observers), "claim": found[0].claim, "bounds": bounds}


def _say(text: str) -> None:
    sys.stderr.write(f"\r{text}   ")
    sys.stderr.flush()


def _keep(file: Path, claim: float, found: dict[str, Any]) -> None:
    """Write what was found of one claim beside what is known of the others."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"claims": {}}
    claims = {**known["claims"], f"{claim:g}": found}
    known["claims"] = dict(sorted(claims.items(), key=lambda one: float(one[0])))
    known["command"] = "python benchmarks/audit.py"
    file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, and write as results come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--claims", default="0.3,1,3,8")
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    parser.add_argument("--json", type=Path, default=FILE)
    given = parser.parse_args()
    for claim in map(float, given.claims.split(",")):
        for found in measure(claim, given.audits, given.assignments):
            _keep(given.json, claim, found)
    _say("written\n")


if __name__ == "__main__":
    main()
