"""The keys that one ceremony makes and hospitals alone hold.

`Keys` shows nothing by itself: no secret in its repr, no pickle, no copy. Only `to_bytes`, called
by name, gives them out, for the wrapped message of the ceremony and for a site's own keyring file.
"""

import hashlib
import hmac
import os
import struct
from typing import NoReturn

from crypto.errors import KeyMismatchError, KeysError
from crypto.frames import KEY_ID_BYTES
from crypto.pairs import PairKeys
from crypto.plans import SealingPlan

_MAGIC = b"AKEY\x01"
_GROUP_KEY_BYTES = 32
_SIZES = struct.Struct("<II")
_MOST = 1 << 24


class Keys:
    """Secret and public key of the scheme, and the hospitals' group key.

    Attributes:
        parameter_id: The plan these keys belong to, hex.
        group_key: 32 bytes: tags, and envelopes among hospitals.
        secret: The scheme's secret key (SEAL bytes); empty for plain and modular.
        public: The scheme's public key; empty where there is none.
        pairs: One hospital's keys with every other, which it derives for itself; no part of what
            is wrapped, stored or named by `key_id`. None where the scheme has none.
    """

    __slots__ = ("_digest", "_ready", "group_key", "pairs", "parameter_id", "public", "secret")

    def __init__(
        self,
        *,
        parameter_id: str,
        group_key: bytes,
        secret: bytes,
        public: bytes,
        pairs: PairKeys | None = None,
    ) -> None:
        if len(group_key) != _GROUP_KEY_BYTES:
            raise KeysError(f"group key of {len(group_key)} bytes, expected {_GROUP_KEY_BYTES}")
        if len(bytes.fromhex(parameter_id)) != 32:
            raise KeysError("parameter id is no SHA-256 digest")
        self.parameter_id = parameter_id
        self.group_key = group_key
        self.secret = secret
        self.public = public
        self.pairs = pairs
        self._digest = b""
        self._ready: object = None

    def with_pairs(self, pairs: PairKeys) -> "Keys":
        """These keys together with one hospital's own pair keys."""
        return Keys(
            parameter_id=self.parameter_id,
            group_key=self.group_key,
            secret=self.secret,
            public=self.public,
            pairs=pairs,
        )

    @classmethod
    def fresh(cls, plan: SealingPlan, *, secret: bytes = b"", public: bytes = b"") -> "Keys":
        """Keys for `plan` with a new group key."""
        return cls(
            parameter_id=plan.parameter_id,
            group_key=os.urandom(_GROUP_KEY_BYTES),
            secret=secret,
            public=public,
        )

    @property
    def key_id(self) -> bytes:
        """A public name of these keys: a PRF under them, it tells nothing else."""
        return self.digest[:KEY_ID_BYTES]

    @property
    def digest(self) -> bytes:
        """All of that PRF, 32 bytes: equal for the same keys alone; made once."""
        if not self._digest:
            mac = hmac.new(self.group_key, b"asclepias key id", hashlib.sha256)
            mac.update(bytes.fromhex(self.parameter_id))
            mac.update(hashlib.sha256(self.secret).digest() + hashlib.sha256(self.public).digest())
            self._digest = mac.digest()
        return self._digest

    def hold(self, ready: object) -> None:
        """Let something that was made of these keys live as long as they do."""
        self._ready = ready

    def require(self, plan: SealingPlan) -> None:
        """Refuse to be used under another plan."""
        if plan.parameter_id != self.parameter_id:
            raise KeyMismatchError(
                f"keys belong to parameters {self.parameter_id[:16]}, not {plan.parameter_id[:16]}"
            )

    def to_bytes(self) -> bytes:
        """Everything, secrets included: for a wrapped message or a 0600 file, nothing else."""
        sizes = _SIZES.pack(len(self.secret), len(self.public))
        body = b"".join(
            (
                _MAGIC,
                bytes.fromhex(self.parameter_id),
                self.group_key,
                sizes,
                self.secret,
                self.public,
            )
        )
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Keys":
        """Read `to_bytes`.

        Raises:
            KeysError: The bytes are no keys or were changed; the message shows none of them.
        """
        start = len(_MAGIC) + 32 + _GROUP_KEY_BYTES + _SIZES.size
        if not start + 32 <= len(data) <= _MOST or not data.startswith(_MAGIC):
            raise KeysError(f"{len(data)} bytes are no keys")
        body, digest = data[:-32], data[-32:]
        if not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
            raise KeysError("the keys' checksum does not match")
        secret, public = _SIZES.unpack_from(body, start - _SIZES.size)
        if len(body) != start + secret + public:
            raise KeysError("the keys' sizes do not match")
        at = len(_MAGIC)
        return cls(
            parameter_id=body[at : at + 32].hex(),
            group_key=body[at + 32 : at + 32 + _GROUP_KEY_BYTES],
            secret=body[start : start + secret],
            public=body[start + secret :],
        )

    def __repr__(self) -> str:
        return f"Keys(parameter_id={self.parameter_id[:16]!r}, secrets hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and hmac.compare_digest(self.to_bytes(), other.to_bytes())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise KeysError("keys are never pickled or copied; to_bytes is explicit")
