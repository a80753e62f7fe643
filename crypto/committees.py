"""A committee of holders that nobody chooses: drawn from random numbers that all hospitals bring.

Every offer in a ceremony commits to a number. Once the offers are fixed, and every hospital is
bound to them, each shows its number; the committee follows from all of them together. Who commits
last knows no other's number, and who shows last can show one number only, or none at all: then the
ceremony ends, and says whose number did not come. The training's id does not enter, so trying ids
changes nothing.

    reveal = reveal_of(secret)                       # what the offer commits to
    holders = draw_committee(offers, reveals, 20)    # the same at every hospital
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from crypto.ephemeral import EphemeralSecret
from crypto.errors import CeremonyError
from crypto.offers import Offer

_REVEAL_BYTES = 32


def reveal_of(secret: EphemeralSecret) -> bytes:
    """The number that a hospital brings, 32 bytes; it follows from its offer's secret half."""
    return hmac.digest(secret.to_bytes(), b"asclepias committee number 1\n", "sha256")


def commitment_to(reveal: bytes) -> bytes:
    """What an offer says of a number before it is shown, 32 bytes."""
    return hashlib.sha256(b"asclepias committee commitment 1\n" + reveal).digest()


def check_reveal(offer: Offer, reveal: bytes) -> None:
    """Insist that a number is the one that an offer committed to.

    Raises:
        CeremonyError: It is not.
    """
    if len(reveal) != _REVEAL_BYTES or commitment_to(reveal) != offer.commitment:
        raise CeremonyError(f"{offer.name!r} showed another number than it had committed to")


def draw_committee(
    offers: Sequence[Offer], reveals: Mapping[str, bytes], holders: int
) -> tuple[str, ...]:
    """The names of those who hold shares, sorted.

    Args:
        offers: Of all members.
        reveals: The number of each, by name.
        holders: How many hold shares, H.

    Raises:
        CeremonyError: A number is missing or is another one; the message names whose.
    """
    seed = hashlib.sha256(b"asclepias committee seed 1\n")
    for offer in sorted(offers, key=lambda one: one.name):
        if offer.name not in reveals:
            raise CeremonyError(f"{offer.name!r} did not show the number that it committed to")
        check_reveal(offer, reveals[offer.name])
        label = offer.name.encode()
        seed.update(len(label).to_bytes(4, "little") + label + reveals[offer.name])
    key = seed.digest()
    names = [offer.name for offer in offers]
    ranked = sorted(names, key=lambda name: hmac.digest(key, name.encode(), "sha256"))
    return tuple(sorted(ranked[:holders]))
