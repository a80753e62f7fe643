"""What the literature's attacks reach in each regime, beside what theory allows.

    python benchmarks/attacks.py [--only CASE] [--out docs/measured/attacks.json]

Each case is what ``flower-simulation attack`` finds of it. Cases that are not carried out, because
their data are not here or others were asked for, stay as they were measured before.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from attack_tables import CASES, Case  # noqa: E402  (after the path is set)
from needed_data import data_or_exit  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "attacks.json"


def carry_out(case: Case) -> dict[str, Any]:
    """Attack as the command line does, and return what was found, without pictures."""
    from simulations.cli import app

    with tempfile.TemporaryDirectory() as out, data_or_exit():
        app([*case.command, "--out", out], prog_name="flower-simulation", standalone_mode=False)
        (file,) = Path(out).glob("*/attacks.json")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))[case.attack]
    del found["drawn"]
    return {**found, "command": shlex.join(["flower-simulation", *case.command])}


def main() -> None:
    """Carry out the cases and keep what they found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=list(CASES), help="one case")
    parser.add_argument("--out", type=Path, default=MEASURED)
    options = parser.parse_args()
    for name in [options.only] if options.only else CASES:
        print(name, flush=True)
        found = carry_out(CASES[name])
        known = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
        text = json.dumps({**known, name: found}, indent=2)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
