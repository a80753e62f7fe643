"""What becomes of a benchmark whose data are not here: a sentence, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.data.errors import DataError


@contextmanager
def data_or_exit() -> Iterator[None]:
    """End the process where data that the block reads are missing or not as published."""
    try:
        yield
    except DataError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
