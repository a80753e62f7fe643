"""A SuperNode whose replies are tampered with between the app and the SuperLink."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def flip_a_bit(push: Any) -> Any:
    """Flip one bit of what a hospital sealed, after it was signed."""

    def push_tampered(client: Any, message: Any, context: Any) -> None:
        from flwr.app import Array

        from clients.contract.one_object import as_one_object, from_one_object

        content = from_one_object(message.content) if message.has_content() else {}
        arrays = content.array_records.get("arrays", {}) if content else {}
        if "sealed" in arrays:
            sealed = arrays["sealed"]
            data = bytearray(sealed.data)
            data[-20] ^= 1
            arrays["sealed"] = Array(sealed.dtype, sealed.shape, sealed.stype, bytes(data))
            message.content = as_one_object(content)
        push(client, message, context)

    return push_tampered


def tamper() -> None:
    """Have every reply of this process pass through `flip_a_bit`."""
    from flwr.supernode.runtime import run_clientapp

    run_clientapp.push_message = flip_a_bit(run_clientapp.push_message)


def run_altered(module: str, alter: Callable[[], None]) -> None:
    """Be the executor when asked as one, altered first, else the SuperNode that starts it."""
    if sys.argv[1].startswith("--"):
        from deployment import executor

        alter()
        executor.main()
        return
    from clients.site.site_file import read_site_file
    from deployment import supernode

    supernode.EXECUTOR = module
    supernode.run_supernode(read_site_file(Path(sys.argv[1])))


if __name__ == "__main__":
    run_altered("tests.deployment.tampering_node", tamper)
