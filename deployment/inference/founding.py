"""Making the folders of all three roles at once, for one machine or to be carried to three."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from clients.prediction.artefact import read_artefact
from clients.prediction.private_program import compile_model
from deployment.errors import DeploymentError
from deployment.inference.folders import FILE, PATIENTS, PEERS
from deployment.inference.identities import CERTIFICATE, make_identity

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MODEL = "predictor.safetensors"


def found(
    folder: Path, model: Path, patients: Sequence[str], *, provider: str, dealer: str
) -> Iterator[str]:
    """Make the folders, and yield a line for each.

    Args:
        folder: a new one.
        model: an exported model; copied to the provider.
        patients: their names.
        provider: "host:port" where patients reach it.
        dealer: likewise, for both others.

    Raises:
        DeploymentError: the folder exists, or a name cannot be a file's.
        ArtefactError: the model cannot be computed on shares.
    """
    for name in patients:
        if not _NAME.fullmatch(name) or name in ("provider", "dealer"):
            raise DeploymentError(f"a patient called {name!r}; expected a-z, 0-9 and dashes")
    if folder.exists():
        raise DeploymentError(f"{folder} exists already; name a new folder.")
    compile_model(read_artefact(model))
    roles: dict[str, dict[str, Any]] = {
        "provider": {
            "role": "provider", "listen": _listening(provider), "dealer": dealer, "model": MODEL,
            "answer": "probabilities", "per-day": 20, "in-all": 200, "encrypted": False,
        },
        "dealer": {"role": "dealer", "listen": _listening(dealer), "stock": 2},
    }  # fmt: skip
    asking = {"role": "patient", "provider": provider, "dealer": dealer}
    roles |= {f"{PATIENTS}/{name}": asking for name in patients}
    for place, said in roles.items():
        path = folder / place
        path.mkdir(parents=True, mode=0o700)
        (path / FILE).write_text(tomli_w.dumps(said), encoding="utf-8")
        fingerprint = make_identity(path, path.name)
        yield f"{path}: certificate {fingerprint[:16]}..."
    shutil.copyfile(model, folder / "provider" / MODEL)
    _introduce(folder, list(roles))


def _listening(address: str) -> str:
    """Return where a party listens that others reach at an address: no wider than they need."""
    host, _, port = address.rpartition(":")
    here = host == "localhost" or host.startswith("127.")
    return f"{'127.0.0.1' if here else '0.0.0.0'}:{port}"


def _introduce(folder: Path, places: Sequence[str]) -> None:
    """Give each party the certificates of those whom it meets."""
    for place in places:
        path = folder / place
        for other in places:
            guests = other.startswith(PATIENTS)
            if other == place or (guests and place.startswith(PATIENTS)):
                continue
            known = path / (PATIENTS if guests else PEERS)
            known.mkdir(exist_ok=True)
            shutil.copyfile(folder / other / CERTIFICATE, known / f"{Path(other).name}.pem")
