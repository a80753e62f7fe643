"""Submitting a scenario to a consortium's SuperLink, and following what becomes of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from clients.contract.settings import ConfigValue, Settings
from clients.contract.terms import hospitals_expected
from deployment.control import control_of
from deployment.errors import DeploymentError, DeploymentFailed
from deployment.flower_home import CONNECTION, command
from deployment.superlink_folder import SuperLinkFolder
from simulations.app_folder import app_folder
from simulations.launch import make_run_folder
from simulations.scenario import find_scenario, resolve
from strategies.run.folder import RunFolder
from strategies.run.journal import Journal
from strategies.run.reading import read_run

_ENDED = ("finished", "stopped", "interrupted", "failed")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run that a SuperLink has accepted.

    Attributes:
        run_id: Flower's id of the run.
        folder: the run folder, on the SuperLink's machine.
    """

    run_id: int
    folder: Path


def settings_of(
    scenario: str, assignments: Sequence[str], overrides: Mapping[str, ConfigValue]
) -> Settings:
    """Return the settings of a scenario with changes laid on top."""
    return resolve(find_scenario(scenario), list(assignments), dict(overrides))


def submit(
    link: SuperLinkFolder, settings: Settings, *, app: Path | None = None, wait_seconds: float = 0.0
) -> Submission:
    """Submit a training, or go on with the one in ``run.out``; the SuperLink's app makes the run.

    The run carries the names of the hospitals that may take part: those of ``partition.sites``,
    else those that are connected.

    Args:
        link: the SuperLink's folder.
        settings: of the run.
        app: folder of the app that the bundle is built from; None for this one's.
        wait_seconds: how long to wait for SuperLink and hospitals that are not there yet.

    Raises:
        DeploymentError: too few hospitals are connected, or Flower refused.
        DataError: the records on which the server measures models cannot be used.
    """
    settings = _wait_for_hospitals(link, _with_holdout(settings), wait_seconds)
    if not settings.run.out:
        settings = make_run_folder(settings, link.runs)
    folder = Path(settings.run.out)
    config = folder / "run-config.toml"
    config.write_text(tomli_w.dumps(settings.to_config()), encoding="utf-8")
    done = subprocess.run(
        [
            command("flwr"), "run", str(app or app_folder()), CONNECTION,
            "--run-config", str(config), "--format", "json",
        ],
        env=link.flower(),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    answer = _json(done.stdout)
    if done.returncode or "run-id" not in answer:
        said = answer.get("error-message") or done.stderr.strip() or done.stdout.strip()
        raise DeploymentFailed(f"flwr run: {said}")
    submission = Submission(run_id=int(answer["run-id"]), folder=folder)
    RunFolder(folder).record("submitted", run_id=submission.run_id)
    (folder / "flower-run-id").write_text(f"{submission.run_id}\n", encoding="ascii")
    return submission


def _with_holdout(settings: Settings) -> Settings:
    """Return the settings with the way to the server's own records written out, having read them.

    Raises:
        DataError: records that somebody has put there cannot be used; it says why.
    """
    from clients.data import load_dataset

    data = settings.data
    if data.dir:
        settings = settings.with_config({"data.dir": str(Path(data.dir).expanduser().absolute())})
    if ":" in data.name:
        load_dataset(data.name, settings.data.dir, image_size=data.image_size)
    return settings


def _wait_for_hospitals(link: SuperLinkFolder, settings: Settings, wait_seconds: float) -> Settings:
    """Return the settings with the names of their hospitals, once all of these are connected."""
    end = time.monotonic() + wait_seconds
    while True:
        try:
            return with_hospitals(settings, hospitals_online(link))
        except DeploymentError:
            if time.monotonic() >= end:
                raise
        time.sleep(1.0)


def with_hospitals(settings: Settings, online: Sequence[str]) -> Settings:
    """Return the settings with the names of the hospitals that may take part.

    A training that goes on keeps its hospitals, and as many may be away as `privacy.dropouts` says.

    Raises:
        DeploymentError: too few of them are connected, or more than the run has room for.
    """
    wanted = hospitals_expected(settings)
    kept = Journal(Path(settings.run.out) / "server").read() if settings.run.out else None
    invited = settings.partition.invited or (tuple(kept.public_keys) if kept else ())
    present = [name for name in online if not invited or name in invited]
    least = wanted - settings.privacy.dropouts if kept else wanted
    if len(present) < least:
        missing = ", ".join(sorted(set(invited) - set(present)))
        raise DeploymentError(
            f"{len(present)} of {wanted} hospitals are connected"
            + (f", {missing} is not" if missing else "")
            + ". Start the missing SuperNodes ('asclepias status' lists them), or lower "
            "partition.hospitals. Nothing was submitted."
        )
    if len(present) > wanted:
        raise DeploymentError(
            f"{len(present)} hospitals are connected, the run is for {wanted}. Name those that "
            f"take part with --set partition.sites={','.join(present[:wanted])}, or raise "
            "partition.hospitals. Nothing was submitted."
        )
    if settings.regime.pooled:
        return settings
    return settings.with_config({"partition.sites": ",".join(invited or sorted(present))})


def hospitals_online(link: SuperLinkFolder) -> list[str]:
    """Return the hospitals whose SuperNodes are connected, by name."""
    with control_of(link) as control:
        return [node.name for node in control.nodes() if node.status == "online"]


def run_status(link: SuperLinkFolder, run_id: int) -> str:
    """Return Flower's status of a run, such as ``running`` or ``finished:completed``."""
    with control_of(link) as control:
        return control.runs(run_id).get(run_id, "unknown")


def wait_for_end(link: SuperLinkFolder, submission: Submission, *, seconds: float) -> str:
    """Wait until a run has ended and return its status: finished, stopped or interrupted.

    Raises:
        DeploymentError: it did not end in time, or its process ended without a word.
    """
    end, asked = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        status = read_run(submission.folder).progress.status
        if status in _ENDED:
            return status
        if time.monotonic() - asked > 10:
            asked = time.monotonic()
            flower = run_status(link, submission.run_id)
            if flower.startswith("finished"):
                return read_run(submission.folder).progress.status
        time.sleep(0.2)
    raise DeploymentFailed(f"{submission.folder} did not end within {seconds:.0f} s.")


def _json(text: str) -> dict[str, Any]:
    start = text.find("{")
    try:
        return dict(json.loads(text[start:])) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
