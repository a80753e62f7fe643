"""Who else could read or change a hospital's files: too open ones are named, as ssh does.

Each fault is a sentence with the path, the mode or owner found, the one expected, and the command
that mends it. Only modes and owners are looked at; a finer list of access rights shows in the
group's bits of a mode.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clients.site.site_file import SiteFile

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
#: What in the private folder is for the owner's eyes, besides every key.
_SECRETS = (
    *("*.key", "keys-*", "pairs-*", "*.secret", "ledger*.jsonl", "first-use.json"),
    "calibration-*.json",
)


def open_files(site: SiteFile) -> list[str]:
    """Return a sentence for each file or folder of a site that is too open or another's.

    What does not exist is no fault here.
    """
    private = site.private
    secrets = {site.ledger, *(path for name in _SECRETS for path in private.glob(name))}
    faults = [_private(private, 0o700), *(_private(path, 0o600) for path in sorted(secrets))]
    faults += [_unchangeable(site.path), _unchangeable(private.parent, sticky=True)]
    if (place := site.ledger.parent) != private:
        # Who may rename files there puts an older ledger in the place of this one.
        faults += [_unchangeable(one, sticky=True) for one in (place, place.parent)]
    return [fault for fault in faults if fault]


def unreadable_by_others(paths: Iterable[Path]) -> list[str]:
    """Return a sentence for each secret file that others could use, or that is another's."""
    return [fault for path in paths if (fault := _private(path, 0o600))]


def _private(path: Path, expected: int) -> str:
    """Say why a secret is not one: others' rights, or another owner."""
    found = _status(path)
    if found is None:
        return ""
    if found.st_uid != os.geteuid():
        return _anothers(path, found.st_uid)
    # A device is refused for being one, and mending its mode would help nobody.
    if stat.S_IMODE(found.st_mode) & _OTHERS and not _is_device(found):
        return _too_open(path, found, f"{expected:o}", f"chmod {expected:o}")
    return ""


def _unchangeable(path: Path, *, sticky: bool = False) -> str:
    """Say why others could change a file, or put another in its place in a folder."""
    found = _status(path)
    if found is None:
        return ""
    if found.st_uid not in (os.geteuid(), _ROOT):
        return _anothers(path, found.st_uid)
    kept = sticky and found.st_mode & stat.S_ISVTX
    if found.st_mode & _OTHERS_WRITE and not kept:
        mode = stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE
        return _too_open(path, found, f"{mode:o}", "chmod go-w")
    return ""


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_device(found: os.stat_result) -> bool:
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))


def _too_open(path: Path, found: os.stat_result, expected: str, mend: str) -> str:
    mode = stat.S_IMODE(found.st_mode)
    return (
        f"{path} has mode {mode:o}, so others than its owner can use it; expected {expected}: "
        f"{mend} {shlex.quote(str(path))}"
    )


def _anothers(path: Path, owner: int) -> str:
    process = os.geteuid()
    name, own = _user(owner), _user(process)
    place = shlex.quote(str(path))
    if process == _ROOT:
        return (
            f"{path} belongs to {name}, and this process runs as root, whose files {name} could "
            f"not use any more; expected the same user: start it as {name} (runuser -u {name} -- "
            f"asclepias ...), or chown root {place}"
        )
    return (
        f"{path} belongs to {name}, and this process runs as {own}; expected {own}: "
        f"chown {own} {place}"
    )


def _user(number: int) -> str:
    """Return a name that chown and runuser take."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"
