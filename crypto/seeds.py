"""Seeds of noise that hospitals take out of a sum together: shared like keys, opened one by one.

A hospital draws parts of its noise from seeds, deals shares of them with those of its key, and
signs their digests. For a roster from which few are missing, holders give away their shares of the
seeds of those parts that are too much then; enough of them open each seed, and its digest proves
it.

    given_away(sharing, roster_size)        # parts whose seeds go, at a roster of so many
    digests(seeds)                          # of all seeds of one hospital, for its signed header
    recovered(shares, wanted, ...)          # at the server: seeds that t holders' shares open
    checked(opened, ...)                    # at a hospital: all are of parts that go, as was signed

A seed is no secret any more once it is given away: it tells nothing of an update, of a key, or of
a part that stays. So shares of seeds travel open, the server opens them, and what it hands out is a
list of seeds that anybody can check. A seed that no shares open, or that is not what was signed, is
not on the list; its part stays, which is more noise and never less. The digest of what hospitals
opened covers the list, so that those who were shown other lists part with the next roster.

Guarantee. A seed opens only if t - c_H honest holders answered rosters that give it away. With t as
`crypto.thresholds` wants it, one of these answered for the sum that was opened, whose honest
members are G. No roster with these has more than |G| + c names: a part is given away only if it is
too much for G and all colluders together, whatever the server shows to whom.
"""

import hashlib
import hmac
import struct
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crypto import sharing
from crypto.errors import RosterError, ShareError
from crypto.one_time_plans import SEED_NUMBERS, Sharing
from crypto.sharing import PRIME, Residues

#: A seed's numbers are below `sharing.PRIME`, two bytes each, little-endian.
SEED_BYTES = 2 * SEED_NUMBERS
DIGEST_BYTES = 32
_DOMAIN, _HEAD = b"asclepias seed 1\n", struct.Struct("<HH")

#: A part of the noise: whose it is, and its number from 1.
Part = tuple[str, int]


def given_away(told: Sharing, hospitals: int, contributors: int) -> range:
    """The parts whose seeds are given away for a roster of so many of `hospitals`."""
    missing = hospitals - contributors
    stay = sum(most < missing for most in told.seeds)
    return range(stay + 1, len(told.seeds) + 1)


def parts_of(told: Sharing, hospitals: int, contributors: Collection[str]) -> list[Part]:
    """All parts whose seeds are given away for a roster: by member, then by number."""
    parts = given_away(told, hospitals, len(contributors))
    return [(name, part) for name in sorted(contributors) for part in parts]


def digests(seeds: Sequence[bytes]) -> bytes:
    """The digests of one hospital's seeds, one behind the other, for its signed header."""
    return b"".join(_digest(seed) for seed in seeds)


def _digest(seed: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + seed).digest()


def numbers_of(seeds: Sequence[bytes]) -> NDArray[np.int64]:
    """Seeds as numbers below the prime, int64 `[seeds * 16]`.

    Raises:
        ShareError: One is no seed.
    """
    for seed in seeds:
        if len(seed) != SEED_BYTES:
            raise ShareError(f"a seed of {len(seed)} bytes, expected {SEED_BYTES}")
    numbers = np.frombuffer(b"".join(seeds), dtype="<u2").astype(np.int64)
    if numbers.size and int(numbers.max()) >= PRIME:
        raise ShareError(f"a seed has a number that is not below {PRIME}")
    return numbers


def recovered(
    shares: Mapping[int, bytes], wanted: Sequence[Part], signed: Mapping[str, bytes], threshold: int
) -> dict[Part, bytes]:
    """The seeds that holders' shares open, as their digests prove.

    Args:
        shares: By point, a holder's shares of all wanted seeds one behind the other; what is none
            is passed over.
        wanted: Parts, as `parts_of` gives them.
        signed: By hospital, the digests of its seeds from its signed header.
        threshold: t.

    Returns:
        Seeds by part, in the order of `wanted`; those of parts that stay are left out.
    """
    size = SEED_BYTES * len(wanted)
    read = {
        point: numbers
        for point, data in sorted(shares.items())
        if len(data) == size
        and not (numbers := np.frombuffer(data, "<u2").astype(np.float64)).max(initial=0) >= PRIME
    }
    if len(read) < threshold or not wanted:
        return {}
    likely, found = _interpolated(read, list(read)[:threshold]), {}
    for index, part in enumerate(wanted):
        here = slice(index * SEED_NUMBERS, (index + 1) * SEED_NUMBERS)
        seed = _bytes_of(likely[here])
        if _is_signed(seed, part, signed):
            found[part] = seed
            continue
        # Somebody's share is wrong: the digest tells which of the others agree on the seed.
        one_seed = {point: numbers[here] for point, numbers in read.items()}
        for candidate, agreeing in sharing.key_candidates(one_seed, threshold, PRIME):
            seed = _bytes_of(sharing.reduce(candidate.astype(np.float64)))
            if _is_signed(seed, part, signed):
                found[part], likely = seed, _interpolated(read, sorted(agreeing)[:threshold])
                break
    return found


def _interpolated(shares: Mapping[int, Residues], points: Sequence[int]) -> Residues:
    secret: Residues = sharing.interpolate({point: shares[point] for point in points}, [0])[0]
    return secret


def _bytes_of(numbers: Residues) -> bytes:
    return numbers.astype("<u2").tobytes()


def packed(opened: Mapping[Part, bytes]) -> bytes:
    """Opened seeds as bytes, sorted by part."""
    found = []
    for (name, number), seed in sorted(opened.items()):
        label = name.encode()
        found += [_HEAD.pack(len(label), number), label, seed]
    return b"".join(found)


def unpacked(data: bytes) -> dict[Part, bytes]:
    """Read `packed`.

    Raises:
        RosterError: The bytes are no list of seeds, or not its one encoding.
    """
    opened: dict[Part, bytes] = {}
    at = 0
    try:
        while at < len(data):
            size, number = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size + SEED_BYTES
            name = data[at - SEED_BYTES - size : at - SEED_BYTES].decode()
            opened[name, number] = data[at - SEED_BYTES : at]
    except (struct.error, UnicodeDecodeError):
        raise RosterError("the bytes are no list of seeds") from None
    if packed(opened) != data:
        raise RosterError("a list of seeds is not in its canonical form")
    return opened


def _is_signed(seed: bytes, part: Part, signed: Mapping[str, bytes]) -> bool:
    name, number = part
    expected = signed.get(name, b"")[(number - 1) * DIGEST_BYTES : number * DIGEST_BYTES]
    return len(seed) == SEED_BYTES and hmac.compare_digest(_digest(seed), expected)


def checked(
    opened: Mapping[Part, bytes],
    told: Sharing,
    hospitals: int,
    contributors: Collection[str],
    signed: Mapping[str, bytes],
) -> dict[Part, bytes]:
    """Seeds as the server lists them, in order, each proved to be of a part that goes.

    Args:
        opened: By part.
        told: Of the plan.
        hospitals: K.
        contributors: Those of the verified roster, by name.
        signed: By hospital, the digests of its seeds from its signed header.

    Raises:
        RosterError: A seed is of a part that stays, or not the one that its hospital signed.
    """
    goes = parts_of(told, hospitals, contributors)
    if strange := sorted(set(opened) - set(goes)):
        raise RosterError(
            f"seeds of {strange[:3]} came, whose noise stays in a sum of {len(contributors)}"
        )
    for part, seed in opened.items():
        if not _is_signed(seed, part, signed):
            raise RosterError(f"the seed of {part} is not the one that its hospital signed")
    return {part: opened[part] for part in goes if part in opened}
