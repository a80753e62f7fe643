"""The same place, answered once more in a copy of a hospital's folder.

A process that remembers nothing is handed the copy and the very message that the hospital is about
to answer. All that could key its chances is then the same: training, hospital, place, purpose, and
whatever secret the folder keeps. Noise and batch must differ all the same, or else who knows these
words, or puts a folder back, takes the noise off.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clients.client_app import make_client_app
from clients.contract.kinds import Kind
from clients.site.worker import Worker
from simulations.engines.actors import Hospitals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flwr.app import Message

    from clients.contract.settings import Settings
    from clients.data import Cohorts

#: Kinds whose answers hold a noised sum, and need nothing but the folder at a hospital's first.
_ASKED = (Kind.TRAIN, Kind.VISIT)


@dataclass(kw_only=True)
class Copies:
    """Where the copies of a run's folders are, and whose first place was answered in one.

    Attributes:
        out: folder of the copies.
        settings: of the run.
        cohorts: where its data are read.
        answered: hospitals.
    """

    out: Path
    settings: Settings
    cohorts: Cohorts
    answered: set[str] = field(default_factory=set)

    def answer(
        self, asked: Message, hospital: str, folder: Path, nodes: Mapping[int, int]
    ) -> Message | None:
        """Return what a hospital's copy answers at the first place of it; None at any other.

        Args:
            asked: not answered yet by the hospital.
            hospital: its name.
            folder: of its own.
            nodes: part of the data by node id.
        """
        if Kind(asked.metadata.message_type) not in _ASKED or hospital in self.answered:
            return None
        self.answered.add(hospital)
        shutil.copytree(folder, self.out / "sites" / hospital)
        config = self.settings.with_config({"run.out": str(self.out)}).to_config()
        with closing(Worker(self.cohorts)) as worker:
            hospitals = Hospitals(make_client_app(worker), config, dict(nodes))
            [reply], _ = hospitals.answer(asked.content, [asked.metadata])
        return reply
