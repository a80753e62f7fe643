"""The version, from the one place where it is written: `pyproject.toml`, or a wheel built of it."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path


def read_version() -> str:
    """Return the version of these sources, or of the wheel that they were installed from."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if table.get("name") == "asclepias":
            return str(table["version"])
    return version("asclepias")
