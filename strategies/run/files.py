"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file in one step: a reader sees the old content or the new.

    Args:
        path: the file.
        content: all of it.
        durable: wait until it has reached the disk itself, so that it survives a power cut; a
            killed process loses nothing either way.
    """
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(draft, path)
