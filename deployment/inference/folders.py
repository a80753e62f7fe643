"""A party's folder: its key, whom it knows, and `inference.toml`, which says what it is to do."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployment.errors import DeploymentError
from deployment.inference.identities import CERTIFICATE, KEY, Pins

FILE, PEERS, PATIENTS = "inference.toml", "peers", "patients"
_Address = Annotated[str, Field(pattern=r"^.+:[0-9]{1,5}$")]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=_dashed)


class ProviderFile(_File):
    """What a provider does: which model it answers with, and how often."""

    role: Literal["provider"]
    listen: _Address
    dealer: _Address
    model: str
    answer: Literal["probabilities", "class"] = "probabilities"
    per_day: Annotated[int, Field(ge=1)] = 20
    in_all: Annotated[int, Field(ge=1)] = 200
    encrypted: bool = False


class DealerFile(_File):
    """What a dealer does: how many packets of each model it keeps ready."""

    role: Literal["dealer"]
    listen: _Address
    stock: Annotated[int, Field(ge=1, le=1000)] = 2


class PatientFile(_File):
    """Whom a patient's agent asks."""

    role: Literal["patient"]
    provider: _Address
    dealer: _Address


_KINDS: dict[str, type[ProviderFile | DealerFile | PatientFile]] = {
    "provider": ProviderFile,
    "dealer": DealerFile,
    "patient": PatientFile,
}


@dataclass(frozen=True)
class Folder:
    """A party's folder.

    Attributes:
        path: of it.
        file: what its `inference.toml` says.
    """

    path: Path
    file: Any

    def peer(self, name: str) -> Pins:
        """Return the pin of one peer."""
        return Pins.read(self.path / PEERS / f"{name}.pem")

    def guests(self, *peers: str) -> Pins:
        """Return the pins of peers, and of the patients that are let in."""
        patients = sorted((self.path / PATIENTS).glob("*.pem"))
        return Pins.read(*(self.path / PEERS / f"{name}.pem" for name in peers), *patients)

    def own(self, name: str) -> Path:
        """Return a folder within this one, made if it is not there, for this user's eyes."""
        made = self.path / name
        made.mkdir(mode=0o700, exist_ok=True)
        return made


def read_folder(path: Path, role: str) -> Folder:
    """Return a party's folder.

    Raises:
        DeploymentError: it is none, or of another role.
    """
    file = path / FILE
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        read = _KINDS[role].model_validate(said)
    except OSError:
        raise DeploymentError(
            f"{file} does not exist; 'asclepias infer init' makes the folders of all three"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise DeploymentError(f"{file} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DeploymentError(
            f"{file}: {key} is {first['input']!r}: {first['msg']}; expected what a {role} needs"
        ) from None
    for needed in (KEY, CERTIFICATE):
        if not (path / needed).exists():
            raise DeploymentError(f"{path / needed} does not exist; 'asclepias infer key' makes it")
    return Folder(path, read)
