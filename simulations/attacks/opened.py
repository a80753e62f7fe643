"""Whose files an attack opens: one in a real hospital's folder stops it, by whatever name it came.

Names tell little: a pattern, a link, a folder of pictures, other data for the holdout lead to files
that nobody named. So what is opened is judged, when it is opened, in this process and those that it
forks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from simulations.error_messages import NotStarted

#: The file that makes a folder a real hospital's, with all that is below it.
SITE_FILE = "site.toml"
#: The program's own folders, which may lie in a hospital's with all else of the machine.
_PROGRAM = (sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]))


class _Guard:
    """What the interpreter tells of every file that is opened; a hook of it stays for good."""

    def __init__(self) -> None:
        self.depth = 0
        self.found: list[str] = []
        self._hooked = False

    def hook(self) -> None:
        """Have the interpreter tell."""
        if not self._hooked:
            sys.addaudithook(self._told)
            self._hooked = True

    def _told(self, event: str, given: tuple[object, ...]) -> None:
        if event != "open" or not self.depth or not isinstance(given[0], str | bytes):
            return
        path = os.path.abspath(os.fsdecode(given[0]))
        if (home := hospital_of(path)) and not _of_the_program(path, home):
            self.found.append(home)
            raise NotStarted(refusal(path, home))


_GUARD = _Guard()


def hospital_of(path: str) -> str:
    """Return the real hospital's folder that a path lies in, itself or what it links to; "": none.

    Args:
        path: absolute.
    """
    return _home(path) or _home(os.path.realpath(path))


def _of_the_program(path: str, home: str) -> bool:
    above = [one for one in _PROGRAM if one.startswith(os.path.join(home, ""))]
    return any(path.startswith(os.path.join(one, "")) for one in above)


def _home(path: str) -> str:
    here = path if os.path.isdir(path) else os.path.dirname(path)
    return _home_of_folder(here)


@cache
def _home_of_folder(folder: str) -> str:
    if os.path.isfile(os.path.join(folder, SITE_FILE)):
        return folder
    above = os.path.dirname(folder)
    return "" if above == folder else _home_of_folder(above)


def refusal(place: object, home: str) -> str:
    """Return what to say of records in a real hospital's folder."""
    return (
        f"{place} lies in {home}, which {SITE_FILE} makes a real hospital's: its patients are not "
        "attacked. Copy data of your own elsewhere, or take made data."
    )


@contextmanager
def nobodys_patients() -> Iterator[None]:
    """Stop what is done in the block where it opens a file in a real hospital's folder.

    Raises:
        NotStarted: it did; also where whoever opened the file went on without it.
    """
    _GUARD.hook()
    before = len(_GUARD.found)
    _home_of_folder.cache_clear()
    _GUARD.depth += 1
    try:
        yield
    except Exception as error:
        if not isinstance(error, NotStarted) and len(_GUARD.found) > before:
            raise NotStarted(refusal("what was to be attacked", _GUARD.found[before])) from error
        raise
    finally:
        _GUARD.depth -= 1
    if len(_GUARD.found) > before:
        raise NotStarted(refusal("what was to be attacked", _GUARD.found[before]))
