"""Which patients a run is about: from settings to a cohort.

Apart from `clients.contract.terms`, so that the server, which agrees on terms but must not see
patients, does not come to import data by way of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.terms import hospitals_expected

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from clients.data import Cohort, Records


def cohort_of(settings: Settings) -> Cohort:
    """Return the cohort of a run; pooled regimes see it as one hospital that holds everything."""
    from clients.data import load_cohort

    if settings.regime.pooled:
        pooled = settings.partition.model_copy(update={"name": "iid", "hospitals": 1})
        settings = settings.model_copy(update={"partition": pooled})
    return load_cohort(settings, hospitals_expected(settings))


def tests_by_hospital(settings: Settings) -> dict[str, Records]:
    """Return each hospital's own test records, pooled regimes included; only for public data.

    Pooled data belong to no hospital, yet the holdout is dealt as if they did, so that a pooled
    model is judged on the very patients that the federated ones are.
    """
    from clients.data import DataError, load_cohort

    if not settings.data.public:
        return {}
    try:
        return dict(load_cohort(settings, settings.partition.hospitals).tests)
    except DataError:
        return {}  # a split that suits no federation, as pooled data may have


def public_seed(settings: Settings) -> int:
    """Return the seed of what is public anyway: splits and initial weights."""
    return max(settings.run.seed, 0)
