"""The tensors that trainings begin with, known by their digest: public, and sent once.

A process that comes into a training later finds them in the user's cache. Whatever is read is held
against the digest that the terms of the training name.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from asclepias.told import NotTold, digest_of
from clients.models.errors import ModelError
from clients.models.kept_features import user_cache
from crypto.whole_file import write_shared

if TYPE_CHECKING:
    import torch

#: Files that are kept, and bytes of all of them; those used longest ago go first.
_MOST_FILES, MOST_BYTES = 16, 2 * 1024**3


class Beginnings:
    """Where one process finds the tensors that its trainings begin with."""

    def __init__(self) -> None:
        self._here: dict[str, bytes] = {}

    def keep(self, initial: bytes) -> None:
        """Have what a training begins with at hand, in memory alone: any server sends some.

        Raises:
            NotTold: it is larger than all that is kept.
        """
        if len(initial) > MOST_BYTES:
            raise NotTold(f"tensors of {len(initial)} bytes, at most {MOST_BYTES} are kept")
        self._here = {digest_of(initial): initial}

    def write_down(self, digest: str) -> None:
        """Leave what is at hand to other processes, once the hospital has joined its training."""
        initial, folder = self._here.get(digest, b""), _folder()
        if not initial or folder is None:
            return
        file = folder / f"{digest}.safetensors"
        with suppress(OSError):  # a full disk: a later process asks for them in vain
            if not file.exists():
                write_shared(file, initial, durable=False)
            _make_room(folder)

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


def _make_room(folder: Path) -> None:
    """Remove those that were used longest ago, where there are too many or too much of them."""
    room = MOST_BYTES
    newest = sorted(folder.glob("*.safetensors"), key=lambda file: _state(file)[0], reverse=True)
    for number, file in enumerate(newest):
        room -= _state(file)[1]
        if number >= _MOST_FILES or room < 0:
            file.unlink(missing_ok=True)


def _state(file: Path) -> tuple[float, int]:
    """Return when a file was written, and its size."""
    try:
        found = file.stat()
    except OSError:
        return 0.0, 0
    return found.st_mtime, found.st_size
