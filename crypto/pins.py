"""Which key each hospital is known by: fingerprints compared by people, or those seen first.

Pins are a mapping of names to fingerprints. Where a hospital has chosen to trust whoever comes
first, they are a `FirstUse`: the first key seen for a name is pinned in the hospital's own folder,
and another key for that name is refused from then on.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from crypto.errors import PinMismatchError
from crypto.whole_file import locked, write_private


class FirstUse:
    """Pins of the first keys seen, kept in a file that only its owner can read."""

    def __init__(self, path: Path, own: Mapping[str, str]) -> None:
        """Keep pins at `path`.

        Args:
            path: The file; made with the first pin. Its folder must exist.
            own: Name and fingerprint of the hospital itself, which nobody else can take.
        """
        self.path = path
        self._own = dict(own)

    def of(self, seen: Mapping[str, str]) -> Mapping[str, str]:
        """The pins of these names; a name never seen before is pinned to what it shows.

        Args:
            seen: Fingerprints by name, each proven by a signature.

        Raises:
            PinMismatchError: The file cannot be read as what it should be.
            OSError: A new pin cannot be written; then nothing is pinned.
        """
        with locked(self.path.with_name(f".{self.path.name}.lock")):
            kept = {**self._read(), **self._own}
            pins = {**seen, **kept}
            if pins != kept or not self.path.exists():
                write_private(self.path, json.dumps(pins, indent=1, sort_keys=True).encode())
        return pins

    def known(self) -> Mapping[str, str]:
        """The pins so far, without pinning anybody.

        Raises:
            PinMismatchError: The file cannot be read as what it should be.
        """
        return {**self._read(), **self._own}

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise PinMismatchError(f"{self.path} is damaged: it holds no fingerprints by name")
        return found


#: Fingerprints by name (empty: none is pinned; when any is, all must be), or the first keys seen.
Pins = Mapping[str, str] | FirstUse


def known_pins(pins: Pins) -> Mapping[str, str]:
    """The fingerprints that are pinned by now, by name."""
    return pins.known() if isinstance(pins, FirstUse) else pins
