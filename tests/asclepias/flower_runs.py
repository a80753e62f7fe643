"""Flower's own programs around an app: a SuperLink of its own, and SuperNodes where asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulations.engines.flower_engine import _environment, _superlink
from simulations.engines.local_server import held_port, wait_until_healthy

ROOT = Path(__file__).parents[2]


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[object]:
    """A process that ends with the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def deployed(environment: Mapping[str, str], home: Path, nodes: int) -> Iterator[None]:
    """A SuperLink and SuperNodes without TLS on this machine's loopback interface."""
    with ExitStack() as stack:
        port, config = stack.enter_context(held_port()), home / "config.toml"
        address = f"127.0.0.1:{port}"
        config.write_text(f'[superlink.here]\naddress = "{address}"\ninsecure = true\n')
        link = [
            program("flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(port)
        ]  # fmt: skip
        process = stack.enter_context(running(link, environment, home / "superlink.log"))
        wait_until_healthy(f"http://{address}", process)  # type: ignore[arg-type]
        for number in range(nodes):
            node = [
                program("flower-supernode"), "--insecure", "--superlink", address,
                "--node-config", f"partition-id={number} num-partitions={nodes}",
                "--host", "127.0.0.1", "--port", str(stack.enter_context(held_port())),
            ]  # fmt: skip
            stack.enter_context(running(node, environment, home / f"node-{number}.log"))
        yield


def run_app(app: Path, home: Path, *options: str, supernodes: int = 0) -> str:
    """Run an app by `flwr run`; returns what it printed.

    Args:
        app: its folder.
        home: a folder for Flower and for what the app leaves.
        options: of `flwr run`.
        supernodes: how many there are; 0: Flower's simulation engine, with three nodes.
    """
    environment = dict(_environment(home))
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home / "cache")}
    command = [program("flwr"), "run", str(app), "here", "--stream", *options]
    around = (
        deployed(environment, home, supernodes) if supernodes else _superlink(environment, home)
    )
    if not supernodes:
        command += ["--federation-config", "num-supernodes=3"]
    with around:
        done = subprocess.run(
            command,
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    logs = [log.read_text()[-3000:] for log in sorted(home.glob("*.log"))]
    return "\n".join([done.stdout, done.stderr, *logs])
