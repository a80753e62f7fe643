"""How many processes of hospitals a run has room for, on processors and on GPUs.

On GPUs it is measured: what one process takes of a device with the run's own model, on made-up
records. Ray gives each process its part of a GPU and so spreads them over all of a machine, or of a
cluster; a device that was named (``cuda:1``) is taken as it is.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clients.learning.processors import Processors
from simulations.engines.ray_cluster import actors_that_fit, processes_of_a_machine
from simulations.error_messages import NotStarted

if TYPE_CHECKING:
    import torch

    from clients.contract.settings import Settings
    from clients.data import Cohorts

#: The part of a GPU's memory that hospitals' processes take together at the most.
HELD = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What each process of hospitals gets.

    Attributes:
        actors: how many processes.
        gpus: of each, as Ray counts them; 0 where there are none, or one was named.
        memory: the share of its GPU's memory that each may take.
        on_gpu: whether hospitals compute on one.
        together: whether hospitals of a process share passes of the model.
        processors: of a machine, for whoever has more to compute than others.
    """

    actors: int
    gpus: float = 0.0
    memory: float = 1.0
    on_gpu: bool = False
    together: bool = False
    processors: Processors | None = None


def find_room(settings: Settings, cohorts: Cohorts | None, hospitals: int, asked: int) -> Room:
    """Return the room for a run's hospitals on the Ray that has been started.

    Args:
        settings: the run's.
        cohorts: what has been read of the data already.
        hospitals: how many there are.
        asked: processes that were asked for; 0: as many as fit.

    Raises:
        NotStarted: a device that was named is not there, or no process fits.
    """
    import ray

    each = float(settings.run.threads)
    processors = Processors(secrets.token_hex(16), asked or processes_of_a_machine(each))
    fit = actors_that_fit(each, hospitals)
    if asked:
        most = actors_that_fit(each, asked)
        if asked > most:
            raise NotStarted(
                f"--actors {asked}: {most} processes of {each:g} processors fit, and the others "
                "would never begin. Ask for fewer, or lower run.threads."
            )
        fit = min(asked, hospitals)
    name, together = settings.run.device, settings.run.together == "always"
    on_processors = Room(actors=fit, together=together, processors=processors)
    if name == "cpu":
        return on_processors
    named = name not in ("auto", "cuda")
    cards = int(ray.cluster_resources().get("GPU", 0))
    if not named and not cards:
        if name == "cuda":
            raise NotStarted(
                "run.device = 'cuda', but Ray finds no GPU here. Set run.device = 'auto', which "
                "computes on processors where there is none."
            )
        return on_processors
    cards = 1 if named else cards
    device = device_here("auto" if name == "cuda" else name)
    if not asked and device.type == "cuda":
        fit = min(fit, cards * _measured(settings, cohorts, device))
    share = math.ceil(fit / cards)
    return Room(
        actors=fit,
        gpus=0.0 if named else 1.0 / share,
        memory=HELD / share,
        on_gpu=True,
        together=settings.run.together != "never",
    )


def device_here(name: str) -> torch.device:
    """Return a device of this process's machine.

    Raises:
        NotStarted: it is not there.
    """
    from clients.learning.device import NoSuchDevice, find_device

    try:
        return find_device(name)
    except NoSuchDevice as error:
        raise NotStarted(f"run.{error}") from error


def _measured(settings: Settings, cohorts: Cohorts | None, device: torch.device) -> int:
    """Return how many processes a GPU of this machine has room for."""
    from clients.data import Cohorts
    from clients.learning.device_memory import processes_that_fit
    from clients.learning.per_sample import PerSample
    from clients.models import build_model, input_shape

    info = (cohorts or Cohorts()).of(settings).info
    model = PerSample(build_model(settings, info, settings.public_seed), device=device)
    return processes_that_fit(
        model, input_shape(settings, info), info.question.values, l2_clip=settings.privacy.l2_clip
    )
