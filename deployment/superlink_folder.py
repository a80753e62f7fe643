"""What the machine of the SuperLink holds: certificates, nodes' keys, database, runs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from deployment.errors import DeploymentError
from deployment.flower_home import write_connection

_FILE = "superlink.toml"


@dataclass(frozen=True, kw_only=True)
class SuperLinkFolder:
    """What the machine of the SuperLink holds.

    Attributes:
        folder: certificates, nodes' public keys, database, runs.
        address: ``host:port`` at which hospitals reach it.
        hospitals: names, sorted.
    """

    folder: Path
    address: str
    hospitals: tuple[str, ...]

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def local_address(self) -> str:
        """Address for commands on the same machine."""
        return f"127.0.0.1:{self.port}"

    @property
    def runs(self) -> Path:
        """Folder of run folders."""
        return self.folder / "runs"

    def flower(self) -> dict[str, str]:
        """Return the environment in which Flower's commands talk to this SuperLink."""
        home = self.folder / "flower"
        connection = write_connection(
            home, address=self.local_address, authority=self.folder / "ca.pem"
        )
        return dict(connection)

    def write(self) -> None:
        """Write the folder's own small file."""
        content = {"address": self.address, "hospitals": list(self.hospitals)}
        (self.folder / _FILE).write_text(tomli_w.dumps(content), encoding="utf-8")


def read_superlink(folder: Path) -> SuperLinkFolder:
    """Read a SuperLink's folder, or the one inside a consortium's folder.

    Raises:
        DeploymentError: it is none.
    """
    if not (folder / _FILE).exists() and (folder / "superlink" / _FILE).exists():
        folder = folder / "superlink"
    try:
        given = tomllib.loads((folder / _FILE).read_text(encoding="utf-8"))
        return SuperLinkFolder(
            folder=folder.absolute(),
            address=str(given["address"]),
            hospitals=tuple(given["hospitals"]),
        )
    except OSError:
        raise DeploymentError(
            f"{folder / _FILE} does not exist; 'asclepias init {folder}' makes a consortium."
        ) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DeploymentError(f"{folder / _FILE} is not readable: {error!r}") from None
