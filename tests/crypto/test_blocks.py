"""How values lie in blocks: fields, salt, tags' digits, and nothing between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto.blocks import empty_fields, pack_blocks, quantise_blocks, unpacked, write_field
from crypto.coins import Coins
from crypto.errors import CapacityError, TagMismatchError
from crypto.field_tags import PRIME, FieldWeights, block_pads, join_digits, write_digits
from crypto.one_time_plans import plan_layout
from crypto.roles import Place, Quantiser

PLACE = Place(training="t", round=3, attempt=1)


def layout_of(bits=13, hospitals=3, values=26_000):
    half = 2 ** (bits - 1) - 1
    grid = Quantiser(step=1.0 / half, bound=1.0)
    return plan_layout(values=values, hospitals=hospitals, grid=grid)


def fields_of(layout, values):
    fields = empty_fields(layout, layout.blocks)
    quantise_blocks(values, 0, layout, Coins(), fields)
    return fields


def test_every_block_holds_salt_at_its_end_and_it_alone_differs_between_two_sealings():
    layout = layout_of()
    values = np.linspace(-1, 1, layout.values)
    first, second = fields_of(layout, values), fields_of(layout, values)
    differs = first != second
    assert not differs[:, :-1].any()
    salted = slice(layout.data_coefficients - layout.salts, None)
    assert not differs[:, -1, : salted.start].any()
    assert differs[:, -1, salted].mean() > 0.99
    drawn = np.concatenate([fields_of(layout, values)[:, -1, salted].ravel() for _ in range(200)])
    levels = layout.grid.levels
    assert drawn.min() >= 0
    assert drawn.max() <= levels - 1
    counts = np.histogram(drawn, bins=16, range=(0, levels))[0]
    expected = drawn.size / 16
    assert ((counts - expected) ** 2 / expected).sum() < 15 + 5 * np.sqrt(30)


def test_unused_fields_are_nought():
    layout = layout_of(values=5_000)
    fields = fields_of(layout, np.ones(layout.values))
    used = np.count_nonzero(fields) - np.count_nonzero(
        fields[:, -1, layout.data_coefficients - layout.salts :]
    )
    assert used == layout.values


@settings(max_examples=25, deadline=None)
@given(
    bits=some.integers(2, 30),
    hospitals=some.integers(1, 1023),
    values=some.integers(1, 20_000),
    seed=some.integers(0, 2**32),
)
def test_sums_of_the_largest_fields_unpack_to_themselves(bits, hospitals, values, seed):
    try:
        layout = layout_of(bits, hospitals, values)
    except CapacityError:
        return
    fields = empty_fields(layout, layout.blocks)
    most = hospitals * (layout.grid.levels - 1)
    random = np.random.default_rng(seed)
    fields[...] = np.where(random.integers(0, 2, fields.shape), most, 0)
    plain = np.zeros((layout.blocks, layout.degree), dtype=np.uint64)
    pack_blocks(fields, layout, plain)
    assert int(plain.max()) < 2**layout.plain_bits
    again = fields_of_sum(plain, layout, hospitals)
    assert np.array_equal(again + hospitals * layout.grid.half, fields)
    if hospitals > 1 and fields.any():
        with pytest.raises(TagMismatchError, match="exceeds"):
            fields_of_sum(plain, layout, hospitals - 1)


def fields_of_sum(plain, layout, contributions):
    rooms = np.empty(plain.shape), np.empty(plain.shape)
    planes = unpacked(centred(plain, layout, contributions), layout, contributions, rooms)
    return np.stack([digits.copy() for digits in planes], axis=1)


def centred(plain, layout, contributions):
    """Coefficients of a sum as opening leaves them: less the middle, with a sign, in w bits."""
    moved = plain - np.uint64(layout.middle_of_sum(contributions))
    unused = np.uint64(64 - layout.plain_bits)
    return ((moved << unused).view(np.int64) >> unused.view(np.int64)).view(np.uint64)


def test_values_come_back_to_their_places():
    layout = layout_of(values=30_001)
    values = np.random.default_rng(0).uniform(-1, 1, layout.values)
    opened = np.full(layout.values, np.nan)
    for first in range(0, layout.blocks, 2):  # by twos, and the rest
        rows = min(2, layout.blocks - first)
        fields = empty_fields(layout, rows)
        quantise_blocks(values, first, layout, Coins(), fields)
        for field in range(layout.fields):
            write_field(fields[:, field] - layout.grid.half, field, first, layout, opened)
    assert np.abs(opened - values).max() <= layout.grid.step / 2 * 1.001


@pytest.mark.parametrize("bits", [2, 13, 20, 36])
def test_products_with_fields_are_those_of_integers(bits):
    """Also where fields are too wide for one exact product and are cut in two."""
    layout = layout_of(bits, values=100)
    weights = FieldWeights(bytes(32), PLACE, "00" * 32, layout)
    random = np.random.default_rng(1)
    fields = random.integers(0, layout.radix, (2, layout.fields, layout.data_coefficients))
    width, middle = weights._limb_bits, layout.radix // 2
    assert np.abs(weights._limbs).max() <= 2 ** (width - 1)
    alpha = [
        sum(int(limb) << (width * place) for place, limb in enumerate(row))
        for row in weights._limbs.T
    ]
    exact = [
        sum(int(field) * weight for field, weight in zip(row, alpha, strict=True)) % PRIME
        for row in fields.reshape(2, -1)
    ]
    # Of a sum's fields, one after the other and less their middle, as of a vector's.
    sums = np.zeros((2, weights.columns))
    for field in range(layout.fields):
        sums += weights.sums(fields[:, field] - float(middle), field * layout.data_coefficients)
    assert weights.joined(sums, middle) == exact
    fields %= layout.grid.levels
    own = weights.products(fields.astype(np.float64))
    assert own == [
        sum(int(field) * weight for field, weight in zip(row, alpha, strict=True)) % PRIME
        for row in fields.reshape(2, -1)
    ]
    assert max(alpha) < PRIME / 2 + 1 > -min(alpha)
    assert len(set(alpha)) > 0.99 * len(alpha)


@pytest.mark.parametrize(("bits", "hospitals"), [(2, 2), (13, 10), (11, 100), (36, 2), (44, 2)])
def test_the_largest_products_with_fields_are_exact(bits, hospitals):
    """All fields and all limbs at their largest: one bit more and float64 could not add them."""
    layout = layout_of(bits, hospitals, values=100)
    weights = FieldWeights(bytes(32), PLACE, "00" * 32, layout)
    most = hospitals * layout.grid.half
    weights._limbs[...] = 2 ** (weights._limb_bits - 1)
    fields = np.full((1, layout.fields * layout.data_coefficients), float(most))
    fields[0, ::7] -= 1
    exact = sum(map(int, fields[0].tolist())) * sum(
        2 ** (weights._limb_bits * (place + 1) - 1) for place in range(len(weights._limbs))
    )
    assert weights.joined(weights.sums(fields)) == [exact % PRIME]


@settings(max_examples=30, deadline=None)
@given(tags=some.lists(some.integers(0, PRIME - 1), min_size=1, max_size=6))
def test_digits_of_tags_join_again_and_their_sums_too(tags):
    layout = layout_of(hospitals=1023, values=10)
    plain = np.zeros((len(tags), layout.degree), dtype=np.uint64)
    write_digits(tags, layout, plain)
    digits = np.s_[:, layout.data_coefficients :]
    assert join_digits(centred(plain, layout, 1)[digits], layout, 1) == tags
    summed = plain * np.uint64(1023)
    assert int(summed.max()) < 2**layout.plain_bits
    joined = join_digits(centred(summed, layout, 1023)[digits], layout, 1023)
    assert joined == [1023 * tag % PRIME for tag in tags]


def test_pads_are_residues_that_differ_in_everything_they_are_for():
    pads = {
        (key, hospital, nonce, place): tuple(one.tolist())
        for key in (0, 1)
        for nonce in (bytes(32), b"\1" * 32)
        for place in (PLACE, Place(training="t", round=3, attempt=2))
        for hospital, one in block_pads(
            bytes([key]) * 32, place, dict.fromkeys("ab", nonce), "00" * 32, 500
        ).items()
    }
    everything = [pad for one in pads.values() for pad in one]
    assert len(set(everything)) == len(everything)
    assert max(everything) < PRIME
    assert abs(np.mean(everything) / PRIME - 0.5) < 5 / np.sqrt(12 * len(everything))
