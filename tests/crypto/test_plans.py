import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto.errors import CapacityError
from crypto.parameters import COEFFICIENT_PRIME, DEGREE, SPECIAL_PRIME, batching_prime
from crypto.planning import plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer


def grid_of(bits, bound=1.0):
    return Quantiser(step=bound / (2 ** (bits - 1) - 1), bound=bound)


def plan_of(bits=13, values=725_061, hospitals=10, scheme="bfv", mode="auto"):
    return plan_sealing(
        values=values, hospitals=hospitals, grid=grid_of(bits), scheme=scheme, key_mode=mode
    )


@settings(max_examples=150, deadline=None)
@given(
    bits=some.integers(2, 40),
    hospitals=some.integers(1, 5000),
    values=some.integers(1, 10**8),
    mode=some.sampled_from(["symmetric", "public"]),
)
def test_every_plan_has_room_or_is_an_error_that_names_a_number(bits, hospitals, values, mode):
    try:
        plan = plan_of(bits, values, hospitals, mode=mode)
    except CapacityError as fault:
        assert "hospitals" in str(fault)
        assert bits + math.log2(hospitals) > 35
        return
    levels, modulus = plan.grid.levels, plan.plain_modulus
    largest = sum(
        hospitals * (levels - 1) * plan.radix**field for field in range(plan.values_per_slot)
    )
    assert largest < modulus
    assert hospitals * (levels - 1) < plan.radix
    assert modulus % (2 * DEGREE) == 1
    assert modulus not in (COEFFICIENT_PRIME, SPECIAL_PRIME)
    assert modulus > 2**40
    assert 13 * plan.lattice_noise_stddev <= COEFFICIENT_PRIME / (2 * modulus)
    assert plan.ciphertexts * plan.data_slots * plan.values_per_slot >= values
    assert SealingPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("bits", "hospitals", "per_slot"), [(13, 10, 3), (16, 10, 2), (16, 100, 2), (16, 1000, 1)]
)
def test_values_a_slot_are_those_that_fit(bits, hospitals, per_slot):
    assert plan_of(bits, hospitals=hospitals).values_per_slot == per_slot


def test_a_sealed_update_is_smaller_than_a_float32_update():
    assert plan_of(13).describe()["bytes up / float32"] <= 0.60
    assert plan_of(20).describe()["bytes up / float32"] <= 0.83
    assert plan_of(13, mode="public").describe()["bytes up / float32"] <= 1.25


def test_the_default_key_mode_is_the_smaller():
    assert plan_of().key_mode == "symmetric"
    up = [plan_of(mode=mode).describe()["bytes up"] for mode in ("symmetric", "public")]
    assert up[0] < up[1]


@pytest.mark.parametrize(
    "change",
    [
        {"plain_modulus": batching_prime(2**45, DEGREE)},  # a field would overflow
        {"plain_modulus": batching_prime(2**51, DEGREE)},  # no noise room
        {"plain_modulus": 2**50 + 1},  # not batching
        {"values_per_slot": 4},
        {"values_per_slot": 0},
        {"values_per_slot": 3.0},
        {"version": True},
        {"hospitals": 20},
        {"hospitals": 0},
        {"hospitals": 10.0},
        {"values": 0},
        {"values": True},
        {"bits_cut_up": 8},
        {"bits_cut_up": 3},
        {"bits_cut_up": -4},
        {"bits_cut_down": (8, 8)},
        {"key_mode": "none"},
        {"scheme": "masks"},
        {"version": 2},
    ],
)
def test_a_plan_without_room_cannot_exist(change):
    with pytest.raises(CapacityError):
        dataclasses.replace(plan_of(), **change)


@pytest.mark.parametrize(
    ("step", "bound"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1.5), (math.nan, 1.0), (1.0, math.inf), (1, 2**60)],
)
def test_a_grid_that_is_none_is_refused(step, bound):
    with pytest.raises(CapacityError):
        Quantiser(step=step, bound=bound)


def test_a_grid_counts_its_levels():
    grid = Quantiser(step=0.25, bound=1.0)
    assert (grid.half, grid.levels, grid.bits) == (4, 9, 4)
    assert grid_of(13).levels == 2**13 - 1
    assert grid_of(13).bits == 13


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"values": "10"},
        lambda document: document | {"values": 11.0},
        lambda document: document | {"extra": 1},
        lambda document: {key: value for key, value in document.items() if key != "grid"},
        lambda document: document | {"grid": {"step": 1}},
        lambda document: document | {"lattice": {"degree": 2048}},
        lambda document: document | {"dropped_down": [0]},
        lambda document: [document],
    ],
)
def test_json_that_is_no_plan_is_refused(change):
    document = json.loads(plan_of().to_json())
    changed = json.dumps(change(document), sort_keys=True, separators=(",", ":"))
    with pytest.raises(CapacityError):
        SealingPlan.from_json(changed)
    with pytest.raises(CapacityError):
        SealingPlan.from_json(json.dumps(document, indent=1))


def test_every_public_parameter_changes_the_parameter_id():
    plan = plan_of()
    others = [
        plan_of(bits=12),
        plan_of(values=725_062),
        plan_of(hospitals=9),
        plan_of(mode="public"),
        plan_of(scheme="modular"),
        dataclasses.replace(plan, bits_cut_up=0),
        dataclasses.replace(plan, bits_cut_down=(0, 0)),
        dataclasses.replace(plan, grid=Quantiser(step=2 * plan.grid.step, bound=2.0)),
    ]
    assert len({plan.parameter_id, *(other.parameter_id for other in others)}) == 9


def test_a_plan_keeps_the_parameter_id_that_earlier_versions_gave_it():
    """Ledgers, rosters and resumed trainings name plans by it."""
    expected = "9765c2924de4df46cfbd0cf8cde5351877ece8a798584fa56b30c78cf08abfca"
    assert plan_of().parameter_id == expected


def test_equal_grids_give_one_parameter_id():
    whole, real = Quantiser(step=1, bound=8), Quantiser(step=1.0, bound=8.0)
    plans = [plan_sealing(values=9, hospitals=2, grid=g, scheme="bfv") for g in (whole, real)]
    assert plans[0].to_json() == plans[1].to_json()
    assert plans[0].parameter_id == plans[1].parameter_id


def test_ckks_refuses_more_hospitals_than_its_scale_allows():
    plan_of(scheme="ckks", hospitals=1024)
    with pytest.raises(CapacityError, match="hospitals"):
        plan_of(scheme="ckks", hospitals=1025)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_noise_of_a_full_sum_stays_within_the_planned_standard_deviation(mode):
    """Measured by SEAL's own noise budget, on a sum of as many as planned."""
    hospitals = 24
    plan = plan_of(values=4000, hospitals=hospitals, mode=mode)
    keys = make_keys(plan)
    place = Place(training="t", round=1, attempt=0)
    names = [f"h{index}" for index in range(hospitals)]
    adder, nonces = make_adder(plan), {}
    for name in names:
        sealed = make_sealer(plan, keys, name).seal(np.full(4000, 1.0), place)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    total = adder.total()
    assert np.allclose(make_opener(plan, keys).open(total, nonces, place), hospitals)
    budget = noise_budget(plan, keys, total)
    # The largest of 4,096 coefficients lies near 3.9 standard deviations, never near 13.
    used = plan.noise_limit / 2.0 ** (budget + 1)
    assert used <= 7 * plan.lattice_noise_stddev


def noise_budget(plan, keys, total):
    """Bits that remain, as SEAL counts them: floor(log2(q / (2 t |noise|))) ."""
    from crypto.bfv import lattice_of, read_blocks
    from crypto.frames import Content, read_frame
    from crypto.lattice import scratch

    lattice = lattice_of(plan)
    frame = read_frame(total, plan, content=Content.TOTAL, key_id=None)
    residues = np.empty((2, plan.ciphertexts, plan.degree), dtype=np.uint64)
    read_blocks(frame, plan, residues)
    ciphertext = lattice.seal.Ciphertext()
    with scratch() as file:
        saved = lattice.full(residues[0, 0], residues[1, 0])
        ciphertext.load(lattice.context, file.holding(saved))
    key = lattice.load_key("SecretKey", keys.secret)
    return lattice.seal.Decryptor(lattice.context, key).invariant_noise_budget(ciphertext)
