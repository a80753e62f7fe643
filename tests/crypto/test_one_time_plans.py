"""Plans of one-time keys: the fewest bytes, and nothing that overflows or is too easy to break."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto.envelope import OVERHEAD
from crypto.errors import CapacityError
from crypto.one_time_plans import plan_layout
from crypto.planning import Absent, plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Quantiser

SQUEEZENET = 725_061


def grid_of(bits):
    half = 2 ** (bits - 1) - 1
    return Quantiser(step=1.0 / half, bound=1.0)


def plan_of(bits=13, values=SQUEEZENET, hospitals=10):
    return plan_sealing(values=values, hospitals=hospitals, grid=grid_of(bits), scheme="one-time")


# bits: n, k, V, wire bits, bytes of blocks and all bytes of a round where every hospital sends
# its key in shares to at most 20 holders, each over those of float32; for 10, 100, 1000 hospitals.
TABLE = """
11: 4096, 52, 3, 48: 0.51 / 0.54 | 4096, 63, 3, 60: 0.64 / 0.70 | 4096, 54, 2, 52: 0.82 / 0.88
12: 4096, 55, 3, 52: 0.55 / 0.58 | 4096, 51, 2, 44: 0.69 / 0.75 | 4096, 57, 2, 52: 0.82 / 0.88
13: 4096, 58, 3, 56: 0.59 / 0.62 | 4096, 50, 2, 48: 0.75 / 0.81 | 4096, 58, 2, 56: 0.88 / 0.94
14: 2048, 44, 2, 40: 0.63 / 0.65 | 4096, 55, 2, 48: 0.75 / 0.81 | 4096, 61, 2, 56: 0.88 / 0.94
15: 4096, 64, 3, 60: 0.64 / 0.67 | 4096, 54, 2, 52: 0.82 / 0.88 | 4096, 62, 2, 60: 0.94 / 1.00
16: 4096, 48, 2, 44: 0.69 / 0.72 | 4096, 59, 2, 52: 0.82 / 0.88 | 4096, 64, 2, 64: 1.01 / 1.07
17: 4096, 50, 2, 48: 0.75 / 0.79 | 4096, 58, 2, 56: 0.88 / 0.94 | 2048, 39, 1, 36: 1.14 / 1.17
18: 4096, 52, 2, 48: 0.75 / 0.79 | 4096, 63, 2, 56: 0.88 / 0.94 | 2048, 41, 1, 36: 1.14 / 1.17
19: 4096, 54, 2, 52: 0.82 / 0.85 | 4096, 62, 2, 60: 0.94 / 1.00 | 2048, 41, 1, 40: 1.26 / 1.29
20: 4096, 56, 2, 52: 0.82 / 0.85 | 4096, 64, 2, 64: 1.01 / 1.07 | 2048, 42, 1, 40: 1.26 / 1.29
"""
ROWS = [line.split(":", 1) for line in TABLE.strip().splitlines()]
CELLS = [
    (int(bits), hospitals, cell.strip())
    for bits, cells in ROWS
    for hospitals, cell in zip((10, 100, 1000), cells.split("|"), strict=True)
]


@pytest.mark.parametrize(("bits", "hospitals", "expected"), CELLS)
def test_the_planned_parameters_are_those_of_the_design(bits, hospitals, expected):
    holders = min(hospitals, 20)
    layout = plan_layout(
        values=SQUEEZENET, hospitals=hospitals, grid=grid_of(bits), keys_sent=holders + 1
    )
    float32 = 4 * SQUEEZENET
    up = layout.blocks * layout.block_bytes
    whole = up + (holders + 1) * (layout.key_bytes + OVERHEAD)
    found = f"{layout.degree}, {layout.modulus_bits}, {layout.fields}, {layout.wire_bits}"
    assert f"{found}: {up / float32:.2f} / {whole / float32:.2f}" == expected


@settings(max_examples=80, deadline=None)
@given(
    bits=some.integers(2, 40),
    hospitals=some.integers(1, 1023),
    values=some.integers(1, 10**8),
)
def test_every_plan_has_room_or_is_an_error_that_names_a_number(bits, hospitals, values):
    try:
        plan = plan_of(bits, values, hospitals)
    except CapacityError as fault:
        assert "hospitals" in str(fault)
        assert bits + math.log2(hospitals) > 30
        return
    layout = plan.layout
    largest = sum(
        hospitals * (plan.grid.levels - 1) * layout.radix**field for field in range(layout.fields)
    )
    assert largest < 2**layout.plain_bits
    assert hospitals * (2**layout.digit_bits - 1) < 2**layout.plain_bits
    assert layout.tag_coefficients * layout.digit_bits >= 48
    assert layout.salts * (math.log2(plan.grid.levels) - 1) >= 256
    errors = hospitals * (16 + (4.0**layout.bits_cut - 1) / 12)
    assert 2.0 ** (layout.noise_bits - 1) >= 10.86 * math.sqrt(errors) + 1
    assert layout.blocks * layout.values_per_block >= values
    assert layout.security_bits >= 128
    assert plan.bytes_up == 80 + layout.blocks * layout.block_bytes + 2 * layout.degree
    assert SealingPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fields": 4}, "hold no sum"),
        ({"modulus_bits": 57, "bits_cut": 1}, "hold no sum"),
        ({"bits_cut": 6}, "hold no sum"),
        ({"bits_cut": 3}, "nibbles"),
        ({"degree": 2048}, "security"),
        ({"degree": 1024}, "degree"),
        ({"fields": 0}, "degree"),
        ({"hospitals": 1024}, "room for 1023"),
        ({"hospitals": 100}, "hold no sum"),
    ],
)
def test_a_layout_without_room_or_security_cannot_exist(change, why):
    with pytest.raises(CapacityError, match=why):
        dataclasses.replace(plan_of().layout, **change)


def test_more_hospitals_than_a_sum_of_keys_can_tell_are_refused():
    with pytest.raises(CapacityError, match="1023"):
        plan_of(hospitals=1024)


def test_a_plan_of_one_time_keys_names_its_ring_and_no_other_scheme_has_one():
    plan = plan_of()
    with pytest.raises(CapacityError, match="ring"):
        dataclasses.replace(plan, ring=None)
    with pytest.raises(CapacityError):
        dataclasses.replace(plan, scheme="bfv")
    assert plan.describe()["modulus bits"] == 58
    assert plan.describe()["core-SVP bits, two honest hospitals"] >= 128
    other = plan.to_json().replace('"modulus_bits":58', '"modulus_bits":60')
    with pytest.raises(CapacityError):
        SealingPlan.from_json(other)


def numbers_of(document, path=()):
    """Every number of a plan's document but those of its grid, with the way to it."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from numbers_of(value, (*path, name)) if name != "grid" else ()
        elif isinstance(value, int):
            yield (*path, name), value


def test_a_number_that_is_no_whole_one_is_refused_wherever_it_stands():
    """2048.0 has a text of its own: it would be another plan, which fails where it is used."""
    plan = plan_sealing(
        values=900, hospitals=6, grid=grid_of(13), scheme="one-time", absent=Absent(dropouts=1)
    )
    tried = set()
    for path, value in numbers_of(json.loads(plan.to_json())):
        for other in (float(value), bool(value)):
            document = json.loads(plan.to_json())
            group = document
            for name in path[:-1]:
                group = group[name]
            group[path[-1]] = other
            with pytest.raises(CapacityError):
                SealingPlan.from_json(json.dumps(document, sort_keys=True, separators=(",", ":")))
                pytest.fail(f"{path} as {other!r}")
            tried.add(path[-1])
    assert tried >= {"degree", "modulus_bits", "dropped_up", "dropouts", "holders", "threshold"}


@pytest.mark.parametrize("scheme", ["plain", "modular", "ckks", "one-time"])
def test_a_number_that_a_scheme_has_no_use_for_is_refused(scheme):
    """Equal plans would have two names, and hospitals that agree would not know it."""
    plan = plan_sealing(values=900, hospitals=6, grid=grid_of(13), scheme=scheme)
    changes = [{"bits_cut_down": (4, 4)}]
    changes += [{"plain_modulus": 7}] if scheme != "modular" else []
    changes += [{"bits_cut_up": 4}] if scheme != "one-time" else []
    changes += [{"values_per_slot": 2}] if scheme in ("plain", "ckks") else []
    for change in changes:
        with pytest.raises(CapacityError, match="no use"):
            dataclasses.replace(plan, **change)
