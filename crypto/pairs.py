"""Keys between pairs of hospitals, for masks and envelopes that no third hospital can open.

Every two hospitals of a training share a root that both derive from the offers of the ceremony
(X25519), bound to the training's terms and members; the server and all others lack it. A ratchet
leads from the root of one round to that of the next, and not back: who steals a hospital's folder
after round r cannot open what was masked or wrapped in a round before.

    pairs = PairKeys.derive(offers, secret, "a", bind)   # every hospital, when its keys come
    later = pairs.at(7)                                  # written over the old one: no way back
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from crypto.ephemeral import EphemeralSecret
from crypto.errors import KeysError
from crypto.offers import Offer
from crypto.roles import Place

Mask = NDArray[np.uint16]

_ROOT_BYTES = 32
_FORMAT = 2


class PairKeys:
    """One hospital's keys with every other, at one round; they show nothing by themselves.

    Attributes:
        hospital: Whose they are.
        bind: Digest of the training's terms and members that they belong to, 32 bytes.
        round: The round that they are of; earlier ones cannot be come by any more.
        committee: Who holds shares, where that was drawn in the ceremony; else empty.
    """

    __slots__ = ("_roots", "bind", "committee", "hospital", "round")

    def __init__(
        self,
        *,
        hospital: str,
        bind: bytes,
        round: int,
        roots: Mapping[str, bytes],
        committee: Sequence[str] = (),
    ) -> None:
        if any(len(root) != _ROOT_BYTES for root in roots.values()):
            raise KeysError("pair keys of other sizes")
        if len(bind) != 32 or round < 0:
            raise KeysError("pair keys of no round, or bound to nothing")
        self.hospital, self.bind, self.round = hospital, bind, round
        self.committee = tuple(committee)
        self._roots = dict(sorted(roots.items()))

    @classmethod
    def derive(
        cls,
        offers: Sequence[Offer],
        secret: EphemeralSecret,
        hospital: str,
        bind: bytes,
        committee: Sequence[str] = (),
    ) -> "PairKeys":
        """The keys of round 0, from checked offers and the secret half of one's own.

        Raises:
            KeysError: The own offer is not among them.
            CeremonyError: An offer's key is of low order.
        """
        own = [offer for offer in offers if offer.name == hospital]
        if len(own) != 1 or own[0].ephemeral != secret.public:
            raise KeysError(f"the offer of {hospital!r} is not among those that keys are made of")
        roots = {}
        for offer in offers:  # the own one too: a hospital may hold a share of its own key
            names = b"".join(_framed(name) for name in sorted((hospital, offer.name)))
            info = b"asclepias pair 1" + _framed(offer.training) + bind + names
            derive = HKDF(algorithm=SHA256(), length=_ROOT_BYTES, salt=None, info=info)
            roots[offer.name] = derive.derive(secret.shared(offer.ephemeral))
        return cls(hospital=hospital, bind=bind, round=0, roots=roots, committee=committee)

    @property
    def others(self) -> tuple[str, ...]:
        """The other hospitals, sorted."""
        return tuple(name for name in self._roots if name != self.hospital)

    def at(self, round: int) -> "PairKeys":
        """The keys of a later round, or these.

        Raises:
            KeysError: The round is over for this hospital: its keys are gone.
        """
        if round < self.round:
            raise KeysError(f"the pair keys of round {round} are gone, they stand at {self.round}")
        roots = dict(self._roots)
        for _ in range(round - self.round):
            roots = {name: hmac.digest(root, b"next", "sha256") for name, root in roots.items()}
        return PairKeys(
            hospital=self.hospital,
            bind=self.bind,
            round=round,
            roots=roots,
            committee=self.committee,
        )

    def key(self, other: str, purpose: bytes, place: Place, *labels: bytes) -> bytes:
        """A key for one purpose at one place with one other hospital, 32 bytes.

        Raises:
            KeysError: No such hospital, or the place's round is over.
        """
        keys = self if place.round == self.round else self.at(place.round)
        if other not in keys._roots:
            raise KeysError(f"no pair key with {other!r}")
        digest = place.digest(purpose, self.bind, *labels)
        return hmac.digest(keys._roots[other], digest, "sha256")

    def masks(self, place: Place, count: int) -> Mask:
        """What this hospital masks its key with: the sum over all hospitals is nought.

        Returns:
            uint16 `[count]`: the sum of pseudorandom words with every later name, less those with
            every earlier one, modulo 2**16.
        """
        keys, digest = self.at(place.round), place.digest(b"asclepias mask 1", self.bind)
        return stream_sum(
            (
                (hmac.digest(keys._roots[other], digest, "sha256"), other > self.hospital)
                for other in keys.others
            ),
            count,
        )

    def to_bytes(self) -> bytes:
        """Everything, secrets included: for the hospital's own 0600 file, nothing else."""
        body = json.dumps(
            {
                "bind": self.bind.hex(),
                "committee": list(self.committee),
                "format": _FORMAT,
                "hospital": self.hospital,
                "roots": {name: root.hex() for name, root in self._roots.items()},
                "round": self.round,
            },
            sort_keys=True,
        ).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "PairKeys":
        """Read `to_bytes`.

        Raises:
            KeysError: The bytes are no pair keys or were changed; the message shows none of them.
        """
        digest, _, body = data.partition(b"\n")
        if not hmac.compare_digest(digest, hashlib.sha256(body).hexdigest().encode()):
            raise KeysError("the pair keys' checksum does not match")
        try:
            document = json.loads(body)
            if document.pop("format") != _FORMAT:
                raise KeysError("pair keys of another format")
            roots = {name: bytes.fromhex(root) for name, root in document.pop("roots").items()}
            return cls(roots=roots, bind=bytes.fromhex(document.pop("bind")), **document)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise KeysError(f"{len(data)} bytes are no pair keys") from None

    def __repr__(self) -> str:
        return f"PairKeys(hospital={self.hospital!r}, round={self.round}, secrets hidden)"

    def __reduce__(self) -> NoReturn:
        raise KeysError("pair keys are never pickled or copied; to_bytes is explicit")


def _framed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def stream_sum(keys: Iterable[tuple[bytes, bool]], count: int) -> Mask:
    """The sum of pseudorandom words under some keys, each added or taken off, modulo 2**16.

    Args:
        keys: Keys that are used for nothing else, and whether their words are added.
        count: How many words.
    """
    total, zeros = np.zeros(count, dtype=np.uint16), bytes(2 * count)
    stream = bytearray(2 * count + 15)
    words = np.frombuffer(stream, dtype="<u2", count=count)
    for key, added in keys:
        Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update_into(zeros, stream)
        if added:
            total += words
        else:
            total -= words
    return total
