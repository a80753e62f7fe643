"""What tests of the command line start from."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def at_a_terminal() -> Iterator[None]:
    """Have processes that are started hear Ctrl-C, whoever started the tests.

    What is started in the background of a script inherits that SIGINT is ignored, and rightly heeds
    it; so would the processes of a test, which then could not be interrupted.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
