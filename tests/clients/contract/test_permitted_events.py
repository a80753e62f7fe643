"""What the grid charges covers all that a hospital's book lets out in a training, retries too."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from accounting import lines
from accounting.book import Book
from accounting.chain import Flush
from accounting.errors import BookError
from accounting.events import ExactEvent
from accounting.limits import SiteLimits
from clients.contract.schedule import (
    events_of_attempt,
    failures_allowed,
    last_place,
    spare_attempts,
    steps_of_visit,
    visits_of,
)
from clients.contract.settings import Settings
from crypto.roles import Place
from tests.exchange_runs import terms_of


def settings_of(**changes: object) -> Settings:
    config: dict[str, object] = {
        "data.name": "breast-cancer",
        "partition.hospitals": 3,
        "training.rounds": 3,
        "privacy.regime": "FPDP",
        "privacy.l2-clip": 1.0,
        "privacy.target-epsilon": 0.0,
    }
    if "privacy__target_epsilon" not in changes:
        config["privacy.noise-multiplier"] = 2.0
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config[f"{group}.{name.replace('_', '-')}"] = value
    return Settings.from_config(config)  # type: ignore[arg-type]


def places_allowed(settings: Settings, path: Path) -> int:
    """How many places a hospital's book lets one training pay for."""
    with Book(path, site="a", cohort="c", flush=Flush.WRITE) as book:
        bind = {
            "rounds": last_place(settings),
            "spare": spare_attempts(settings),
            "failures": failures_allowed(settings),
            "visits": visits_of(settings),
        }
        bound = lines.bind("t", terms="00", own="00", members="00", code="", **bind)
        book.append(bound, lines.keyed("t", keys="00"))
        for attempt in itertools.count(1):
            try:
                book.spend(Place(training="t", round=1, attempt=attempt), ExactEvent(), purpose="x")
            except BookError:
                return attempt - 1
    raise AssertionError


def dearest(settings: Settings) -> int:
    """What a place costs at most."""
    if visits_of(settings):
        return steps_of_visit(settings, 1)
    return events_of_attempt(settings, 1, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"privacy__spare_attempts": 0},
        {"privacy__spare_attempts": 7},
        {"privacy__target_epsilon": 3.0, "privacy__spare_attempts": 5},
        {"privacy__target_epsilon": 3.0},
        {"exchange__name": "weights", "exchange__local_steps": 4},
        {"exchange__name": "cyclic", "exchange__cycles": 2},
        {"exchange__name": "ensemble"},
    ],
    ids=lambda changes: ", ".join(map(str, changes.values())) or "gradients",
)
def test_the_grid_charges_for_every_attempt_that_a_book_allows(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = settings_of(**changes)
    terms, planned = terms_of(settings, sigma=2.0), visits_of(settings) or settings.training.rounds
    spare = places_allowed(settings, tmp_path / "ledger.jsonl") - planned
    permitted = terms.schedule.events + spare * dearest(settings)
    assert terms.grid.sums == terms.dimensions * permitted
    assert terms.grid.draws == 3 * terms.dimensions * permitted


def test_spare_attempts_are_charged_at_the_site_too() -> None:
    """Three rounds with six spare attempts take the slack of nine."""
    given = {"privacy__regime": "FSCDP", "privacy__dropouts": 0}
    grids = [
        terms_of(settings_of(**given, training__rounds=rounds, privacy__spare_attempts=spare)).grid
        for rounds, spare in ((3, 6), (9, 0))
    ]
    assert grids[0] == grids[1]
    limits = SiteLimits(max_epsilon=10.0, delta=1e-4)
    assert limits.slack_of(grids[0]) == limits.slack_of(grids[1])
