"""What a process keeps of an app that is loaded anew for every message, as Flower's engine does.

An app is known again by its functions: by their names, their file and when that was written.
Functions that no name of a module leads to, such as lambdas, methods and wrappers, and those of a
notebook are never taken for others.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asclepias.answering import Answering

_Key = tuple[object, ...]
_KEPT: dict[_Key, Answering] = {}


def kept_for(parts: tuple[object, ...], make: Callable[[], Answering]) -> Answering:
    """Return what this process keeps for an app that is made of these parts.

    Args:
        parts: its functions and classes, and plain values.
        make: makes it, where nothing is kept or nobody could tell.
    """
    names = [_name_of(part) if callable(part) else ("value", part) for part in parts]
    if any(name is None for name in names):
        return make()
    key = tuple(names)
    if key not in _KEPT:
        _KEPT[key] = make()
    return _KEPT[key]


def _name_of(part: object) -> _Key | None:
    """Return what a function or class is known by; None where that is not sure."""
    name, module = getattr(part, "__qualname__", ""), getattr(part, "__module__", "")
    if not name or "<" in name or module in ("", "__main__"):
        return None
    try:
        # Methods of one object have the name of another's, and a wrapper that of what is in it.
        if attrgetter(name)(sys.modules.get(module)) is not part:
            return None
        file = Path(inspect.getfile(part))
        return module, name, str(file), file.stat().st_mtime_ns
    except (AttributeError, OSError, TypeError):
        return None
