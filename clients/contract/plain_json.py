"""JSON as the standard has it: what is no finite number is null.

Python writes NaN and Infinity by those names, which other readers refuse with the whole file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Return plain values as JSON."""
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Return plain values with None in the place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
