"""A run that left what predicts, trained once for all tests here."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.exchange_runs import run_app
from tests.in_process import small_settings


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        run_app(small_settings(folder, training__rounds=4))
    return folder
