"""Flower's Control interface, spoken directly: which nodes are registered, which runs there are.

Flower's own commands start an interpreter for each question; one client asks them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from deployment.errors import DeploymentError, DeploymentFailed

if TYPE_CHECKING:
    from deployment.superlink_folder import SuperLinkFolder


@dataclass(frozen=True, kw_only=True)
class Node:
    """A SuperNode that may connect.

    Attributes:
        node_id: Flower's id, which stays with the key.
        name: the hospital's name.
        status: ``online``, ``offline`` or ``registered`` (never seen).
        public_key: its P-384 public key as PEM.
    """

    node_id: int
    name: str
    status: str
    public_key: bytes


class Control:
    """A SuperLink's Control interface."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def nodes(self) -> list[Node]:
        """Return the nodes that may connect, by name."""
        from flwr.proto.control_pb2 import ListNodesRequest

        found = [
            Node(
                node_id=node.node_id,
                name=node.name or f"node {node.node_id}",
                status=node.status,
                public_key=node.public_key,
            )
            for node in self._client.ListNodes(ListNodesRequest()).nodes_info
            if node.status != "unregistered"
        ]
        return sorted(found, key=lambda node: node.name)

    def register(self, name: str, public_key: bytes) -> None:
        """Let a node with this key (PEM) connect."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        self._client.RegisterNode(request=RegisterNodeRequest(public_key=public_key, name=name))

    def unregister(self, node: Node) -> None:
        """Let a node connect no more."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._client.UnregisterNode(request=UnregisterNodeRequest(node_id=node.node_id))

    def runs(self, run_id: int | None = None, *, limit: int = 10) -> dict[int, str]:
        """Return the newest runs, or one, with a status such as ``finished:completed``."""
        from flwr.proto.control_pb2 import ListRunsRequest

        request = ListRunsRequest(limit=limit) if run_id is None else ListRunsRequest(run_id=run_id)
        runs = self._client.ListRuns(request).run_dict
        return {
            int(number): ":".join(filter(None, (run.status.status, run.status.sub_status)))
            for number, run in runs.items()
        }


@contextmanager
def control_of(link: SuperLinkFolder) -> Iterator[Control]:
    """Connect to a SuperLink's Control interface, on its own machine.

    Raises:
        DeploymentError: it does not answer, or refuses.
    """
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    client = ControlHttpClient.from_server_address(
        server_address=link.local_address,
        insecure=False,
        root_certificates=(link.folder / "ca.pem").read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        yield Control(client)
    except httpx.HTTPStatusError as error:
        raise DeploymentFailed(
            f"the SuperLink at {link.local_address} refused: {error.response.status_code} "
            f"{error.response.text.strip()}"
        ) from None
    except (httpx.HTTPError, ConnectionError) as error:
        raise DeploymentFailed(
            f"no SuperLink answers at {link.local_address} ({error}); "
            f"start it with 'asclepias superlink {link.folder}'."
        ) from None
    finally:
        client.close()


def read_public_key(path: Path) -> bytes:
    """Read a node's public key from an OpenSSH file; return it as PEM.

    Raises:
        DeploymentError: the file holds no such key.
    """
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{path} holds no public key: {error}") from None
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
