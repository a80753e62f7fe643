"""The app bundle: what travels to the hospitals as code, and the digest that they allow."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

from deployment.errors import DeploymentError

#: This app's folder, from which bundles are built.
APP = Path(__file__).resolve().parents[1]


def build_bundle(app: Path = APP) -> bytes:
    """Build the app bundle as ``flwr build`` and ``flwr run`` do; the same files, the same bytes.

    Raises:
        DeploymentError: the folder holds no Flower app.
    """
    from flwr.cli.build import build_fab_from_disk

    try:
        with warnings.catch_warnings():
            # Flower 1.42 matches .gitignore patterns by a name that pathspec 1 calls old.
            warnings.simplefilter("ignore", DeprecationWarning)
            return bytes(build_fab_from_disk(app))
    except (ValueError, OSError) as error:
        raise DeploymentError(f"no bundle can be built from {app}: {error}") from None


def bundle_digest(app: Path = APP) -> str:
    """Return the SHA-256 of the app bundle, as it stands in ``allowed-apps``."""
    return hashlib.sha256(build_bundle(app)).hexdigest()
