import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto.errors import FrameError
from crypto.packing import from_planes, pack_row, plane_bytes, quantise, to_planes, unpack_row
from crypto.roles import Quantiser


@settings(max_examples=150, deadline=None)
@given(width=some.integers(8, 16).map(lambda nibbles: 4 * nibbles), data=some.data())
def test_planes_hold_every_residue_exactly(width, data):
    rows, count = data.draw(some.integers(1, 3)), 2 * data.draw(some.integers(1, 20))
    seed = data.draw(some.integers(0, 2**32))
    random = np.random.default_rng(seed)
    residues = random.integers(0, 2**width, size=(rows, count), dtype=np.uint64)
    residues[0, 0], residues[-1, -1] = 0, 2**width - 1
    blocks = [to_planes(row, width) for row in residues]
    assert all(len(block) == plane_bytes(count, width) for block in blocks)
    read = np.full((rows, count), 2**64 - 1, dtype=np.uint64)
    from_planes(np.frombuffer(b"".join(blocks), np.uint8).reshape(rows, -1), width, read)
    assert np.array_equal(read, residues)


def test_planes_of_another_length_are_refused():
    blocks = np.zeros((1, 30), dtype=np.uint8)
    with pytest.raises(FrameError):
        from_planes(blocks, 60, np.empty((1, 2), dtype=np.uint64))


@settings(max_examples=150, deadline=None)
@given(
    hospitals=some.integers(1, 50),
    half=some.integers(1, 2**12),
    per_slot=some.integers(1, 3),
    slots=some.integers(1, 9),
    data=some.data(),
)
def test_packed_sums_unpack_to_the_sums_of_what_was_packed(hospitals, half, per_slot, slots, data):
    grid = Quantiser(step=2.0**-6, bound=half * 2.0**-6)
    radix = hospitals * (grid.levels - 1) + 1
    if radix**per_slot >= 2**52:
        return
    values = data.draw(some.integers(1, 40))
    rows = -(-values // (slots * per_slot))
    random = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    given_vectors = [
        random.choice([-9e9, 9e9, 0.3 * grid.bound], size=values) for _ in range(hospitals)
    ]
    opened = np.full(values, np.nan)
    arguments = {"grid": grid, "radix": radix, "per_slot": per_slot, "rows": rows}
    for row in range(rows):
        total = sum(pack_row(vector, row, slots=slots, **arguments) for vector in given_vectors)
        unpack_row(total, row, opened, contributions=hospitals, **arguments)
    fields = sum(
        np.rint((np.clip(vector, -grid.bound, grid.bound) + grid.bound) / grid.step)
        for vector in given_vectors
    )
    assert np.array_equal(opened, (fields - hospitals * half) * grid.step)


def test_a_field_beyond_the_sum_of_its_contributors_is_refused():
    grid = Quantiser(step=1.0, bound=1.0)
    arguments = {"grid": grid, "radix": 21, "per_slot": 2, "rows": 1, "contributions": 2}
    opened = np.zeros(2)
    unpack_row(np.array([4 + 21 * 4], dtype=np.uint64), 0, opened, **arguments)
    assert opened.tolist() == [2.0, 2.0]
    for slot in (5, 21 * 5, 21 * 21):
        with pytest.raises(FrameError):
            unpack_row(np.array([slot], dtype=np.uint64), 0, opened, **arguments)


def test_values_are_clamped_and_rounded_once():
    grid = Quantiser(step=0.5, bound=1.0)
    values = np.array([-7.0, -1.0, -0.8, -0.7, 0.0, 0.2, 0.3, 1.0, 7.0])
    assert quantise(values, grid).tolist() == [0, 0, 0, 1, 2, 2, 3, 4, 4]
