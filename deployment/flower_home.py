"""Flower's own surroundings: its folder, its environment, its commands.

Each SuperLink and each hospital has a Flower folder of its own, so that several live on one
machine. Installing an app's dependencies at run time is off: what runs at a hospital is what its
engineer installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import tomli_w

#: Name of the consortium's SuperLink in Flower's own configuration.
CONNECTION = "consortium"


def environment(home: Path, *, threads: int = 1) -> dict[str, str]:
    """Return this process's environment, with Flower's folder moved and its commands found."""
    scripts = str(Path(sys.executable).parent)
    native = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {
        **os.environ,
        **native,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def write_connection(home: Path, *, address: str, authority: Path) -> Mapping[str, str]:
    """Name a SuperLink in a Flower folder and return the environment for Flower's commands."""
    home.mkdir(parents=True, exist_ok=True)
    content = {
        "superlink": {
            "default": CONNECTION,
            CONNECTION: {"address": address, "root-certificates": str(authority)},
        }
    }
    (home / "config.toml").write_text(tomli_w.dumps(content), encoding="utf-8")
    return environment(home)


def command(name: str) -> str:
    """Return the path of one of Flower's commands, installed beside this Python."""
    return str(Path(sys.executable).with_name(name))
