"""What tests of audits share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.launch import logging_to


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Path]:
    """A folder, and a file in it for what trainings log."""
    with logging_to(tmp_path / "audit.log", "info", terminal=False):
        yield tmp_path
