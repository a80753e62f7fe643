"""What tests of sums that somebody spoils start from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clients.site import chances as chances_module
from tests.strategies.spoiled_sums import Spoiling, Spoils


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spoils], None]:
    """Have hospitals sign what spoils the sum that it is added to."""
    real = chances_module.make_sealer

    def patch(spoils: Spoils) -> None:
        monkeypatch.setattr(
            chances_module,
            "make_sealer",
            lambda plan, keys, name: Spoiling(real(plan, keys, name), name, spoils),
        )

    return patch
