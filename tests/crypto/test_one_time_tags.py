"""Tags under one-time keys: each change is found, and they show nothing of single updates."""

import numpy as np
import pytest
from masked_keys import NAMES, PLACE, Federation
from pairing import pair_keys

from crypto.errors import (
    ContributionError,
    TagMismatchError,
)
from crypto.field_tags import PRIME, FieldWeights
from crypto.frames import Content
from crypto.polynomials import Small
from crypto.shared_polynomials import shared_polynomials


@pytest.fixture(name="three", scope="module")
def make_three():
    return Federation()


def changes(federation):
    """What a server may do to a sum whose key it leaves alone, each as new words."""
    layout, words = federation.layout, federation.parts(federation.total(), Content.TOTAL)[0]
    unit = 1 << (layout.noise_bits - layout.bits_cut)
    for field in range(layout.fields):
        for delta in (1, -1, PRIME, 2**20):
            changed = words.copy()
            changed[0, 7:8] += np.uint64(delta * layout.radix**field * unit % 2**64)
            yield f"{delta} in field {field}", changed
    swapped = words.copy()
    swapped[[0, 1]] = words[[1, 0]]
    yield "blocks swapped", swapped
    tag = words.copy()
    tag[0, -1:] += np.uint64(unit)
    yield "a digit of a tag", tag
    salt = words.copy()
    last = layout.data_coefficients - 1
    salt[0, last : last + 1] += np.uint64(unit * layout.radix ** (layout.fields - 1))
    yield "salt", salt


def test_every_change_to_a_sum_is_found():
    federation = Federation(values=26_000)
    masked = federation.parts(federation.total(), Content.TOTAL)[1]
    tried = 0
    for what, words in changes(federation):
        with pytest.raises(TagMismatchError):
            federation.opener.open(federation.total_of(words, masked), federation.nonces, PLACE)
            pytest.fail(what)
        tried += 1
    assert tried == 4 * federation.layout.fields + 3


def test_one_counted_twice_in_place_of_another_is_found(three):
    a, b, _ = NAMES[:3]
    with pytest.raises(TagMismatchError, match="masked keys"):
        three.opener.open(three.total([a, a, b]), three.nonces, PLACE)
    # Also where the masked keys are left as they were.
    words = three.parts(three.total([a, a, b]), Content.TOTAL)[0]
    masked = three.parts(three.total(), Content.TOTAL)[1]
    with pytest.raises(TagMismatchError):
        three.opener.open(three.total_of(words, masked), three.nonces, PLACE)


class TwoTags:
    """The tags of one block of two hospitals, to who knows alpha and both pads."""

    def __init__(self, seed):
        self.layout = Federation(hospitals=2, values=100).layout
        self.random = np.random.default_rng(seed)
        self.alpha = FieldWeights(self.random.bytes(32), PLACE, "00" * 32, self.layout)
        self.pads = [int(pad) for pad in self.random.integers(0, PRIME, 2)]
        levels = self.layout.grid.levels
        first, second = self.random.integers(0, levels, (2, 50))
        move = np.minimum(first, levels - 1 - second)
        self.right, self.wrong = (first, second), (first - move, second + move)

    def carries(self, fields, salts):
        """What digit sums show beside the sum of the tags: which digits carried."""
        layout, tags = self.layout, []
        for one, salt, pad in zip(fields, salts, self.pads, strict=True):
            block = np.zeros((1, layout.fields, layout.data_coefficients))
            block[0, 0, : len(one)], block[0, -1, -layout.salts :] = one, salt
            tags.append((pad + self.alpha.products(block)[0]) % PRIME)
        width = layout.digit_bits
        carried = [
            sum((tag >> (digit * width)) % 2**width for tag in tags) >> width
            for digit in range(layout.tag_coefficients)
        ]
        return (*carried, sum(tags) // PRIME)

    def salts_of(self, total):
        """Two salts with this sum, uniform among all such."""
        most = self.layout.grid.levels - 1
        low = np.maximum(0, total - most)
        first = self.random.integers(low, np.minimum(total, most) + 1)
        return first, total - first


def test_digits_of_tags_without_salt_refute_wrong_guesses_at_single_updates():
    """The control: a block in two or more tells the right pair of updates from another."""
    cases, refuted = [TwoTags(seed) for seed in range(60)], 0
    for two in cases:
        none = np.zeros((2, two.layout.salts))
        refuted += two.carries(two.right, none) != two.carries(two.wrong, none)
    assert refuted > 0.4 * len(cases)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (2, 3))]
)
def test_digits_of_tags_tell_nothing_of_single_updates(seed):
    """Given the sum of the salts, right and wrong updates carry equally often."""
    two, draws = TwoTags(seed), 1_500
    total = two.random.integers(0, 2 * two.layout.grid.levels - 1, two.layout.salts)
    found = {
        guess: [two.carries(fields, two.salts_of(total)) for _ in range(draws)]
        for guess, fields in (("right", two.right), ("wrong", two.wrong))
    }
    patterns = sorted(set(found["right"]) | set(found["wrong"]))
    assert len(patterns) > 1
    for pattern in patterns:
        shares = [one.count(pattern) / draws for one in found.values()]
        assert abs(shares[0] - shares[1]) < 5 * np.sqrt(0.5 / draws)


def test_salt_is_drawn_anew_for_every_vector(three):
    first, second = three.parts(three.seal(NAMES[0])), three.parts(three.seal(NAMES[0]))
    assert (first[0] == second[0]).mean() < 0.01
    assert not np.array_equal(first[1], second[1])


def test_the_nonces_of_the_signed_headers_open_alone(three):
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ContributionError, match="nonce"):
            three.opener.open(three.total(), three.nonces | {NAMES[0]: wrong}, PLACE)
    with pytest.raises(TagMismatchError):
        three.opener.open(three.total(), three.nonces | {NAMES[0]: bytes(32)}, PLACE)


# Decoding


def errors_of(federation):
    """The errors of a sum, by whoever has its key: int64 `[blocks, n]`, and its words."""
    layout, place = federation.layout, federation.place
    words, _ = federation.parts(federation.total(), Content.TOTAL)
    secret = Small(federation.key_sum())
    bind = pair_keys(federation.names)[NAMES[0]].bind
    shared = shared_polynomials(layout, place, federation.plan.parameter_id, bind)
    noisy = np.empty_like(words)
    for first in range(0, layout.blocks, shared.rows):
        rows = min(shared.rows, layout.blocks - first)
        scratch = np.empty((rows, layout.degree // 2), dtype=np.complex128)
        part = noisy[first : first + rows]
        shared.chunk(first, secret.norm).times(secret, part, scratch)
    noisy = (words << np.uint64(layout.bits_cut)) - noisy
    noisy += np.uint64(len(federation.names) * (2**layout.bits_cut - 1) // 2)
    room = 1 << layout.noise_bits
    low = (noisy & np.uint64(room - 1)).astype(np.int64)
    return np.where(low >= room // 2, low - room, low), words


def test_errors_decode_up_to_the_last_one_that_may_and_never_to_a_wrong_sum(three):
    errors, words = errors_of(three)
    layout, masked = three.layout, three.parts(three.total(), Content.TOTAL)[1]
    assert errors.std() == pytest.approx(np.sqrt(3 * (16 + (4**layout.bits_cut - 1) / 12)), rel=0.1)
    last, unit = 2 ** (layout.noise_bits - 1) - 1, 2**layout.bits_cut
    for spot in ((0, 5), (0, layout.degree - 1)):
        steps = (last - errors[spot]) // unit
        for more, opens in ((steps, True), (steps + 1, False)):
            changed = words.copy()
            changed[spot] += np.uint64(more)
            total = three.total_of(changed, masked)
            if opens:
                opened = three.opener.open(total, three.nonces, PLACE)
                assert np.array_equal(opened, three.expected)
            else:
                with pytest.raises(TagMismatchError):
                    three.opener.open(total, three.nonces, PLACE)
