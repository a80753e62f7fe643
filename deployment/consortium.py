"""A consortium's folder: who runs the SuperLink, which hospitals there are, and their keys.

    consortium/
      authority/               the certificate authority: keep it off every server
      superlink/               for the machine that runs the SuperLink
      sites/<hospital>/        for that hospital alone
        site.toml              what the hospital decides; commented
        ca.pem, node.pub
        private/               node key, identity key, ledger, log: never leaves the hospital

`init` makes all of it on one machine, which is right for trying out. A hospital that wants nobody
else ever to have held its keys makes new ones itself with `keys` and sends back the public halves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.site.site_file import PRIVATE
from crypto.identity import Identity, fingerprint
from deployment.authority import Authority, write_certificate, write_key, write_node_key
from deployment.errors import DeploymentError
from deployment.run_draft import RUN, draft_run, held_against
from deployment.site_template import site_text
from deployment.superlink_folder import SuperLinkFolder
from simulations.app_folder import app_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
#: Folders of these names in the app's own are kept out of its bundle, by .gitignore.
UNBUNDLED = "consortium"


@dataclass(frozen=True, kw_only=True)
class Consortium:
    """Where a consortium's things are.

    Attributes:
        folder: the consortium's folder.
        address: ``host:port`` at which hospitals reach the SuperLink.
        hospitals: names, sorted.
    """

    folder: Path
    address: str
    hospitals: tuple[str, ...]

    @property
    def superlink(self) -> Path:
        """Folder for the machine that runs the SuperLink."""
        return self.folder / "superlink"

    @property
    def authority(self) -> Path:
        """Folder of the certificate authority's key."""
        return self.folder / "authority"

    def site(self, hospital: str) -> Path:
        """Folder of one hospital."""
        return self.folder / "sites" / hospital

    @property
    def port(self) -> int:
        """Port of the SuperLink."""
        return int(self.address.rpartition(":")[2])


def make_consortium(
    folder: Path,
    *,
    address: str,
    hospitals: Sequence[str],
    data: Mapping[str, str | bool],
    partitions: bool = False,
    test_mode: bool = False,
    allowed_apps: Sequence[str] = (),
    scheme: str = "bfv",
    dropouts: int = 0,
) -> Consortium:
    """Make a consortium's folder with all keys, certificates and site files.

    Args:
        folder: where; must not exist yet, or be empty.
        address: ``host:port`` at which hospitals reach the SuperLink.
        hospitals: the hospitals' names.
        data: first values of ``[data]`` in each ``site.toml``.
        partitions: number the hospitals as parts of a public benchmark cohort.
        test_mode: whether sites allow seeded runs.
        allowed_apps: SHA-256 of app bundles that sites accept.
        scheme: of the run that is drafted; sites demand what it holds against, one of them at most.
        dropouts: hospitals that may be missing in a round of it.

    Raises:
        DeploymentError: the folder is not empty, or a name or the address is no good.
    """
    _check(folder, address, hospitals)
    held = held_against(len(hospitals), scheme=scheme, dropouts=dropouts)
    consortium = Consortium(
        folder=folder.absolute(), address=address, hospitals=tuple(sorted(hospitals))
    )
    _write_sites(
        consortium,
        _make_authority(consortium),
        {**data},
        partitions=partitions,
        test_mode=test_mode,
        allowed_apps=allowed_apps,
        least_colluders=min(1, held),
    )
    SuperLinkFolder(
        folder=consortium.superlink, address=address, hospitals=consortium.hospitals
    ).write()
    if not partitions:
        draft = draft_run(hospitals, str(data["name"]), scheme, dropouts=dropouts, held=held)
        (consortium.superlink / RUN).write_text(draft, encoding="utf-8")
    return consortium


def _make_authority(consortium: Consortium) -> Authority:
    """Make the folders of authority and SuperLink, and what is signed for the latter."""
    consortium.authority.mkdir(parents=True, mode=0o700)
    consortium.superlink.mkdir(mode=0o700)
    (consortium.superlink / "nodes").mkdir()
    authority = Authority.make("asclepias")
    write_key(consortium.authority / "ca.key", authority.key)
    write_certificate(consortium.authority / "ca.pem", authority.certificate)
    renew_server_certificate(consortium, authority)
    return authority


def _write_sites(
    consortium: Consortium,
    authority: Authority,
    data: dict[str, str | bool | int],
    *,
    partitions: bool,
    **same: Any,
) -> None:
    """Make every hospital's keys, and its file, in which all others are pinned.

    Args:
        consortium: its folders.
        authority: signs for all of it.
        data: first values of ``[data]``.
        partitions: whether hospitals are numbered as parts of a public cohort.
        same: what all files say of the same things, as `site_text` takes it.
    """
    pins = {name: _make_site(consortium, name, authority) for name in consortium.hospitals}
    for number, name in enumerate(consortium.hospitals):
        part = {"simulated-partition": number} if partitions else {}
        text = site_text(
            hospital=name,
            superlink=consortium.address,
            data={**data, **part},
            pins=pins,
            **same,
        )
        _write_site_file(consortium.site(name) / "site.toml", text)


def _write_site_file(path: Path, text: str) -> None:
    """Write a file that others may read and only its owner can change, whatever the umask."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def renew_authority(consortium: Consortium) -> list[Path]:
    """Make the authority a new certificate over its old key, and put it where the old one was.

    The server's certificate stays trusted under the new one.

    Returns:
        The files that were written; hospitals elsewhere replace their ca.pem by one of them.
    """
    old = consortium.authority / "ca.pem"
    authority = Authority.read(consortium.authority / "ca.key", old).renewed()
    sites = (consortium.site(name) for name in consortium.hospitals)
    folders = [consortium.authority, consortium.superlink, *sites]
    written = [folder / "ca.pem" for folder in folders if folder.is_dir()]
    for file in written:
        write_certificate(file, authority.certificate)
    return written


def renew_server_certificate(consortium: Consortium, authority: Authority | None = None) -> None:
    """Make a new server key and certificate; hospitals notice nothing."""
    authority = authority or Authority.read(
        consortium.authority / "ca.key", consortium.authority / "ca.pem"
    )
    key, certificate = authority.sign_server([consortium.address.rpartition(":")[0].strip("[]")])
    (consortium.superlink / "server.key").unlink(missing_ok=True)
    write_key(consortium.superlink / "server.key", key)
    write_certificate(consortium.superlink / "server.pem", certificate)
    write_certificate(consortium.superlink / "ca.pem", authority.certificate)


def _make_site(consortium: Consortium, name: str, authority: Authority) -> str:
    """Make one hospital's folder and return the fingerprint of its identity."""
    folder = consortium.site(name)
    (folder / PRIVATE).mkdir(parents=True, mode=0o700)
    # Nobody else may put another private folder in the place of this one, whatever the umask.
    folder.chmod(0o755)
    write_certificate(folder / "ca.pem", authority.certificate)
    fingerprint_, public = make_keys(folder)
    (consortium.superlink / "nodes" / f"{name}.pub").write_bytes(public)
    return fingerprint_


def make_keys(site: Path) -> tuple[str, bytes]:
    """Make a hospital's node key and identity key.

    Returns:
        The identity's fingerprint, which other hospitals pin, and the node's public key, which the
        SuperLink registers.

    Raises:
        FileExistsError: there are keys already; they are never overwritten.
    """
    private = site / PRIVATE
    private.mkdir(mode=0o700, exist_ok=True)
    write_node_key(private / "node.key", site / "node.pub")
    identity = Identity.load_or_create(private / "identity.key")
    return fingerprint(identity.public), (site / "node.pub").read_bytes()


def _check(folder: Path, address: str, hospitals: Sequence[str]) -> None:
    place = folder.absolute()
    app = app_folder()
    inside = place.relative_to(app).parts if place.is_relative_to(app) else ()
    if inside and not inside[0].startswith(UNBUNDLED):
        raise DeploymentError(
            f"{folder} is inside the app's own folder and would travel in its bundle; choose a "
            f"place outside, or a name that begins with {UNBUNDLED!r}."
        )
    if folder.exists() and any(folder.iterdir()):
        raise DeploymentError(f"{folder} is not empty; nothing was changed.")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeploymentError(f"{address!r} is no address; expected host:port.")
    bad = [name for name in hospitals if not _NAME.fullmatch(name)]
    if bad:
        raise DeploymentError(
            f"{bad[0]!r} is no hospital's name; use lower-case letters, digits and hyphens."
        )
    if len(set(hospitals)) != len(hospitals) or len(hospitals) < 2:
        raise DeploymentError("a consortium has at least two hospitals, each with its own name.")
