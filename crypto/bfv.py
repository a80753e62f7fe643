"""BFV by TenSEAL's SEAL: exact sums of tagged, packed integers under encryption.

Two key modes. ``symmetric``: hospitals hold the secret key anyway, so they encrypt under it and
send a 64-byte seed in place of the second polynomial: half the bytes up. ``public``: both
polynomials travel, the server has no seed to expand. The server adds residues modulo q with numpy,
and parses no ciphertext of SEAL's. Security: RLWE with n = 4096 and q of 60 bits (109 with the
special prime of public-key encryption), at least 128 bits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from crypto.errors import ContributionError, FrameError
from crypto.frames import Content, Frame, read_frame, write_frame
from crypto.keys import Keys
from crypto.lattice import (
    Decryptor,
    Encryptor,
    Lattice,
    Residues,
    Scaler,
    SeedSum,
    lattice,
    scratch,
)
from crypto.packing import from_planes, plane_bytes, to_planes
from crypto.parameters import CKKS_SCALE_BITS, COEFFICIENT_PRIME
from crypto.plans import SealingPlan
from crypto.prepared import Prepared
from crypto.roles import Place, Sealed, Vector
from crypto.vectors import Tagging, check_contributors, check_seeds, from_slots, new_nonce

# Sums of up to 15 residues below 2**60 fit uint64, so reduction waits.
_LAZY = 15


def lattice_of(plan: SealingPlan) -> Lattice:
    """The public lattice of a plan, cached per process."""
    scale = 2.0**CKKS_SCALE_BITS if plan.scheme == "ckks" else 1.0
    primes = (COEFFICIENT_PRIME, *([plan.special_prime] if plan.special_prime else []))
    return lattice(plan.degree, primes, plan.plain_modulus, scale)


def make_lattice_keys(plan: SealingPlan) -> Keys:
    """A new key pair and group key."""
    secret, public = lattice_of(plan).make_keys()
    # With seeds nobody encrypts under the public key, so it need not travel.
    return Keys.fresh(plan, secret=secret, public=public if plan.key_mode == "public" else b"")


#: Encryptors by their keys' digest. Hospitals of one process hold the same keys, and share one.
_ENCRYPTORS: WeakValueDictionary[bytes, Encryptor] = WeakValueDictionary()


def encryptor_of(plan: SealingPlan, keys: Keys) -> Encryptor:
    """The encryptor of keys, made once; it goes when the last of them go."""
    found = _ENCRYPTORS.get(keys.digest)
    if found is None:
        secret = keys.secret if plan.key_mode == "symmetric" else b""
        found = lattice_of(plan).encryptor(secret=secret, public=keys.public)
        _ENCRYPTORS[keys.digest] = found
    keys.hold(found)
    return found


class BfvSealer:
    """Quantises, packs, tags and encrypts."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        keys.require(plan)
        self._plan, self._keys, self._hospital = plan, keys, hospital
        self._encryptor = encryptor_of(plan, keys)

    def prepare(self, place: Place, *, ahead: bool = False) -> Prepared:
        """Draw the nonce and what of the tags depends on no vector; ahead, encrypt noughts too."""
        tagging = Tagging(self._plan, self._keys, self._hospital, new_nonce(), place)
        noughts = encrypt_noughts(self._plan, self._encryptor) if ahead else None
        return Prepared(self._hospital, place, partial(self._finish, tagging, noughts))

    def seal(self, values: Vector, place: Place, seeds: Sequence[bytes] = ()) -> Sealed:
        """Seal float64 `[d]`; every call draws fresh encryption randomness inside SEAL."""
        return self.prepare(place).seal(values, seeds)

    def _finish(
        self, tagging: Tagging, noughts: "Noughts | None", values: Vector, seeds: Sequence[bytes]
    ) -> Sealed:
        check_seeds(seeds, self._plan)
        plan, key_id, nonce = self._plan, self._keys.key_id, tagging.nonce
        rows = tagging.slots(values)
        if noughts is None:
            return encrypt_rows(rows, plan, self._encryptor, key_id, nonce)
        return add_rows(rows, noughts, plan, key_id, nonce)


class BfvAdder:
    """Adds residues modulo q; holds public parameters only.

    Its memory is that of two ciphertext vectors, the sum and the one coming in, whatever K.
    """

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._key_id = plan, key_id
        seeded = plan.key_mode == "symmetric"
        shape = (1 if seeded else 2, plan.ciphertexts, plan.degree)
        self._sum = np.zeros(shape, dtype=np.uint64)
        self._incoming = np.empty(shape, dtype=np.uint64)
        self._seeds = SeedSum(lattice_of(plan), plan.ciphertexts) if seeded else None
        self._contributions = self._unreduced = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector; on an error the sum is as before."""
        plan = self._plan
        frame = read_frame(sealed, plan, content=Content.SINGLE, key_id=self._key_id)
        if self._contributions >= plan.hospitals:
            raise ContributionError(f"more than the planned {plan.hospitals} contributions")
        seeds = read_blocks(frame, plan, self._incoming)
        if self._unreduced == _LAZY:
            self._reduce()
        if self._seeds is not None:
            self._seeds.add(seeds)
        self._sum += self._incoming
        self._key_id = frame.key_id
        self._unreduced += 1
        self._contributions += 1

    def _reduce(self) -> None:
        self._sum %= np.uint64(COEFFICIENT_PRIME)
        self._unreduced = 1

    def total(self) -> Sealed:
        """The sum so far."""
        if not self._contributions or self._key_id is None:
            raise ContributionError("a sum of no contributions")
        self._reduce()
        expanded = self._sum[-1] if self._seeds is None else self._seeds.residues()
        body = []
        for first, second in zip(self._sum[0], expanded, strict=True):
            body += write_block(first, second, self._plan, Content.TOTAL)
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=self._key_id,
            contributions=self._contributions,
            body=body,
        )


class BfvOpener:
    """Decrypts sums and checks the tag of every ciphertext."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        keys.require(plan)
        self._plan, self._keys = plan, keys
        self._decryptor = lattice_of(plan).decryptor(keys.secret)

    def open(self, total: Sealed, contributors: Mapping[str, bytes], place: Place) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`."""
        plan = self._plan
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, plan.hospitals)
        rows = decrypt_rows(frame, plan, self._decryptor)
        return from_slots(rows, plan, self._keys, contributors, place)


def encrypt_rows(
    rows: Iterable[NDArray[Any]],
    plan: SealingPlan,
    encryptor: Encryptor,
    key_id: bytes,
    nonce: bytes,
) -> Sealed:
    """Encrypt rows of slots into a frame."""
    with scratch() as file:
        body = _body((encryptor.encrypt(row, file) for row in rows), plan)
    return write_frame(
        plan, content=Content.SINGLE, key_id=key_id, contributions=1, body=body, nonce=nonce
    )


class Noughts(NamedTuple):
    """Encryptions of nought: a vector is added to them where they lie, and they are its sealing.

    Attributes:
        first: uint64 `[ciphertexts, n]`.
        second: Second polynomials, or their seeds.
    """

    first: Residues
    second: list[Residues | bytes]

    def __repr__(self) -> str:
        return "Noughts(hidden)"


def encrypt_noughts(plan: SealingPlan, encryptor: Encryptor) -> Noughts:
    """Encrypt as many noughts as a vector has ciphertexts: more than half of what sealing takes."""
    first = np.empty((plan.ciphertexts, plan.degree), dtype=np.uint64)
    second = []
    with scratch() as file:
        for out in first:
            out[:], other = encryptor.nought(file)
            second.append(other)
    return Noughts(first, second)


def add_rows(
    rows: Iterable[NDArray[np.uint64]],
    noughts: Noughts,
    plan: SealingPlan,
    key_id: bytes,
    nonce: bytes,
) -> Sealed:
    """Add rows of slots to encryptions of nought, which they use up, and frame them."""
    with scratch() as file:
        scaler = Scaler(lattice_of(plan), file)
        for row, first in zip(rows, noughts.first, strict=True):
            scaler.add(row, first)
    body = _body(zip(noughts.first, noughts.second, strict=True), plan)
    return write_frame(
        plan, content=Content.SINGLE, key_id=key_id, contributions=1, body=body, nonce=nonce
    )


def _body(
    ciphertexts: Iterable[tuple[Residues, Residues | bytes]], plan: SealingPlan
) -> list[bytes]:
    body: list[bytes] = []
    for first, second in ciphertexts:
        body += write_block(first, second, plan, Content.SINGLE)
    return body


def decrypt_rows(frame: Frame, plan: SealingPlan, decryptor: Decryptor) -> Iterator[NDArray[Any]]:
    """Decrypt a total whose length has been checked, a row of slots at a time."""
    residues = np.empty((2, plan.ciphertexts, plan.degree), dtype=np.uint64)
    read_blocks(frame, plan, residues)
    with scratch() as file:
        for first, second in zip(*residues, strict=True):
            yield decryptor.decrypt(first, second, file)


def _bits_cut(plan: SealingPlan, content: Content) -> tuple[int, int]:
    return (plan.bits_cut_up, 0) if content is Content.SINGLE else plan.bits_cut_down


def write_block(
    first: Residues, second: Residues | bytes, plan: SealingPlan, content: Content
) -> list[bytes]:
    """One ciphertext's bytes: planes of residues without their low bits, and planes or a seed."""
    first_width, second_width = plan.residue_bits(total=content is Content.TOTAL)
    low, second_low = _bits_cut(plan, content)
    planes = to_planes(first >> np.uint64(low), first_width)
    if isinstance(second, bytes):
        return [planes, second]
    return [planes, to_planes(second >> np.uint64(second_low), second_width)]


def read_blocks(frame: Frame, plan: SealingPlan, out: Residues) -> list[bytes]:
    """Undo `write_block` for all ciphertexts of a frame.

    Args:
        frame: A frame whose head and length have been checked.
        plan: What it was made under.
        out: Overwritten with residues below q, uint64 `[1 or 2, ciphertexts, n]`.

    Returns:
        The seeds, where the second polynomial travels as one.

    Raises:
        FrameError: A residue that cannot be.
    """
    first_width, second_width = plan.residue_bits(total=frame.content is Content.TOTAL)
    lows = _bits_cut(plan, frame.content)
    blocks = frame.blocks(plan.ciphertexts)
    cut = plane_bytes(plan.degree, first_width)
    from_planes(blocks[:, :cut], first_width, out[0])
    _restore(out[0], lows[0])
    if second_width == 0:
        return [seed.tobytes() for seed in blocks[:, cut:]]
    from_planes(blocks[:, cut:], second_width, out[1])
    _restore(out[1], lows[1])
    return []


def _restore(residues: Residues, low: int) -> None:
    """Put the middle of their range in the place of the low bits that stayed behind."""
    if int(residues.max()) > (COEFFICIENT_PRIME - 1) >> low:
        raise FrameError("a residue is not below the coefficient prime")
    if low:
        residues <<= np.uint64(low)
        residues += np.uint64(1 << (low - 1))
        # The topmost half-step alone can pass q.
        np.minimum(residues, np.uint64(COEFFICIENT_PRIME - 1), out=residues)
