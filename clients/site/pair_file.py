"""A hospital's keys with every other, in its folder: they move on with the rounds, and never back.

Who takes the folder after a round is over finds nothing that opens what was masked in it. The file
is written whole, over the one before, and flushed before what was moved past is relied upon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from clients.contract.faults import Code, Fault
from crypto.errors import KeysError
from crypto.pairs import PairKeys

if TYPE_CHECKING:
    from crypto.keys import Keys


class Folder(Protocol):
    """Where a hospital keeps its files."""

    def write_secret(self, name: str, data: bytes) -> None:
        """Write a file for the owner alone, whole or not at all."""

    def read_secret(self, name: str) -> bytes | None:
        """Read it, or return ``None``."""


class PairFile:
    """The pair keys of one training, on disk."""

    def __init__(self, folder: Folder, training: str) -> None:
        self._folder, self._name = folder, f"pairs-{training}.bin"

    def write(self, pairs: PairKeys) -> None:
        """Keep the keys of a ceremony, or those of a later round in place of an earlier one's."""
        self._folder.write_secret(self._name, pairs.to_bytes())

    def added_to(self, keys: Keys) -> Keys:
        """Return the training's keys together with its pair keys.

        Raises:
            Fault: ``keys-missing``: there is no file, or it holds no pair keys.
        """
        data = self._folder.read_secret(self._name)
        if data is None:
            raise Fault(Code.KEYS_MISSING, f"there is no {self._name} in the folder")
        try:
            return keys.with_pairs(PairKeys.from_bytes(data))
        except KeysError as error:
            raise Fault(Code.KEYS_MISSING, f"{self._name}: {error}") from error

    def past(self, keys: Keys, round: int) -> Keys:
        """Return the training's keys with those of all earlier rounds gone, from the disk first.

        Where they are of this round or a later one, or there are none, nothing is done.
        """
        if keys.pairs is None or round <= keys.pairs.round:
            return keys
        later = keys.pairs.at(round)
        self.write(later)
        return keys.with_pairs(later)
