"""The folder that Flower makes a bundle of: the repository, or what was installed from it.

In the repository every room is a package of its own, as bundles have them. A wheel has one package,
`asclepias`, with the rooms below it; what Flower bundles then is a copy of that package beside the
app's `pyproject.toml`, in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

#: The app's description in a repository and in a bundle; in a wheel it is in the package.
PROJECT = "pyproject.toml"
_PACKAGE = "asclepias"
#: What Flower puts into a bundle.
_KINDS = (".py", ".toml", ".md")


def import_root() -> Path:
    """Return the folder from which the packages of this program are imported."""
    return Path(__file__).resolve().parents[len(__name__.split(".")) - 1]


def app_folder() -> Path:
    """Return the folder of the Flower app; an installed one is laid out when it is first asked for.

    Raises:
        OSError: the user's cache cannot be written.
    """
    root = import_root()
    if (root / PROJECT).is_file():
        return root
    return _laid_out(root / _PACKAGE)


def _laid_out(package: Path) -> Path:
    files = sorted(file for file in package.rglob("*") if file.suffix in _KINDS)
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME", "") or "~/.cache").expanduser() / _PACKAGE
    folder = home / f"app-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(prefix="app-", dir=home))
    for file in files:
        place = made / _PACKAGE / file.relative_to(package)
        if place == made / _PACKAGE / PROJECT:
            place = made / PROJECT
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    try:
        made.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(made, ignore_errors=True)
    return folder
