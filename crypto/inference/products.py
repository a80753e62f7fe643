"""Products of shared numbers: of two of them (Beaver 1991), and with the provider's own weights.

Weights stay masked for ever by a mask that dealer and provider expand from a seed: the patient
gets weights minus mask, once. For each prediction the patient has a fresh mask of its input; dealer
and patient, each from what it has, compute a share of weights times mask before there is a picture.
What is left to do with the picture: the patient sends its share minus the mask, and the provider,
who now has input minus mask and knows the weights, multiplies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from crypto.inference.parties import Party
from crypto.inference.sources import Role, Source
from crypto.inference.words import Shape, Words


@dataclass(frozen=True)
class Weighted:
    """Material of a product with weights: the patient's mask, and a share of weights times it."""

    mask: Words | None
    share: Words


def deal_weighted(
    source: Source, shape: Shape, result: Shape, multiply: Callable[[Words], Words]
) -> Weighted:
    """Return what multiplying an input by weights takes.

    Args:
        source: of randomness.
        shape: of the input.
        result: of the product.
        multiply: an input -> its product with what the role has of the weights.
    """
    mask = source.patients(shape)

    def multiplied() -> Words:
        assert mask is not None
        return multiply(mask)

    share = source.derived(multiplied, result)
    return Weighted(mask, share + multiplied() if source.role is Role.PATIENT else share)


def times_weights(
    party: Party, material: Weighted, share: Words, multiply: Callable[[Words], Words]
) -> Words:
    """Return a share of the product; the patient sends, the provider answers nothing.

    Args:
        party: who computes.
        material: of it.
        share: of the input.
        multiply: at the provider, an input -> its product with the weights, biases included.
    """
    hidden = None if material.mask is None else share - material.mask
    came = party.to_provider(hidden, share.shape)
    return material.share if came is None else multiply(share + came) + material.share


@dataclass(frozen=True)
class Multiplication:
    """Material of a product of two shared numbers: masks of both, and their product."""

    left: Words
    right: Words
    both: Words


def deal_multiplication(source: Source, left: Shape, right: Shape) -> Multiplication:
    """Return what multiplying numbers of two shapes, one broadcast to the other, takes."""
    a, b = source.mask(left), source.mask(right)
    return Multiplication(a, b, source.derived(lambda: a * b, np.broadcast_shapes(left, right)))


def multiply(party: Party, material: Multiplication, left: Words, right: Words) -> Words:
    """Return a share of the products, in one round."""
    size = prod(left.shape)
    joined = np.concatenate(
        [(left - material.left).reshape(-1), (right - material.right).reshape(-1)]
    )
    opened = party.open(joined)
    e, f = opened[:size].reshape(left.shape), opened[size:].reshape(right.shape)
    out: Words = material.both + e * material.right + material.left * f
    if party.provider:
        out += e * f
    return out
