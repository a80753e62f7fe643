"""Flower's own simulation engine: a SuperLink of this run's own, and `flwr run` against it.

`flwr run` by itself leaves a SuperLink behind on a fixed port, for the next run. Here each run has
its own, on a free port of the loopback interface, with a folder of its own, and ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from clients.contract.terms import hospitals_expected
from simulations.app_folder import app_folder
from simulations.engines.local_server import held_port, wait_until_healthy
from strategies.run.reading import read_run

if TYPE_CHECKING:
    from clients.contract.settings import Settings


def simulate_on_flower(settings: Settings) -> bool:
    """Run a training on Flower's engine; its output goes to ``flower.log`` in the run folder.

    Returns:
        Whether the training finished; ``flwr run`` may exit with 0 though it failed.
    """
    out = Path(settings.run.out)
    with (
        tempfile.TemporaryDirectory(prefix="asclepias-flwr-") as home,
        (out / "flower.log").open("w", encoding="utf-8") as log,
    ):
        environment = _environment(Path(home))
        config = Path(home) / "run-config.toml"
        config.write_text(tomli_w.dumps(settings.to_config()), encoding="utf-8")
        with _superlink(environment, Path(home)):
            command = [
                "flwr", "run", str(app_folder()), "here", "--stream",
                "--run-config", str(config),
                "--federation-config", f"num-supernodes={hospitals_expected(settings)}",
            ]  # fmt: skip
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
        link_log = Path(home) / "superlink.log"
        if link_log.exists():
            log.write(link_log.read_text(encoding="utf-8"))
    return read_run(out).progress.status == "finished"


def _environment(home: Path) -> dict[str, str]:
    """Return this process's environment, with Flower's folder moved and its commands found."""
    scripts = str(Path(sys.executable).parent)
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_ADDRESS": "local",  # a Ray of its own, whatever else runs on the machine
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
    }


@contextmanager
def _superlink(environment: Mapping[str, str], home: Path) -> Iterator[None]:
    """Start a SuperLink for simulations, name it ``here`` in Flower's folder, and end it."""
    with held_port() as port:
        command = [
            "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess",
            "--host", "127.0.0.1", "--port", str(port),
            "--log-file", str(home / "superlink.log"),
        ]  # fmt: skip
        connection = {"superlink": {"here": {"address": f"127.0.0.1:{port}", "insecure": True}}}
        (home / "config.toml").write_text(tomli_w.dumps(connection), encoding="utf-8")
        executable = str(Path(sys.executable).with_name(command[0]))
        process = subprocess.Popen(
            [executable, *command[1:]],
            env=dict(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}", process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
