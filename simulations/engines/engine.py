"""Runs a training on this machine: on our own Ray engine, or on Flower's.

Both run the same two apps. `ray` hands messages straight to long-lived actors; `flower` asks
`flwr run` for it, as a user of Flower would. For a seed they end in the same model.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohorts
    from simulations.engines.actors import Crew
    from simulations.engines.audit_beside import AuditBeside
    from strategies.holdout import Holdout


logger = logging.getLogger(__name__)

#: What takes long to import: before the first round, and while rounds wait for hospitals.
LIBRARIES = ("simulations.engines.actors", "strategies.holdout", "strategies.server_app")
LATER = ("sklearn.metrics", "accounting.audit_findings")


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


def simulate(
    settings: Settings, options: EngineOptions | None = None, cohorts: Cohorts | None = None
) -> None:
    """Run a training to its end, in this process.

    Args:
        settings: the run's settings; ``settings.run.out`` is the run folder.
        options: which engine, and with what.
        cohorts: what has been read of the data already, for an engine whose server is this process.

    Raises:
        NotStarted: there is no Ray to run on.
        RunStopped: the run ended cleanly before its last round; the message says why.
        AuditFailed: what the run promised does not hold against an attack; its files say why.
        KeyboardInterrupt: after everything that was started has been ended.
    """
    options = options or EngineOptions()
    engines = {"ray": _simulate_on_ray, "flower": _simulate_on_flower}
    if options.engine not in engines:
        raise ValueError(f"unknown engine {options.engine!r}; known: {', '.join(engines)}")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    engines[options.engine](settings, options, cohorts)


def _simulate_on_ray(settings: Settings, options: EngineOptions, cohorts: Cohorts | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    from simulations.engines.importing import importing
    from simulations.engines.ray_cluster import start_ray

    with ExitStack() as ending:
        with importing(), ThreadPoolExecutor(1) as pool:
            # Ray starts in the main thread: what signals mean cannot be put right from another.
            imported = pool.submit(_import, LIBRARIES)
            if start_ray(options.ray_address):
                ending.callback(ray.shutdown)
            # Hospitals' processes import theirs as soon as they can.
            crew = _begin_hospitals(settings, options, cohorts)
            ending.callback(crew.end)
            audit = ending.enter_context(closing(_begin_audit(settings, cohorts)))
            imported.result()
        _train_on_ray(settings, cohorts, crew, audit)


def _import(names: Iterable[str]) -> None:
    for name in names:
        import_module(name)


def _begin_hospitals(settings: Settings, options: EngineOptions, cohorts: Cohorts | None) -> Crew:
    """Begin the processes of hospitals.

    Raises:
        NotStarted: there is no room for them, or no such device.
    """
    from clients.contract.terms import hospitals_expected
    from simulations.engines.actors import Crew
    from simulations.engines.device_room import find_room

    nodes = {secrets.randbits(62) + 2: k for k in range(hospitals_expected(settings))}
    room = find_room(settings, cohorts, len(nodes), options.actors)
    deals = cohorts.deals if cohorts else None
    return Crew(room, settings.to_config(), nodes, cpus=float(settings.run.threads), deals=deals)


def _begin_audit(settings: Settings, cohorts: Cohorts | None) -> AuditBeside:
    from simulations.engines.audit_beside import AuditBeside

    return AuditBeside(settings, cohorts.of(settings).outline if cohorts else None)


def _train_on_ray(
    settings: Settings, cohorts: Cohorts | None, crew: Crew, audit: AuditBeside
) -> None:
    from flwr.supercore.run import Run

    from simulations.engines.local_transport import server_context
    from simulations.engines.ray_cluster import where_to_look
    from simulations.engines.ray_transport import RayTransport
    from strategies.errors import TrainingStopped
    from strategies.server_app import make_server_app

    run, room = Run.create_empty(secrets.randbits(62)), crew.room
    _report_devices(Path(settings.run.out), crew.devices())
    transport = RayTransport(
        crew,
        crew.nodes,
        run,
        together=room.together,
        processors=room.processors.count if room.processors else 0,
    )
    try:
        lead = make_server_app(partial(_open_holdout, cohorts), audit)
        lead(transport, server_context(run, settings.to_config()))
    except TrainingStopped as stopped:
        if crew.has_begun():
            raise RunStopped(str(stopped)) from stopped
        none = f"No process of hospitals had started; {where_to_look()}."
        raise RunStopped(f"{stopped} {none}") from stopped
    finally:
        _report_memory(Path(settings.run.out), transport.peak_memory_bytes())


def _open_holdout(cohorts: Cohorts | None, settings: Settings) -> Holdout:
    """Open what models are measured on, and import what measures them beside the first rounds."""
    from strategies.holdout import Holdout

    threading.Thread(target=_import, args=(LATER,), daemon=True).start()
    return Holdout(settings, cohorts=cohorts)


def _report_devices(folder: Path, devices: dict[str, int]) -> None:
    """Say in the log and in the run's provenance what its hospitals compute on."""
    import json

    from crypto.whole_file import write_shared

    said = ", ".join(f"{name} ({count} processes)" for name, count in devices.items())
    logger.info("hospitals compute on %s", said)
    file = folder / "provenance.json"
    if file.exists():
        content = json.loads(file.read_text(encoding="utf-8")) | {"devices": devices}
        write_shared(file, json.dumps(content, indent=2).encode() + b"\n", durable=False)


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


def _simulate_on_flower(
    settings: Settings, options: EngineOptions, cohorts: Cohorts | None
) -> None:
    from simulations.engines.app_tracking import tracked
    from simulations.engines.flower_engine import simulate_on_flower
    from simulations.run_audit import audit_run

    # Flower's engine leads a training in a process of its own, which ends before the audit.
    with tracked(settings) as app_settings:
        if not simulate_on_flower(app_settings):
            raise RunStopped(f"Flower's engine ended without a result; read {settings.run.out}")
        if settings.audit.enabled:
            audit_run(Path(settings.run.out), lambda stage, done, total: None)
