"""A linear model on an encrypted row, without a dealer: CKKS, by TenSEAL's SEAL.

The patient encrypts a row of numbers and sends it with the keys to rotate it; the provider
multiplies by each class's weights, adds all slots up, and returns a ciphertext a class, which the
patient alone can decrypt.

**The row** is safe as long as ring learning with errors is hard (128 bits, checked by SEAL).
Decryptions of CKKS tell of the key (Li and Micciancio 2021), so nobody but the patient gets one:
what it says of an answer afterwards should be rounded.

**The weights.** A result's noise, and its second polynomial, depend on the weights; who has the
secret key can see both. So each result is added to a fresh encryption, under the patient's public
key, of noise: uniform in [-FLOOD, FLOOD] in the real and the imaginary part of every slot. It makes
the second polynomial a fresh sample of learning with errors, and drowns the noise of the product.
That is about 2**-68 times the largest weight in each slot (3.2 * sqrt(n) a fresh one, times weights
of 2**26, added up over 4,096 slots, under a scale of 2**108), 2**-55 of the flood: all parts of all
slots of five classes show 2**-40 times the largest weight of it, in total variation. Two floods are
added, a coarse and a fine one, as a float64 has 53 bits.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crypto.errors import SealingError
from crypto.inference.words import Reals
from crypto.lattice import bare, laid_out, scratch

#: n, and bits of its primes; the last one is for key switching.
DEGREE, PRIMES = 8192, (60, 60, 60)
SLOTS = DEGREE // 2
#: Scales of row and weights, as powers of two: an answer below 2**10 times both fits into q.
ROW_BITS, WEIGHT_BITS = 82, 26
#: Half the width of the noise on each answer, and how much finer the second one is.
FLOOD, FINER = 2.0**-13, 2.0**-32
#: Largest value of a row or of weights, and numbers in a row.
MOST_VALUE, MOST_TERMS = 2.0**10, 1 << 18
_STEPS = tuple(1 << step for step in range(12))
#: An answer: residues [polynomials, primes, n], and its bytes, uint64 little-endian.
_SHAPE = (2, len(PRIMES) - 1, DEGREE)
ANSWER_BYTES = 8 * 2 * (len(PRIMES) - 1) * DEGREE


class EncryptedError(SealingError):
    """A row, key or answer under CKKS that is none, or too large."""

    code = "encrypted"


@cache
def _context() -> tuple[Any, Any]:
    import tenseal.sealapi as seal

    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, list(PRIMES)))
    return seal, seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)


def _saved(thing: Any) -> bytes:
    with scratch() as file:
        return file.written_by(thing.save)


def _loaded(thing: Any, data: bytes, what: str) -> Any:
    """Return what SEAL reads: of others' bytes only in a process that may end over them."""
    with scratch() as file:
        try:
            thing.load(_context()[1], file.holding(data))
        except (RuntimeError, ValueError):
            raise EncryptedError(f"{what} is none") from None
    return thing


def _encoded(values: NDArray[Any], bits: int) -> Any:
    seal, context = _context()
    plain = seal.Plaintext()
    kind = complex if np.iscomplexobj(values) else float
    seal.CKKSEncoder(context).encode(list(map(kind, values)), 2.0**bits, plain)
    return plain


def chunks_of(terms: int) -> int:
    """Return how many ciphertexts a row of so many numbers takes."""
    return -(-terms // SLOTS)


@dataclass(frozen=True)
class RowKeys:
    """A patient's keys for one row: secret, and what the provider gets.

    Attributes:
        public: encryption and rotation keys, as SEAL bytes.
    """

    public: tuple[bytes, bytes]
    _secret: Any = field(repr=False)

    @classmethod
    def make(cls) -> RowKeys:
        """Make fresh keys."""
        seal, context = _context()
        generator = seal.KeyGenerator(context)
        public, turning = seal.PublicKey(), seal.GaloisKeys()
        generator.create_public_key(public)
        # Turning slots by a step is the automorphism X -> X**(3**step).
        generator.create_galois_keys([pow(3, step, 2 * DEGREE) for step in _STEPS], turning)
        return cls((_saved(public), _saved(turning)), generator.secret_key())

    def encrypt(self, row: Reals) -> list[bytes]:
        """Return a row [terms] as ciphertexts.

        Raises:
            EncryptedError: a value is not finite or too large, or there are too many.
        """
        if not (0 < len(row) <= MOST_TERMS and np.all(np.abs(row) <= MOST_VALUE)):
            raise EncryptedError(f"a row of {len(row)} numbers; expected up to {MOST_VALUE:g} each")
        seal, context = _context()
        encryptor = seal.Encryptor(context, self._secret)
        padded = np.zeros(chunks_of(len(row)) * SLOTS)
        padded[: len(row)] = row
        pieces = []
        for chunk in padded.reshape(-1, SLOTS):
            pieces.append(_saved(encryptor.encrypt_symmetric(_encoded(chunk, ROW_BITS))))
        return pieces

    def decrypt(self, answers: list[bytes]) -> Reals:
        """Return the answers [classes], each within FLOOD of what it is.

        SEAL trusts what it reads, so it is handed nothing that the provider wrote: an answer is
        numbers below their primes, which are laid out for it here.

        Raises:
            EncryptedError: one has another length, or numbers that are no residues.
        """
        seal, context = _context()
        decryptor, encoder = seal.Decryptor(context, self._secret), seal.CKKSEncoder(context)
        found = []
        for answer in answers:
            plain = seal.Plaintext()
            decryptor.decrypt(_read(answer), plain)
            found.append(encoder.decode_double(plain)[0])
        return np.asarray(found)


def _read(answer: bytes) -> Any:
    """Return a provider's answer as a ciphertext of exactly the form that one has."""
    seal, context = _context()
    if len(answer) != ANSWER_BYTES:
        raise EncryptedError(f"an answer of {len(answer)} bytes; expected {ANSWER_BYTES}")
    residues = np.frombuffer(answer, dtype="<u8").reshape(_SHAPE)
    if np.any(residues >= _primes()[:, None]):
        raise EncryptedError("an answer holds numbers that are no residues")
    return _loaded(
        seal.Ciphertext(), laid_out(context, residues, 2.0 ** (ROW_BITS + WEIGHT_BITS)), "an answer"
    )


def _primes() -> NDArray[np.uint64]:
    """Return the primes of an answer: all but the one for key switching."""
    moduli = _context()[1].first_context_data().parms().coeff_modulus()
    return np.asarray([modulus.value() for modulus in moduli], dtype=np.uint64)


def answer_row(
    public: tuple[bytes, bytes], row: list[bytes], weights: Reals, bias: Reals
) -> list[bytes]:
    """Return each class's product with an encrypted row, in noise, for its patient's eyes.

    Each is residues, uint64 [2, primes, n], `ANSWER_BYTES` long.

    Args:
        public: the patient's, as `RowKeys.public`.
        row: its ciphertexts.
        weights: [classes, terms].
        bias: [classes].

    Raises:
        EncryptedError: what came is none, or weights are too large.
    """
    if len(row) != chunks_of(weights.shape[1]):
        raise EncryptedError(f"a row in {len(row)} pieces; expected {chunks_of(weights.shape[1])}")
    if not np.all(np.abs(weights) <= MOST_VALUE):
        raise EncryptedError("weights are not finite or too large")
    seal, context = _context()
    key = _loaded(seal.PublicKey(), public[0], "a public key")
    turning = _loaded(seal.GaloisKeys(), public[1], "a rotation key")
    pieces = [_loaded(seal.Ciphertext(), piece, "a row") for piece in row]
    evaluator, encryptor = seal.Evaluator(context), seal.Encryptor(context, key)
    padded = np.zeros((len(weights), len(row) * SLOTS))
    padded[:, : weights.shape[1]] = weights
    answers = []
    for own, offset in zip(padded.reshape(len(weights), len(row), SLOTS), bias, strict=True):
        total = _summed(evaluator, pieces, own, turning)
        for noise in _floods():
            masked = seal.Ciphertext()
            encryptor.encrypt(_encoded(noise + offset, ROW_BITS + WEIGHT_BITS), masked)
            evaluator.add_inplace(total, masked)
            offset = 0.0
        answers.append(bare(_saved(total), *_SHAPE).astype("<u8").tobytes())
    return answers


def _summed(evaluator: Any, pieces: list[Any], weights: Reals, turning: Any) -> Any:
    """Return the sum over all slots and pieces, in every slot."""
    seal, _ = _context()
    total: Any = None
    for piece, own in zip(pieces, weights, strict=True):
        # A product with nothing but zeros is refused by SEAL: it would be no ciphertext.
        made = seal.Ciphertext()
        evaluator.multiply_plain(piece, _encoded(_not_all_zero(own), WEIGHT_BITS), made)
        if total is None:
            total = made
        else:
            evaluator.add_inplace(total, made)
    for step in _STEPS:
        turned = seal.Ciphertext()
        evaluator.rotate_vector(total, step, turning, turned)
        evaluator.add_inplace(total, turned)
    return total


def _not_all_zero(weights: Reals) -> Reals:
    if np.any(np.abs(weights) >= 2.0**-WEIGHT_BITS):
        return weights
    return np.concatenate([[2.0**-WEIGHT_BITS], weights[1:]])


def _floods() -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return fresh noise for all slots: a coarse part, and one as much finer as FINER says."""
    raw = np.frombuffer(secrets.token_bytes(8 * 4 * SLOTS), dtype=np.uint64).reshape(4, SLOTS)
    units = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
    coarse = FLOOD * (1 - FINER) * (units[0] + 1j * units[1])
    return coarse, FLOOD * FINER * (units[2] + 1j * units[3])
