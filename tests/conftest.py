"""What tests of several rooms start from."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import numpy as np

# Before anything loads them: test processes, not threads, fill the machine.
for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(library, "1")

#: The files that take longest, longest first: begun first, so that all processes end together.
LONGEST = (
    "test_hostile_server.py",
    "test_attacks_records.py",
    "test_data_audit.py",
    "test_deployed.py",
    "test_engine.py",
    "test_federation.py",
    "test_cluster.py",
    "test_tracking_wandb.py",
    "test_compare.py",
    "test_run_audit.py",
    "test_relayed_heads.py",
    "test_sites.py",
    "test_resume.py",
    "test_totals.py",
    "test_accountants.py",
    "test_models.py",
    "test_fuzz.py",
    "test_audit_bounds.py",
    "test_audit_evidence.py",
    "test_shared_keys.py",
)


# A test does not fail because the machine is busy: Hypothesis would give each example 200 ms.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Python's collector goes through all that libraries keep, half a million objects, each time that
# enough new ones were made: a tenth of all processor time. While tests are collected all is kept.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again, less often than by default."""
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture
def chances(request: pytest.FixtureRequest) -> Iterator[None]:
    """Noise, samples and coins of a test, the same in every run of it."""
    from tests.same_chances import same_chances

    with same_chances(request.node.name):
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays in order."""
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def plainest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The model of shared gradients at one hospital, without noise, over full batches."""
    from tests.exchange_runs import ALONE, trained

    return trained(tmp_path_factory.mktemp("gradients"), **ALONE)
