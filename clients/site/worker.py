"""What one process keeps between messages, for every hospital that it answers for.

A simulated process answers for many hospitals, again and again; a real hospital's answers for one.
Whoever starts a process makes one `Worker`; a new one remembers nothing.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clients.contract.faults import Code, Fault
from clients.contract.settings import ConfigValue, Settings
from clients.contract.terms import hospitals_expected
from clients.data import Cohorts
from clients.data.partition import hospital_label
from clients.site.books import Books
from clients.site.ground import real_site, simulated_site
from clients.site.own_records import own_cohort
from clients.site.own_settings import own_settings, require_invited
from clients.site.shared_state import SharedState
from clients.site.site_file import read_site_file

if TYPE_CHECKING:
    from flwr.app import Context

    from clients.contract.kinds import Kind
    from clients.data import Cohort
    from clients.learning.processors import Processors
    from clients.site.door import Request
    from clients.site.hospital import Hospital

#: Reads what an app brings of its own, from (hospital, name of its ledger's cohort).
Bring = Callable[[str, str], "Cohort"]
#: Trainings that are kept. One that is forgotten and goes on costs a snapshot and the sums since.
MOST_TRAININGS = 4

#: Ids become parts of file names, so no path may hide in one.
_TRAINING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_Config = frozenset[tuple[str, ConfigValue]]


@dataclass(kw_only=True)
class _Training:
    state: SharedState = field(default_factory=SharedState)
    #: Simulated hospitals by partition and run config.
    simulated: dict[tuple[int | None, _Config], Hospital] = field(default_factory=dict)


class Worker:
    """One process of hospitals: trainings, open books, and the records that they are about.

    Args:
        cohorts: where data sets are read; one of its own unless it is handed the process's.
        bring: reads the records of one hospital, where an app brings its own; None: data are named
            by settings.
        processors: free ones of this machine, which simulated hospitals may take for a while.
    """

    def __init__(
        self,
        cohorts: Cohorts | None = None,
        bring: Bring | None = None,
        processors: Processors | None = None,
    ) -> None:
        self.cohorts = Cohorts() if cohorts is None else cohorts
        self.books = Books()
        self._bring = bring
        self._processors = processors
        self._trainings: OrderedDict[str, _Training] = OrderedDict()

    def hospital(
        self,
        training: str,
        context: Context,
        *,
        invited: bool = True,
        asked: tuple[Kind, Request] | None = None,
    ) -> Hospital:
        """Return the hospital that a node stands for, in a training.

        A real node's config names its ``site.toml``; a simulated one has the number of its part.

        Args:
            training: its id.
            context: of the node.
            invited: whether a real hospital must be among those that the run invites.
            asked: what a real one is asked, and of which kind: what its book alone refuses is
                refused before its records are read.

        Raises:
            Fault: the hospital does not take part, or the training's id is none; or its book
                refuses what is asked.
            SiteFileError: the site.toml is not sound.
            SettingsError: the run's settings are not.
            DataError: there are no such records.
        """
        if not _TRAINING.fullmatch(training):
            raise Fault(Code.MALFORMED, "a training's id names files and is a plain word")
        if own := context.node_config.get("site"):
            settings = Settings.from_config(context.run_config)
            return self._real(Path(str(own)), settings, training, invited=invited, asked=asked)
        config = frozenset(context.run_config.items())
        return self._simulated(partition_of(context), config, training)

    def answer_every(self, context: Context) -> float:
        """Return the seconds at whose multiples a node's answers leave, by its site.toml alone.

        Raises:
            SiteFileError: the site.toml is not sound.
        """
        own = context.node_config.get("site")
        return read_site_file(Path(str(own))).answer_every if own else 0.0

    def close(self) -> None:
        """Forget every training and close every book."""
        self._trainings.clear()
        self.books.close_all()

    def _real(
        self,
        path: Path,
        settings: Settings,
        training: str,
        *,
        invited: bool,
        asked: tuple[Kind, Request] | None,
    ) -> Hospital:
        from clients.site.hospital import Hospital
        from clients.site.threshold import turn_away

        file = read_site_file(path)
        own = own_settings(file, settings, invited=invited)
        site = real_site(file, self.books)
        if asked is not None:
            turn_away(site, *asked, own.exchange.name)
        cohort = own_cohort(file, own, self.cohorts, self._bring)
        return Hospital(site, settings, own, training, cohort, self._kept(training).state)

    def _simulated(self, number: int | None, config: _Config, training: str) -> Hospital:
        from clients.site.hospital import Hospital

        kept = self._kept(training)
        found = kept.simulated.get((number, config))
        if found is None:
            settings = Settings.from_config(dict(config))
            name, cohort = self._simulated_cohort(number, settings)
            site = simulated_site(name, settings, training, self.books, self._processors)
            found = Hospital(site, settings, settings, training, cohort, kept.state)
            kept.simulated[number, config] = found
        return found

    def _simulated_cohort(self, number: int | None, settings: Settings) -> tuple[str, Cohort]:
        """Return a simulated hospital's name, and the cohort as it knows it."""
        names: Sequence[str]
        if self._bring is None:
            names = self.cohorts.of(settings).names
        else:
            hospitals = hospitals_expected(settings)
            names = [hospital_label(one, hospitals) for one in range(hospitals)]
        if number is None or number >= len(names):
            raise Fault(Code.NOT_INVITED, f"node {number} is none of {len(names)} hospitals")
        require_invited(settings, [names[number]])
        if self._bring is None:
            return names[number], self.cohorts.of(settings)
        return names[number], self._bring(names[number], settings.data.name)

    def _kept(self, training: str) -> _Training:
        """Return what is kept of a training, and forget the one that was asked for longest ago."""
        kept = self._trainings.setdefault(training, _Training())
        self._trainings.move_to_end(training)
        while len(self._trainings) > MOST_TRAININGS:
            _, ended = self._trainings.popitem(last=False)
            for hospital in ended.simulated.values():
                self.books.close(hospital.site.ledger_file)
        return kept


def partition_of(context: Context) -> int | None:
    """Return the number that Flower gave a simulated node, or ``None`` for a real one."""
    value = context.node_config.get("partition-id")
    return None if value is None else int(value)
