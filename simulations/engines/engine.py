"""Runs a training on this machine: on our own Ray engine, or on Flower's.

Both run the same two apps. `ray` hands messages straight to long-lived actors; `flower` asks
`flwr run` for it, as a user of Flower would. For a seed they end in the same model.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.contract.settings import Settings

logger = logging.getLogger(__name__)


class RunStopped(Exception):
    """A run ended before its last round; what was done is on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where and with what a simulation runs.

    Attributes:
        engine: ``ray`` or ``flower``.
        ray_address: an existing Ray cluster (``auto`` or ``host:port``); empty starts one here.
        actors: processes of hospitals; 0 means as many as the processors allow.
    """

    engine: str = "ray"
    ray_address: str = ""
    actors: int = 0


def simulate(settings: Settings, options: EngineOptions | None = None) -> None:
    """Run a training to its end, in this process.

    Args:
        settings: the run's settings; ``settings.run.out`` is the run folder.
        options: which engine, and with what.

    Raises:
        RunStopped: the run ended cleanly before its last round; the message says why.
        AuditFailed: what the run promised does not hold against an attack; its files say why.
        KeyboardInterrupt: after everything that was started has been ended.
    """
    options = options or EngineOptions()
    engines = {"ray": _simulate_on_ray, "flower": _simulate_on_flower}
    if options.engine not in engines:
        raise ValueError(f"unknown engine {options.engine!r}; known: {', '.join(engines)}")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    engines[options.engine](settings, options)


def _simulate_on_ray(settings: Settings, options: EngineOptions) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from flwr.supercore.run import Run

    from clients.contract.terms import hospitals_expected
    from simulations.engines.actors import start_actors
    from simulations.engines.local_transport import server_context
    from simulations.engines.ray_transport import RayTransport
    from simulations.run_audit import audit_run
    from strategies.errors import TrainingStopped
    from strategies.holdout import Holdout
    from strategies.server_app import make_server_app

    nodes = {secrets.randbits(62) + 2: k for k in range(hospitals_expected(settings))}
    run = Run.create_empty(secrets.randbits(62))
    config = settings.to_config()
    started_here = _start_ray(options)
    actors: list[Any] = []
    try:
        cpus = float(settings.run.threads)
        count = options.actors or _actors_that_fit(cpus, len(nodes))
        actors = start_actors(count, config, nodes, cpus=cpus)
        for actor in actors:
            actor.ready.remote()  # imports while this process prepares the server's side
        transport = RayTransport(actors, nodes, run)
        try:
            lead = make_server_app(Holdout, audit_run)
            lead(transport, server_context(run, config))
        finally:
            _report_memory(Path(settings.run.out), transport.peak_memory_bytes())
    except TrainingStopped as stopped:
        raise RunStopped(str(stopped)) from stopped
    finally:
        for actor in actors:
            ray.kill(actor)
        if started_here:
            ray.shutdown()


def _report_memory(folder: Path, hospitals_bytes: list[int]) -> None:
    """Add the most memory that each process has held to the run's summary, in MiB."""
    import json
    import resource

    from crypto.whole_file import write_shared

    file = folder / "summary.json"
    if not file.exists():
        return
    server = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    summary = json.loads(file.read_text(encoding="utf-8"))
    summary["peak_memory_mib"] = {
        "server": round(server / 2**20, 1),
        "hospital_processes": [round(size / 2**20, 1) for size in hospitals_bytes],
    }
    write_shared(file, json.dumps(summary, indent=2).encode() + b"\n", durable=False)


def _start_ray(options: EngineOptions) -> bool:
    import ray

    if ray.is_initialized():
        return False
    # Ray gives its processes way to all others; here they are the work, not the background.
    os.environ.setdefault("RAY_worker_niceness", "0")
    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": True,
    }
    if options.ray_address:
        ray.init(address=options.ray_address, **common)
    else:
        # Without an address Ray joins whatever cluster it finds on the machine, and waits for room.
        ray.init(address="local", include_dashboard=False, **common)
    return True


def _actors_that_fit(cpus: float, hospitals: int) -> int:
    import ray

    processors = ray.cluster_resources().get("CPU", 1)
    fit = int(processors // cpus)
    if fit < 1:
        raise RunStopped(
            f"no process of hospitals fits: each needs {cpus:g} processors, the machine has "
            f"{processors:g}. Lower run.threads."
        )
    return min(fit, hospitals)


def _simulate_on_flower(settings: Settings, options: EngineOptions) -> None:
    from simulations.engines.app_tracking import tracked
    from simulations.engines.flower_engine import simulate_on_flower
    from simulations.run_audit import audit_run

    # Flower's engine leads a training in a process of its own, which ends before the audit.
    with tracked(settings) as app_settings:
        if not simulate_on_flower(app_settings):
            raise RunStopped(f"Flower's engine ended without a result; read {settings.run.out}")
        if settings.audit.enabled:
            audit_run(Path(settings.run.out), lambda stage, done, total: None)
