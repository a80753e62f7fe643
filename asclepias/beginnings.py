"""The tensors that trainings begin with, known by their digest: public, and sent once.

A process that comes into a training later finds them in the user's cache. Whatever is read is held
against the digest that the terms of the training name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asclepias.told import digest_of
from clients.models.errors import ModelError
from clients.models.kept_features import user_cache
from crypto.whole_file import write_shared

if TYPE_CHECKING:
    import torch

#: Files that are kept; those used longest ago go first.
_MOST_FILES = 16


class Beginnings:
    """Where one process finds the tensors that its trainings begin with."""

    def __init__(self) -> None:
        self._here: dict[str, bytes] = {}

    def keep(self, initial: bytes) -> None:
        """Keep what a training begins with."""
        digest = digest_of(initial)
        if digest in self._here:
            return
        self._here = {digest: initial}
        if (folder := _folder()) is None:
            return
        file = folder / f"{digest}.safetensors"
        if not file.exists():
            write_shared(file, initial, durable=False)
        for old in sorted(folder.glob("*.safetensors"), key=_age)[:-_MOST_FILES]:
            old.unlink(missing_ok=True)

    def tensors(self, digest: str) -> dict[str, torch.Tensor]:
        """Return the tensors of a digest.

        Raises:
            ModelError: they are not here, or what is here is something else.
        """
        from safetensors.torch import load

        return dict(load(self._found(digest)))

    def _found(self, digest: str) -> bytes:
        if digest in self._here:
            return self._here[digest]
        folder = _folder()
        file = folder / f"{digest}.safetensors" if folder is not None else None
        try:
            found = file.read_bytes() if file is not None else b""
        except OSError:
            found = b""
        if not digest or digest_of(found) != digest:
            raise ModelError(
                f"the tensors {digest[:16] or '(none)'} that the training begins with are not on "
                "this machine; they come with its first message, into the user's cache",
                code="missing-file",
            )
        self._here = {digest: found}
        return found


def _folder() -> Path | None:
    cache = user_cache()
    if cache is None:
        return None
    folder = cache / "beginnings"
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
