"""BFV by TenSEAL's SEAL: exact sums of tagged, packed integers under encryption.

Two key modes. ``symmetric``: hospitals hold the secret key anyway, so they encrypt under it and
send a 64-byte seed in place of the second polynomial: half the bytes up. ``public``: both
polynomials travel, the server has no seed to expand. The server adds residues modulo q with numpy,
and parses no ciphertext of SEAL's. Security: RLWE with n = 4096 and q of 60 bits (109 with the
special prime of public-key encryption), at least 128 bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import ContributionError, FrameError
from crypto.frames import SEED_BYTES, Content, read_frame, widths, write_frame
from crypto.keys import Keys
from crypto.lattice import Decryptor, Encryptor, Lattice, Residues, SeedSum, lattice, scratch
from crypto.packing import from_planes, plane_bytes, to_planes
from crypto.plans import CKKS_SCALE_BITS, COEFFICIENT_PRIME, SealingPlan
from crypto.roles import Place, Sealed, Vector
from crypto.vectors import check_contributors, from_slots, to_slots

# Sums of up to 15 residues below 2**60 fit uint64, so reduction waits.
_LAZY = 15


def lattice_of(plan: SealingPlan) -> Lattice:
    """The public lattice of a plan, cached a process."""
    scale = 2.0**CKKS_SCALE_BITS if plan.scheme == "ckks" else 1.0
    primes = (COEFFICIENT_PRIME, *([plan.special_prime] if plan.special_prime else []))
    return lattice(plan.degree, primes, plan.plain_modulus, scale)


def make_lattice_keys(plan: SealingPlan) -> Keys:
    """A new key pair and group key."""
    secret, public = lattice_of(plan).make_keys()
    return Keys.fresh(plan, secret=secret, public=public)


class BfvSealer:
    """Quantises, packs, tags and encrypts."""

    def __init__(self, plan: SealingPlan, keys: Keys, hospital: str) -> None:
        keys.require(plan)
        self._plan, self._keys, self._hospital = plan, keys, hospital
        secret = keys.secret if plan.key_mode == "symmetric" else b""
        self._encryptor = lattice_of(plan).encryptor(secret=secret, public=keys.public)

    def seal(self, values: Vector, place: Place) -> Sealed:
        """Seal float64 `[d]`; every call draws fresh encryption randomness inside SEAL."""
        plan = self._plan
        slots = to_slots(values, plan, self._keys, self._hospital, place)
        return encrypt_rows(slots, plan, self._encryptor, self._keys.key_id)


class BfvAdder:
    """Adds residues modulo q; holds public parameters only."""

    def __init__(self, plan: SealingPlan, key_id: bytes | None) -> None:
        self._plan, self._key_id = plan, key_id
        self._lattice = lattice_of(plan)
        count = plan.ciphertexts * plan.degree
        self._first = np.zeros(count, dtype=np.uint64)
        seeded = plan.key_mode == "symmetric"
        self._second = np.zeros(0 if seeded else count, dtype=np.uint64)
        self._seeds = SeedSum(self._lattice, plan.ciphertexts) if seeded else None
        self._contributions = self._unreduced = 0

    @property
    def contributions(self) -> int:
        """Vectors in the sum."""
        return self._contributions

    def add(self, sealed: Sealed) -> None:
        """Fold in one vector; on an error the sum is as before."""
        frame = read_frame(sealed, self._plan, content=Content.SINGLE, key_id=self._key_id)
        if self._contributions >= self._plan.hospitals:
            raise ContributionError(f"more than the planned {self._plan.hospitals} contributions")
        first, second, seeds = read_body(frame.body, self._plan, Content.SINGLE)
        if self._unreduced == _LAZY:
            self._reduce()
        if self._seeds is not None:
            with scratch() as file:
                self._seeds.add(seeds, file)
        else:
            self._second += second
        self._first += first
        self._key_id = frame.key_id
        self._unreduced += 1
        self._contributions += 1

    def _reduce(self) -> None:
        self._first %= np.uint64(COEFFICIENT_PRIME)
        self._second %= np.uint64(COEFFICIENT_PRIME)
        self._unreduced = 1

    def total(self) -> Sealed:
        """The sum so far."""
        if not self._contributions or self._key_id is None:
            raise ContributionError("a sum of no contributions")
        self._reduce()
        second = self._second
        if self._seeds is not None:
            second = np.concatenate(self._seeds.residues())
        down, (first_width, second_width) = (
            self._plan.dropped_down,
            widths(self._plan, Content.TOTAL),
        )
        return write_frame(
            self._plan,
            content=Content.TOTAL,
            key_id=self._key_id,
            contributions=self._contributions,
            body=[
                to_planes(drop(self._first, down[0]), first_width),
                to_planes(drop(second, down[1]), second_width),
            ],
        )


class BfvOpener:
    """Decrypts sums and checks the tag of every ciphertext."""

    def __init__(self, plan: SealingPlan, keys: Keys) -> None:
        keys.require(plan)
        self._plan, self._keys = plan, keys
        self._decryptor = lattice_of(plan).decryptor(keys.secret)

    def open(self, total: Sealed, contributors: Sequence[str], place: Place) -> Vector:
        """Return the exact integer sum times the step, float64 `[d]`."""
        plan = self._plan
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=self._keys.key_id)
        check_contributors(contributors, frame.contributions, plan.hospitals)
        slots = decrypt_rows(frame.body, plan, self._decryptor)
        return from_slots(slots, plan, self._keys, contributors, place)


def encrypt_rows(
    slots: NDArray[Any], plan: SealingPlan, encryptor: Encryptor, key_id: bytes
) -> Sealed:
    """Encrypt `[ciphertexts, slots]` row by row into a frame."""
    shape = (plan.ciphertexts, plan.degree)
    first = np.empty(shape, dtype=np.uint64)
    second = np.empty(shape if plan.key_mode == "public" else (0, 0), dtype=np.uint64)
    seeds = []
    with scratch() as file:
        for index, row in enumerate(slots):
            first[index], other = encryptor.encrypt(row, file)
            if isinstance(other, bytes):
                seeds.append(other)
            else:
                second[index] = other
    first_width, second_width = widths(plan, Content.SINGLE)
    body = [to_planes(drop(first, plan.dropped_up), first_width)]
    body.append(b"".join(seeds) if seeds else to_planes(second.reshape(-1), second_width))
    return write_frame(plan, content=Content.SINGLE, key_id=key_id, contributions=1, body=body)


def decrypt_rows(body: memoryview, plan: SealingPlan, decryptor: Decryptor) -> NDArray[Any]:
    """Decrypt a total whose length has been checked, to `[ciphertexts, slots]`."""
    first, second, _ = read_body(body, plan, Content.TOTAL)
    shape = (plan.ciphertexts, plan.degree)
    pairs = zip(first.reshape(shape), second.reshape(shape), strict=True)
    with scratch() as file:
        return np.stack([decryptor.decrypt(one, two, file) for one, two in pairs])


def drop(residues: Residues, bits: int) -> Residues:
    """Leave the low bits behind; `restore` puts the middle of their range in their place."""
    flat = residues.reshape(-1)
    return flat >> np.uint64(bits) if bits else flat


def restore(residues: Residues, bits: int) -> Residues:
    """Residues below q again.

    Raises:
        FrameError: A residue is not below q.
    """
    if int(residues.max(initial=0)) > (COEFFICIENT_PRIME - 1) >> bits:
        raise FrameError("a residue is not below the coefficient prime")
    if bits:
        residues <<= np.uint64(bits)
        residues += np.uint64(1 << (bits - 1))
        # The topmost half-step alone can pass q.
        np.minimum(residues, np.uint64(COEFFICIENT_PRIME - 1), out=residues)
    return residues


def read_body(
    body: memoryview, plan: SealingPlan, content: Content
) -> tuple[Residues, Residues, bytes]:
    """(first, second, seeds) of a bfv frame whose length has been checked."""
    first_width, second_width = widths(plan, content)
    count = plan.ciphertexts * plan.degree
    cut = plane_bytes(count, first_width)
    dropped = (plan.dropped_up, 0) if content is Content.SINGLE else plan.dropped_down
    first = restore(from_planes(body[:cut], count, first_width), dropped[0])
    if second_width == 0:
        seeds = bytes(body[cut:])
        if len(seeds) != plan.ciphertexts * SEED_BYTES:
            raise FrameError(f"{len(seeds)} bytes of seeds")
        return first, np.zeros(0, dtype=np.uint64), seeds
    return first, restore(from_planes(body[cut:], count, second_width), dropped[1]), b""
