"""The app bundle: what travels to the hospitals as code, and the digest that they allow."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

from deployment.errors import DeploymentError
from simulations.app_folder import app_folder

#: Folders of which Flower never bundles anything: at the top, and anywhere.
_NEVER_AT_TOP, _NEVER = (".flwr", ".venv"), "__pycache__"


def build_bundle(app: Path | None = None) -> bytes:
    """Build the app bundle as ``flwr build`` and ``flwr run`` do; the same files, the same bytes.

    Args:
        app: the app's folder; None for this one's.

    Raises:
        DeploymentError: the folder holds no Flower app.
    """
    from flwr.cli.build import build_fab_from_files

    try:
        with warnings.catch_warnings():
            # Flower 1.42 matches .gitignore patterns by a name that pathspec 1 calls old.
            warnings.simplefilter("ignore", DeprecationWarning)
            return bytes(build_fab_from_files(_files_of((app or app_folder()).resolve()))[0])
    except (ValueError, OSError) as error:
        raise DeploymentError(f"no bundle can be built from {app}: {error}") from None


def bundle_digest(app: Path | None = None) -> str:
    """Return the SHA-256 of the app bundle, as it stands in ``allowed-apps``."""
    return hashlib.sha256(build_bundle(app)).hexdigest()


def _files_of(app: Path) -> dict[str, Path]:
    """Return the files that Flower chooses from, by path below the app; links are none.

    Flower looks at every file of the environment as well, which takes it seconds.
    """
    files = {}
    for folder, below, names in os.walk(app):
        here = Path(folder)
        never = (_NEVER, *_NEVER_AT_TOP) if here == app else (_NEVER,)
        below[:] = [name for name in below if name not in never]
        for name in names:
            if not (file := here / name).is_symlink():
                files[file.relative_to(app).as_posix()] = file
    return files
