"""Shamir's secret sharing of polynomials, coefficient by coefficient, modulo p = 65521.

A key of n coefficients is the value at 0 of n polynomials of degree t - 1; a share is their values
at a holder's point. Shares add as keys add. t - 1 of a dealer's shares are not drawn but derived by
their holders (a PRF of the pair's key): with the key they define the polynomials, and need not
travel. Example, t = 2: key 5 and derived share 7 at point 1 give 9 at point 2 and 11 at point 3.

Arithmetic is float64 on whole numbers below 2**37, exact; residues are taken by a reciprocal and
one masked correction, so no division's time depends on a secret.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crypto.coins import Coins

PRIME = 65521
#: Subsets of answers that are tried one by one; above, errors are located by decoding.
MOST_SUBSETS = 1_000

Residues = NDArray[np.float64]


def reduce(values: Residues) -> Residues:
    """Whole numbers below 2**52 in magnitude modulo p, in `0 .. p-1`."""
    rest: Residues = values - np.floor(values * (1.0 / PRIME)) * PRIME
    rest += PRIME * (rest < 0)
    rest -= PRIME * (rest >= PRIME)
    return rest


def lagrange(points: Sequence[int], at: Sequence[int]) -> Residues:
    """The matrix that takes values at `points` to those at `at`: float64 `[len(at), len(points)]`.

    Points are public.
    """
    rows: list[list[int]] = []
    for target in at:
        row = []
        for one in points:
            above, below = 1, 1
            for other in points:
                if other != one:
                    above = above * (target - other) % PRIME
                    below = below * (one - other) % PRIME
            row.append(above * pow(below, -1, PRIME) % PRIME)
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(at), len(points))


def shares_of(
    key: NDArray[np.int64], derived: Mapping[int, Residues], at: Sequence[int]
) -> Residues:
    """The shares at other points of a key, float64 `[len(at), n]`.

    Args:
        key: int64 `[n]`, small.
        derived: t - 1 shares by point, each float64 `[n]` below p.
        at: The points wanted.
    """
    points = [0, *derived]
    values = np.stack([reduce(key.astype(np.float64)), *derived.values()])
    return reduce(lagrange(points, at) @ values)


def interpolate(answers: Mapping[int, Residues], at: Sequence[int]) -> Residues:
    """Values at `at` of the polynomials through all of the answers, float64 `[len(at), n]`."""
    return reduce(lagrange(list(answers), at) @ np.stack(list(answers.values())))


def centred(residues: Residues) -> NDArray[np.int64]:
    """Residues as numbers of least magnitude."""
    return (residues - PRIME * (residues > PRIME // 2)).astype(np.int64)


def key_candidates(
    answers: Mapping[int, Residues], threshold: int, most: int
) -> Iterator[tuple[NDArray[np.int64], frozenset[int]]]:
    """Sums of keys that some `threshold` of the answers agree on, the likeliest first.

    Only those with no coefficient above `most` in magnitude are given: a random wrong answer passes
    that with probability ((2*most + 1)/p)**n; a crafted one fails the tags.

    Yields:
        The key, int64 `[n]`, and the points of all answers that lie on its polynomials.
    """
    seen: set[frozenset[int]] = set()
    for subset in _subsets(answers, threshold):
        chosen = {point: answers[point] for point in subset}
        key = centred(interpolate(chosen, [0])[0])
        if int(np.abs(key).max()) > most:
            continue
        others, agreeing = [point for point in answers if point not in chosen], frozenset(subset)
        if others:
            agreeing |= frozenset(
                point
                for row, point in zip(interpolate(chosen, others), others, strict=True)
                if np.array_equal(row, answers[point])
            )
        if agreeing not in seen:
            seen.add(agreeing)
            yield key, agreeing


def _subsets(answers: Mapping[int, Residues], threshold: int) -> Iterator[tuple[int, ...]]:
    points = list(answers)
    if math.comb(len(points), threshold) <= MOST_SUBSETS:
        yield from itertools.combinations(points, threshold)
        return
    good = locate(answers, threshold)
    if good is not None:
        yield tuple(sorted(good))[:threshold]


def locate(answers: Mapping[int, Residues], threshold: int) -> frozenset[int] | None:
    """The answers on one polynomial, where at most half of those to spare are wrong.

    All coefficients are joined by one random combination, on which Berlekamp and Welch's decoding
    finds the points that are off; a wrong answer is missed with probability 1/p.
    """
    points = list(answers)
    random = Coins().below(PRIME, next(iter(answers.values())).size)
    # Products below 2**32 and at most 4,096 of them: exact.
    values = {point: int(reduce(np.array([answers[point] @ random]))[0]) for point in points}
    errors = (len(points) - threshold) // 2
    rows = [
        [pow(x, power, PRIME) for power in range(threshold + errors)]
        + [-values[x] * pow(x, power, PRIME) % PRIME for power in range(errors)]
        for x in points
    ]
    right = [values[x] * pow(x, errors, PRIME) % PRIME for x in points]
    found = solve(rows, right)
    if found is None:
        return None
    numerator, denominator = found[: threshold + errors], [*found[threshold + errors :], 1]
    quotient = _divided(numerator, denominator)
    if quotient is None:
        return None
    return frozenset(
        x
        for x in points
        if sum(c * pow(x, power, PRIME) for power, c in enumerate(quotient)) % PRIME == values[x]
    )


def solve(rows: list[list[int]], right: list[int]) -> list[int] | None:
    """One solution of linear equations modulo p, free unknowns 0; None where there is none."""
    table = [[*row, value] for row, value in zip(rows, right, strict=True)]
    width = len(rows[0])
    pivots: list[int] = []
    for column in range(width):
        start = len(pivots)
        pivot = next((i for i in range(start, len(table)) if table[i][column]), None)
        if pivot is None:
            continue
        table[start], table[pivot] = table[pivot], table[start]
        inverse = pow(table[start][column], -1, PRIME)
        table[start] = [value * inverse % PRIME for value in table[start]]
        for i, row in enumerate(table):
            if i != start and row[column]:
                factor = row[column]
                table[i] = [
                    (a - factor * b) % PRIME for a, b in zip(row, table[start], strict=True)
                ]
        pivots.append(column)
    if any(row[-1] for row in table[len(pivots) :]):
        return None
    solution = [0] * width
    for row, column in zip(table, pivots, strict=False):
        solution[column] = row[-1]
    return solution


def _divided(numerator: list[int], denominator: list[int]) -> list[int] | None:
    """The quotient of two polynomials modulo p, lowest power first; None with a remainder."""
    rest, quotient = numerator.copy(), [0] * (len(numerator) - len(denominator) + 1)
    inverse = pow(denominator[-1], -1, PRIME)
    for place in reversed(range(len(quotient))):
        quotient[place] = rest[place + len(denominator) - 1] * inverse % PRIME
        for offset, value in enumerate(denominator):
            rest[place + offset] = (rest[place + offset] - quotient[place] * value) % PRIME
    return None if any(rest) else quotient
