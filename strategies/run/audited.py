"""An audit in a run folder: what it starts from, and where its findings go.

`privacy.json` gets a bound beside every claim that was attacked, `summary.json` says whether the
run passed, and only one that did is called audited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accounting.errors import AuditFailed
from accounting.grid import GridPlan
from clients.contract.description import describe_run
from strategies.run.folder import RunFolder
from strategies.run.reading import NoRun, read_settings

if TYPE_CHECKING:
    from accounting.audit_findings import Audit
    from accounting.runs import RunDescription
    from clients.contract.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Audited:
    """An audit and what it took.

    Attributes:
        audit: what was found.
        canaries: made-up patients of one hospital.
        rounds: in which they might be sampled.
        sealed_rounds: of them, those whose updates were really sealed and opened.
        seconds: of processor time.
    """

    audit: Audit
    canaries: int
    rounds: int
    sealed_rounds: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "canaries": self.canaries,
            "rounds": self.rounds,
            "sealed_rounds": self.sealed_rounds,
            "seconds": round(self.seconds, 2),
            **self.audit.to_json(),
        }


def run_to_audit(path: Path) -> tuple[Settings, RunDescription]:
    """Return what an ended run was told, and what it claims.

    Raises:
        NoRun: the folder holds no run that has ended.
    """
    settings = read_settings(path)
    file = path / "privacy.json"
    if not file.is_file():
        raise NoRun(f"{path} holds no privacy.json: only a run that has ended can be audited.")
    privacy = json.loads(file.read_bytes())
    if "grid" not in privacy:
        raise NoRun(f"{file} is of a version that did not write the grid; run the training anew.")
    grid = GridPlan.from_json(privacy["grid"]) if privacy["grid"] else None
    return settings, describe_run(
        settings,
        noise_multiplier=privacy["noise_multiplier"],
        spent=privacy["rounds_spent"],
        grid=grid,
    )


def add_audit(path: Path, found: Audited) -> None:
    """Write what an audit of a run found into the run's files.

    Raises:
        AuditFailed: the run does not hold what it promised; written first.
    """
    folder, audit = RunFolder(path), found.audit
    shown = {
        name: {"epsilon": finding.bounds[0].value, "error": finding.bounds[0].error}
        for finding in audit.findings
        for name in finding.observers
    }
    audited = bool(audit.findings) and audit.passed
    privacy = json.loads((path / "privacy.json").read_bytes())
    for row in privacy["observers"]:
        row["audit"] = shown.get(row["observer"])
    folder.write_json("privacy.json", {**privacy, "audited": audited, "audit": found.to_json()})
    file = path / "summary.json"
    summary: Mapping[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    short = {
        "audited": audited,
        "audit": {
            "passed": audit.passed,
            "failures": audit.failures,
            "canaries": found.canaries,
            "seconds": round(found.seconds, 2),
            "epsilon_at_least": {name: one["epsilon"] for name, one in shown.items()},
        },
    }
    status = {} if audit.passed else {"status": "failed"}
    folder.write_json("summary.json", {**summary, **short, **status})
    try:
        audit.require()
    except AuditFailed as failed:
        where = path / "privacy.json"
        raise AuditFailed(f'{failed}. All that was found is in {where} under "audit"') from None
