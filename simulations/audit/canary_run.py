"""A training over canary patients: real files, real hospitals, real noise, and a watched wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clients.contract.settings import Settings
from clients.data import Cohorts, DatasetInfo
from simulations.audit.canary_data import Canaries, write_arrays, write_pictures, write_table
from simulations.audit.canary_model import CLIP, NAME, PLACES
from simulations.audit.copies import Copies
from simulations.audit.opened import Release, keys_of, releases_of, terms_of
from simulations.audit.wire import Wire, watched_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.contract.settings import ConfigValue
    from clients.contract.terms import Terms
    from crypto.keys import Keys
    from simulations.audit.wire import OnTheWay

#: Trainable parameters of the canaries' model.
DIMENSIONS = 4 * PLACES
WRITERS = {"csv": write_table, "npz": write_arrays, "pictures": write_pictures}


def canary_settings(
    canaries: Canaries, data: Path, out: Path, changes: dict[str, ConfigValue]
) -> Settings:
    """Return the settings of a training over a canary file.

    Args:
        canaries: all of them.
        data: their file.
        out: the run's folder.
        changes: settings that differ, dotted.
    """
    kind = data.suffix.removeprefix(".")
    return Settings.from_config(
        {
            "data.name": f"{kind}:{data}",
            "data.holdout": 0.02,
            "data.patients": len(canaries) // 2,
            "data.largest-hospital": canaries.largest,
            "partition.name": "natural",
            "partition.hospitals": len(canaries.places),
            "model.name": NAME,
            "training.momentum": 0.0,
            "training.learning-rate": 0.1,
            "training.release-every": 3,
            "run.snapshot-every": 4,
            "privacy.l2-clip": CLIP,
            "run.seed": -1,
            "run.out": str(out),
            "run.scenario": "audit",
            "tracking.wandb": "disabled",
            **changes,
        }
    )


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """A finished run.

    Attributes:
        settings: of the run.
        canaries: whoever is in its file, and who is not.
        trained: in the file and not in the public holdout, bool ``[m]``.
        wire: what left the hospitals.
        info: what is public of the data.
        stopped: why it ended before its last round; "" where it did not.
    """

    settings: Settings
    canaries: Canaries
    trained: NDArray[np.bool_]
    wire: Wire
    info: DatasetInfo
    stopped: str = ""

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(self.settings.run.out)

    def json(self, name: str) -> dict[str, object]:
        """Return one of the run's JSON files."""
        return dict(json.loads((self.out / name).read_text(encoding="utf-8")))

    @property
    def training(self) -> str:
        """The training's id."""
        return str(self.json("summary.json")["training"])

    @property
    def noise_multiplier(self) -> float:
        """Sigma, as the run says."""
        return float(str(self.json("summary.json")["noise_multiplier"]))

    @cached_property
    def terms(self) -> Terms:
        """The run's terms, from public numbers."""
        return terms_of(
            self.settings,
            self.info,
            training=self.training,
            sigma=self.noise_multiplier,
        )

    @cached_property
    def keys(self) -> Keys:
        """The keys of the training, as its hospitals keep them."""
        return keys_of(self.out, self.training)

    @cached_property
    def releases(self) -> list[Release]:
        """Every noised vector that left."""
        return releases_of(self.wire.sent, self.settings, self.terms, self.keys)

    @cached_property
    def copied(self) -> list[Release]:
        """Every noised vector that left a copy of a hospital's folder."""
        return releases_of(self.wire.copied, self.settings, self.terms, self.keys)


def run_canaries(
    canaries: Canaries,
    folder: Path,
    *,
    kind: str,
    changes: dict[str, ConfigValue],
    on_the_way: OnTheWay | None = None,
    copied: bool = False,
) -> CanaryRun:
    """Write a file of canaries and train on it to the end.

    Args:
        canaries: all of them.
        folder: empty; the file and the run go there.
        kind: of the file, a key of `WRITERS`.
        changes: settings that differ, dotted.
        on_the_way: what happens to answers once they were seen.
        copied: whether first places are answered in copies of the hospitals' folders as well.
    """
    folder.mkdir(parents=True)
    path = WRITERS[kind](canaries, folder)
    settings = canary_settings(canaries, path, folder / "run", changes)
    Path(settings.run.out).mkdir()
    cohorts = Cohorts()
    copies = Copies(out=folder / "copies", settings=settings, cohorts=cohorts) if copied else None
    wire = Wire(Path(settings.run.out), cohorts.of(settings).names, on_the_way, copies)
    stopped = watched_run(settings, cohorts, wire)
    return CanaryRun(
        settings=settings,
        canaries=canaries,
        trained=canaries.coins & ~_held_out(canaries, cohorts, settings),
        wire=wire,
        info=cohorts.of(settings).info,
        stopped=stopped,
    )


def _held_out(canaries: Canaries, cohorts: Cohorts, settings: Settings) -> NDArray[np.bool_]:
    """Return who is in the public holdout: a table has one, and its seed is public."""
    holdout = cohorts.of(settings).holdout
    if settings.data.name.startswith("npz:"):
        return np.zeros(len(canaries), dtype=bool)
    present = np.sort(canaries.ids[canaries.coins])
    numbers = holdout.patient_ids
    return np.isin(canaries.ids, present[numbers[numbers < len(present)]])
