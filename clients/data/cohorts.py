"""Which patients runs are about: from settings to cohorts, each read and split once.

Whoever needs cohorts is handed a `Cohorts`; whoever starts a process makes one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from clients.data.catalogue import load_dataset
from clients.data.cohort import NONE, split_cohort
from clients.data.errors import DataError

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data.cohort import Cohort, Deal
    from clients.data.dataset import Dataset
    from clients.data.records import Records

logger = logging.getLogger(__name__)

#: Data sets, and cohorts, that are remembered.
MOST = 4

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Cohorts:
    """The data sets and cohorts that were asked for last; hospitals of a process share them.

    Args:
        deals: who goes to which hospital, where another process of this machine has dealt the same
            data (`deals` of its own); what is not there is dealt here.
    """

    def __init__(self, deals: Mapping[tuple[Hashable, ...], Deal] | None = None) -> None:
        self._dealt = dict(deals or {})
        self._datasets: OrderedDict[tuple[Hashable, ...], Dataset] = OrderedDict()
        self._cohorts: OrderedDict[tuple[Hashable, ...], Cohort] = OrderedDict()

    def of(self, settings: Settings) -> Cohort:
        """Return a run's cohort; pooled regimes see it as one hospital that holds everything.

        Raises:
            DataError: anything wrong with the files, the split or the number of hospitals.
        """
        if settings.regime.pooled:
            pooled = settings.partition.model_copy(update={"name": "iid", "hospitals": 1})
            settings = settings.model_copy(update={"partition": pooled})
        return self.split(settings, settings.partition.hospitals)

    @property
    def deals(self) -> dict[tuple[Hashable, ...], Deal]:
        """Which patients each hospital got, for processes that read the same data.

        They need not load the libraries that deal, which takes longer than reading most data.
        """
        return {key: cohort.deal for key, cohort in self._cohorts.items()}

    def tests_by_hospital(self, settings: Settings) -> dict[str, Records]:
        """Return each hospital's own test records, pooled regimes included; only for public data.

        Pooled data belong to no hospital, yet the holdout is dealt as if they did, so that a pooled
        model is judged on the very patients that the federated ones are.
        """
        if not settings.data.public:
            return {}
        try:
            return dict(self.split(settings, settings.partition.hospitals).tests)
        except DataError:
            return {}  # a split that suits no federation, as pooled data may have

    def split(self, settings: Settings, hospitals: int) -> Cohort:
        """Return the cohort of so many hospitals that the settings describe.

        Raises:
            DataError: anything wrong with the files, the split or the number of hospitals.
        """
        data, partition = settings.data, settings.partition
        folder = str(Path(data.dir).expanduser()) if data.dir else ""
        unconfirmed = not settings.regime.private
        source = (folder, data.image_size, unconfirmed)

        def read(name: str) -> Dataset:
            dataset = load_dataset(
                name, folder, image_size=data.image_size, unconfirmed=unconfirmed
            )
            dataset.log.write_to(lambda line: logger.warning("%s: %s", name, line))
            return dataset

        def known(name: str) -> Dataset:
            return _remembered(self._datasets, (name, *source), lambda: read(name))

        def build() -> Cohort:
            judged = known(data.holdout_from) if data.holdout_from not in ("", NONE) else None
            return split_cohort(known(data.name), settings, hospitals, judged, self._dealt.get(key))

        key = (
            data.name,
            *source,
            data.holdout,
            data.holdout_from,
            data.public,
            settings.task.name,
            partition.name,
            partition.alpha,
            partition.shards,
            partition.shift,
            hospitals,
            settings.public_seed,
        )
        return _remembered(self._cohorts, key, build)


def _remembered(kept: OrderedDict[_Key, _Value], key: _Key, make: Callable[[], _Value]) -> _Value:
    """Return what is kept, or make it and forget what was used longest ago."""
    if key not in kept:
        kept[key] = make()
        while len(kept) > MOST:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
