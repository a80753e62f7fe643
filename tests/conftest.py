"""What tests of several rooms start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np


@pytest.fixture(scope="session")
def plainest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The model of shared gradients at one hospital, without noise, over full batches."""
    from tests.exchange_runs import ALONE, trained

    return trained(tmp_path_factory.mktemp("gradients"), **ALONE)
