"""What a hospital calls its patients outside, and when: names and shifts under a key of its own.

    key = read_key(Path("pseudonyms.key"))         # made if there is none; its owner's alone
    key.pseudonym("patient 17")                    # 'k3vq...': the same in every table of this site
    key.position("patient 17", among=300)          # 0 to 299: where the patient's dates begin

Without the key nobody can compute either from a name, or try names one after the other, as with a
plain digest. Whoever has it can: it stays where the names are.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import stat
from pathlib import Path

from clients.data.errors import DataError
from crypto.whole_file import write_private

_BYTES = 32
#: Letters of a pseudonym: 130 bits, so that no two patients ever share one by chance.
_LETTERS = 26


class PseudonymKey:
    """A site's secret; it is in no repr, and is not pickled."""

    __slots__ = ("__secret",)

    def __init__(self, secret: bytes) -> None:
        self.__secret = secret

    def __repr__(self) -> str:
        return "PseudonymKey(...)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key for pseudonyms stays in its process and its file")

    def pseudonym(self, patient: str) -> str:
        """Return a patient's name outside."""
        found = base64.b32encode(self._digest("pseudonym", patient)).decode().lower()
        return found[:_LETTERS]

    def position(self, patient: str, *, among: int) -> int:
        """Return one of so many places, all equally likely to whoever lacks the key."""
        return int.from_bytes(self._digest("dates", patient)) % among

    def _digest(self, purpose: str, patient: str) -> bytes:
        text = f"asclepias {purpose}\0{patient}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.__secret, text, "sha256")


def read_key(path: Path) -> PseudonymKey:
    """Return the key in a file; where there is none, a new one is made and kept there.

    Raises:
        DataError: `key`: others may read the file, or it holds no key.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"{path.parent}: no such folder for the key of pseudonyms", code="key")
        made = secrets.token_bytes(_BYTES)
        write_private(path, made.hex().encode() + b"\n", anew=True)
        return PseudonymKey(made)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise DataError(
            f"{path} is to hold the key of pseudonyms, and others may read it (mode "
            f"{stat.S_IMODE(mode):o}, expected a plain file of mode 600). Whoever has it can tell "
            "whose rows are whose: make another, unless you are sure that nobody has read it",
            code="key",
        )
    try:
        held = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (ValueError, OSError):
        held = b""
    if len(held) != _BYTES:
        raise DataError(
            f"{path} holds no key of pseudonyms, expected {2 * _BYTES} hex digits. Name another "
            "file by --key; a new one gives every patient another pseudonym",
            code="key",
        )
    return PseudonymKey(held)
