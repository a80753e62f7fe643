"""The pages say what their sources say: nobody typed a number into a generated table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "write_tables.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_measured_tables_are_those_of_their_sources() -> None:
    result = check(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_typed_number_is_noticed(tmp_path: Path) -> None:
    for name in ("README.md", "benchmarks/write_tables.py", "docs/measured/default.txt"):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    page = tmp_path / "README.md"
    text = page.read_text(encoding="utf-8")
    assert " accuracy " in text
    page.write_text(text.replace(" accuracy ", " Accuracy ", 1), encoding="utf-8")
    assert check(tmp_path).returncode == 1
