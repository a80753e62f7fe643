"""A thin layer over TenSEAL's SEAL bindings: integers in slots <-> bare residues.

SEAL's bindings read and write files only, and its parser trusts what it reads. So ciphertexts leave
this module as numpy residues and seeds, and what SEAL reads back was laid out here, byte for byte,
from residues already known to be below q. The "file" is anonymous memory.

`Lattice` holds public parameters, `Lattice.encryptor` and `Lattice.decryptor` need keys; a server
builds the first alone and so has nothing to decrypt with.
"""

import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import FrameError, KeysError
from crypto.parameters import SEED_BYTES

Residues = NDArray[np.uint64]

_HEADER = struct.Struct("<HBBBBHQ")  # SEAL: magic, size, major, minor, compression, zero, length
_SEAL_MAGIC = 0xA15E
_NO_COMPRESSION, _ZSTD = 0, 2
_BODY = struct.Struct("<32sBQQQdQ")  # parms id, NTT form, polynomials, n, primes, scale, correction
_GENERATOR = struct.Struct("<B64s")  # type 1: Blake2xb, seed


class Scratch:
    """A file in anonymous memory, where SEAL's bindings want a path."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("asclepias")
            self.path = f"/proc/self/fd/{self._descriptor}"
            self._on_disk = False
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="asclepias-")
            self._on_disk = True

    def written_by(self, save: Callable[[str], Any]) -> bytes:
        """What `save(path)` writes."""
        save(self.path)
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def holding(self, data: bytes) -> str:
        """The path, once it holds exactly `data`."""
        if os.fstat(self._descriptor).st_size > len(data):
            os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        return self.path

    def patch(self, data: bytes, offset: int) -> None:
        """Overwrite a part of what the file holds."""
        os.pwrite(self._descriptor, data, offset)

    def close(self) -> None:
        """Forget the contents."""
        os.close(self._descriptor)
        if self._on_disk:
            os.unlink(self.path)


@contextmanager
def scratch() -> Iterator[Scratch]:
    """A scratch file for the length of a `with` block: forks and threads never share one."""
    file = Scratch()
    try:
        yield file
    finally:
        file.close()


def _seal_header(length: int) -> bytes:
    return _HEADER.pack(_SEAL_MAGIC, _HEADER.size, 4, 3, _NO_COMPRESSION, 0, length)


def _plain_body(saved: bytes) -> memoryview:
    """The body of what SEAL saved; 60-bit residues are incompressible, so Zstandard stores them."""
    magic, head, _, _, compression, _, length = _HEADER.unpack_from(saved)
    if magic != _SEAL_MAGIC or head != _HEADER.size or length != len(saved):
        raise FrameError("SEAL wrote an unknown header")
    view = memoryview(saved)[head:]
    if compression == _NO_COMPRESSION:
        return view
    if compression != _ZSTD or bytes(view[:4]) != b"\x28\xb5\x2f\xfd":
        raise FrameError(f"SEAL wrote compression {compression}, expected stored Zstandard")
    descriptor = view[4]
    single, size_flag = (descriptor >> 5) & 1, descriptor >> 6
    at = 5 + (1 - single) + (1 if size_flag == 0 and single else (0, 2, 4, 8)[size_flag])
    pieces = []
    while True:
        block = int.from_bytes(view[at : at + 3], "little")
        if (block >> 1) & 3 != 0:
            raise FrameError("SEAL compressed a ciphertext, expected incompressible residues")
        pieces.append(view[at + 3 : at + 3 + (block >> 3)])
        at += 3 + (block >> 3)
        if block & 1:
            return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


def laid_out(context: Any, residues: Residues, scale: float) -> bytes:
    """Return a CKKS ciphertext in SEAL's form.

    Args:
        context: SEAL's; the ciphertext has all of its primes but the special one.
        residues: uint64 [polynomials, primes, n], known to be below their primes.
        scale: what its slots are multiplied by.
    """
    polynomials, primes, degree = residues.shape
    parms_id = struct.pack("<4Q", *context.first_parms_id())
    head = _BODY.pack(parms_id, 1, polynomials, degree, primes, scale, 1)
    count = residues.size
    array = _seal_header(_HEADER.size + 8 + 8 * count) + count.to_bytes(8, "little")
    body = head + array + np.ascontiguousarray(residues, dtype="<u8").tobytes()
    return _seal_header(_HEADER.size + len(body)) + body


def bare(saved: bytes, polynomials: int, primes: int, degree: int) -> Residues:
    """Return the residues [polynomials, primes, n] of a ciphertext that SEAL wrote here.

    Raises:
        FrameError: it is of another shape.
    """
    body, at = _plain_body(saved), _BODY.size + _HEADER.size
    _, _, *shape, _, _ = _BODY.unpack_from(body)
    count = polynomials * primes * degree
    if shape != [polynomials, degree, primes] or len(body) != at + 8 + 8 * count:
        raise FrameError(f"SEAL wrote a ciphertext of {shape}")
    found = np.frombuffer(body, dtype="<u8", count=count, offset=at + 8)
    return found.reshape(polynomials, primes, degree)


class Lattice:
    """The public parameters of a BFV or CKKS lattice, in SEAL's hands.

    Attributes:
        degree: n, coefficients of a polynomial.
        primes: q, below 2**60; and the special prime of public-key encryption, if any.
        modulus: t, of the integer slots of BFV; 0 means CKKS, whose n/2 slots are real.
        scale: CKKS: what reals are multiplied by; 1 for BFV.
    """

    def __init__(self, degree: int, primes: tuple[int, ...], modulus: int, scale: float) -> None:
        import tenseal.sealapi as seal

        self.degree, self.prime, self.modulus, self.scale = degree, primes[0], modulus, scale
        self.seal: Any = seal
        exact = modulus > 0
        parameters = seal.EncryptionParameters(
            seal.SCHEME_TYPE.BFV if exact else seal.SCHEME_TYPE.CKKS
        )
        parameters.set_poly_modulus_degree(degree)
        parameters.set_coeff_modulus([seal.Modulus(prime) for prime in primes])
        if exact:
            parameters.set_plain_modulus(modulus)
        self.context: Any = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise KeysError(f"SEAL refuses the parameters: {self.context.parameters_error_name()}")
        self._encoder: Any = (seal.BatchEncoder if exact else seal.CKKSEncoder)(self.context)
        parms_id = struct.pack("<4Q", *self.context.first_parms_id())
        self._head = _BODY.pack(parms_id, 0 if exact else 1, 2, degree, 1, scale, 1)

    def make_keys(self) -> tuple[bytes, bytes]:
        """A new (secret, public) key pair, as SEAL bytes."""
        generator = self.seal.KeyGenerator(self.context)
        public = self.seal.PublicKey()
        generator.create_public_key(public)
        with scratch() as file:
            return (
                file.written_by(generator.secret_key().save),
                file.written_by(public.save),
            )

    def encryptor(self, *, secret: bytes, public: bytes) -> "Encryptor":
        """An encryptor: symmetric with seeds if `secret` is given, else by the public key."""
        return Encryptor(self, secret, public)

    def decryptor(self, secret: bytes) -> "Decryptor":
        """A decryptor for sums."""
        return Decryptor(self, secret)

    def encode(self, slots: NDArray[Any], plaintext: Any) -> None:
        """Encode uint64 `[n]` slots below t, or float64 `[n/2]`, into a SEAL plaintext."""
        if self.modulus:
            self._encoder.encode(slots.tolist(), plaintext)
        else:
            self._encoder.encode(slots.tolist(), self.scale, plaintext)

    def decode(self, plaintext: Any) -> NDArray[Any]:
        """Undo `encode`."""
        if self.modulus:
            exact = self._encoder.decode_uint64(plaintext)
            return np.fromiter(exact, dtype=np.uint64, count=self.degree)
        real = self._encoder.decode_double(plaintext)
        return np.fromiter(real, dtype=np.float64, count=self.degree // 2)

    def load_key(self, kind: str, data: bytes) -> Any:
        """Read a SecretKey or PublicKey; SEAL checks it against the parameters."""
        key = getattr(self.seal, kind)()
        with scratch() as file:
            try:
                key.load(self.context, file.holding(data))
            except (RuntimeError, ValueError) as fault:
                raise KeysError(f"SEAL refuses the {kind}: {type(fault).__name__}") from None
        return key

    def full(self, first: Residues, second: Residues) -> bytes:
        """A ciphertext in SEAL's form from residues known to be below q."""
        return self._wrap(self._array_head(2 * self.degree), first.tobytes(), second.tobytes())

    def seeded(self, first: Residues, seed: bytes) -> bytes:
        """A ciphertext in SEAL's form whose second polynomial SEAL expands from the seed."""
        generator = _seal_header(_HEADER.size + _GENERATOR.size)
        return self._wrap(
            self._array_head(self.degree), first.tobytes(), generator + _GENERATOR.pack(1, seed)
        )

    def _wrap(self, *parts: bytes) -> bytes:
        length = _HEADER.size + len(self._head) + sum(len(part) for part in parts)
        return b"".join((_seal_header(length), self._head, *parts))

    @staticmethod
    def _array_head(count: int) -> bytes:
        return _seal_header(_HEADER.size + 8 + 8 * count) + count.to_bytes(8, "little")

    def residues(self, saved: bytes) -> tuple[Residues, Residues | bytes]:
        """Take a ciphertext that SEAL wrote apart: first polynomial, second polynomial or seed."""
        body = _plain_body(saved)
        if bytes(body[: len(self._head)]) != self._head:
            raise FrameError("SEAL wrote a ciphertext of another shape")
        at = len(self._head) + _HEADER.size
        count = int.from_bytes(body[at : at + 8], "little")
        data = np.frombuffer(body, dtype="<u8", count=count, offset=at + 8)
        if count == 2 * self.degree:
            return data[: self.degree], data[self.degree :]
        if count != self.degree:
            raise FrameError(f"SEAL wrote {count} coefficients")
        kind, seed = _GENERATOR.unpack_from(body, at + 8 + 8 * count + _HEADER.size)
        if kind != 1 or len(seed) != SEED_BYTES:
            raise FrameError(f"SEAL wrote generator {kind}, expected 1 (Blake2xb)")
        return data, seed


class Encryptor:
    """Encrypts one slot vector at a time; holds nothing of it, so threads may share one."""

    def __init__(self, lattice: Lattice, secret: bytes, public: bytes) -> None:
        self._lattice = lattice
        self._symmetric = bool(secret)
        kind, key = ("SecretKey", secret) if secret else ("PublicKey", public)
        self._encryptor = lattice.seal.Encryptor(lattice.context, lattice.load_key(kind, key))

    def encrypt(self, slots: NDArray[Any], file: Scratch) -> tuple[Residues, Residues | bytes]:
        """Residues of a fresh encryption of `slots`; (first, seed) in symmetric mode."""
        plaintext = self._lattice.seal.Plaintext()
        self._lattice.encode(slots, plaintext)
        if self._symmetric:
            sealed = self._encryptor.encrypt_symmetric(plaintext)
        else:
            sealed = self._lattice.seal.Ciphertext()
            self._encryptor.encrypt(plaintext, sealed)
        return self._lattice.residues(file.written_by(sealed.save))

    def nought(self, file: Scratch) -> tuple[Residues, Residues | bytes]:
        """Residues of a fresh encryption of nought; (first, seed) in symmetric mode."""
        if self._symmetric:
            sealed = self._encryptor.encrypt_zero_symmetric()
        else:
            sealed = self._lattice.seal.Ciphertext()
            self._encryptor.encrypt_zero(sealed)
        return self._lattice.residues(file.written_by(sealed.save))


class Scaler:
    """Slots of BFV as what they add to a ciphertext's first polynomial; needs no key."""

    def __init__(self, lattice: Lattice, file: Scratch) -> None:
        self._lattice, self._file, seal = lattice, file, lattice.seal
        self._evaluator = seal.Evaluator(lattice.context)
        self._onto, self._sum = seal.Ciphertext(), seal.Ciphertext()
        filler = _filler(lattice)
        self._back = np.uint64(lattice.prime) - filler
        path = file.holding(lattice.full(filler, filler))
        self._onto.load(lattice.context, path)

    def add(self, slots: NDArray[np.uint64], first: Residues) -> None:
        """Add uint64 `[n]` slots below t to a first polynomial, in place: below q before and after.

        An encryption of nought becomes one of the slots, the same as if SEAL had encrypted them.
        """
        plaintext = self._lattice.seal.Plaintext()
        self._lattice.encode(slots, plaintext)
        self._evaluator.add_plain(self._onto, plaintext, self._sum)
        scaled, _ = self._lattice.residues(self._file.written_by(self._sum.save))
        first += scaled
        first += self._back  # three residues below 2**60 have room
        for _ in range(2):  # what falls below nought is huge instead, so the other is taken
            np.minimum(first, first - np.uint64(self._lattice.prime), out=first)


class Decryptor:
    """Decrypts one ciphertext at a time."""

    def __init__(self, lattice: Lattice, secret: bytes) -> None:
        self._lattice = lattice
        key = lattice.load_key("SecretKey", secret)
        self._decryptor = lattice.seal.Decryptor(lattice.context, key)

    def decrypt(self, first: Residues, second: Residues, file: Scratch) -> NDArray[Any]:
        """Slots of a ciphertext whose residues are below q."""
        plaintext, ciphertext = self._lattice.seal.Plaintext(), self._lattice.seal.Ciphertext()
        ciphertext.load(self._lattice.context, file.holding(self._lattice.full(first, second)))
        self._decryptor.decrypt(ciphertext, plaintext)
        return self._lattice.decode(plaintext)


def _filler(lattice: Lattice) -> Residues:
    """A polynomial that is none of anybody's: incompressible, so that SEAL stores what holds it."""
    return np.random.default_rng(0).integers(lattice.prime, size=lattice.degree, dtype=np.uint64)


class SeedSum:
    """The running sum of second polynomials that arrive as seeds."""

    def __init__(self, lattice: Lattice, count: int) -> None:
        self._lattice = lattice
        # The first polynomials are summed elsewhere.
        self._evaluator = lattice.seal.Evaluator(lattice.context)
        self._sums: list[Any] = [lattice.seal.Ciphertext() for _ in range(count)]
        self._one = lattice.seal.Ciphertext()
        self._template = lattice.seeded(_filler(lattice), bytes(SEED_BYTES))
        self._empty = True

    def add(self, seeds: Sequence[bytes]) -> None:
        """Expand and add one seed per ciphertext."""
        context = self._lattice.context
        with scratch() as file:
            path = file.holding(self._template)
            for total, seed in zip(self._sums, seeds, strict=True):
                file.patch(seed, len(self._template) - SEED_BYTES)
                if self._empty:
                    total.load(context, path)
                else:
                    self._one.load(context, path)
                    self._evaluator.add_inplace(total, self._one)
        self._empty = False

    def residues(self) -> list[Residues]:
        """The sums, uint64 `[n]` each, below q."""
        with scratch() as file:
            pairs = [self._lattice.residues(file.written_by(total.save)) for total in self._sums]
        return [second for _, second in pairs if not isinstance(second, bytes)]


@lru_cache(maxsize=8)
def lattice(degree: int, primes: tuple[int, ...], modulus: int, scale: float) -> Lattice:
    """The lattice of these parameters, built once per process."""
    return Lattice(degree, primes, modulus, scale)
