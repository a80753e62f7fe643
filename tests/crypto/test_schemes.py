"""One contract for every sealing scheme."""

import numpy as np
import pytest
from pairing import opener_of, sealer_of

from crypto.errors import (
    CapacityError,
    ContributionError,
    KeyMismatchError,
    OpeningRefusedError,
    ParameterMismatchError,
    SchemeMismatchError,
    SealError,
    SealingError,
    TagMismatchError,
)
from crypto.frames import Content, read_frame, write_frame
from crypto.modular import read_slots
from crypto.packing import to_planes
from crypto.planning import plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser, Sealed
from crypto.schemes import (
    SCHEMES,
    make_adder,
    make_keys,
    require_returnable,
)

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)
PLACE = Place(training="t-1", round=3, attempt=0)
VARIANTS = [
    ("plain", "auto"),
    ("modular", "auto"),
    ("bfv", "symmetric"),
    ("bfv", "public"),
    ("ckks", "symmetric"),
    ("ckks", "public"),
    ("one-time", "auto"),
]
TAGGED = VARIANTS[1:]
EXACT = [*VARIANTS[1:4], ("one-time", "auto")]
#: Keys for one sum each open the sum of all alone.
OPENS_FEWER = VARIANTS[:-1]
NAMES = tuple(f"hospital-{index}" for index in range(4))


def build(variant, values=13_000, hospitals=4):
    plan = plan_sealing(
        values=values, hospitals=hospitals, grid=GRID, scheme=variant[0], key_mode=variant[1]
    )
    return plan, make_keys(plan)


def vectors(values=13_000, count=4, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(scale=0.4, size=values) for _ in range(count)]


def sum_of(plan, keys, given, names=NAMES, place=PLACE):
    """The sealed sum, and its contributors' nonces."""
    adder, nonces = make_adder(plan), {}
    for name, vector in zip(names, given, strict=True):
        sealed = sealer_of(plan, keys, name, NAMES).seal(vector, place)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    return adder.total(), nonces


def grid_sum(given):
    fields = sum(
        np.rint((np.clip(vector, -GRID.bound, GRID.bound) + GRID.bound) / GRID.step)
        for vector in given
    )
    return (fields - len(given) * GRID.half) * GRID.step


@pytest.mark.parametrize("variant", EXACT)
def test_exact_schemes_open_to_the_integer_sum_bit_for_bit(variant):
    plan, keys = build(variant)
    given = vectors()
    opened = opener_of(plan, keys, NAMES).open(*sum_of(plan, keys, given), PLACE)
    assert opened.dtype == np.float64
    assert np.array_equal(opened, grid_sum(given))


@pytest.mark.parametrize("variant", EXACT)
def test_the_extremes_of_the_grid_neither_overflow_nor_leak_into_neighbours(variant):
    plan, keys = build(variant)
    given = [np.where(np.arange(13_000) % 2, 1e9, -1e9) for _ in range(4)]
    opened = opener_of(plan, keys, NAMES).open(*sum_of(plan, keys, given), PLACE)
    assert np.array_equal(opened, np.where(np.arange(13_000) % 2, 4, -4) * GRID.bound)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_ckks_opens_within_its_stated_error(mode):
    plan, keys = build(("ckks", mode))
    given = vectors()
    opened = opener_of(plan, keys, NAMES).open(*sum_of(plan, keys, given), PLACE)
    exact = sum(np.clip(vector, -GRID.bound, GRID.bound) for vector in given)
    assert np.abs(opened - exact).max() <= 4 * plan.error_bound_of_mean


def test_plain_opens_to_the_float64_sum():
    plan, keys = build(("plain", "auto"))
    given = vectors()
    opened = opener_of(plan, keys, NAMES).open(*sum_of(plan, keys, given), PLACE)
    assert np.array_equal(opened, sum(given[1:], given[0].copy()))


@pytest.mark.parametrize("variant", OPENS_FEWER)
def test_fewer_contributors_than_planned_open_too(variant):
    plan, keys = build(variant)
    given = vectors(count=2)
    total, nonces = sum_of(plan, keys, given, names=NAMES[1:3])
    opened = opener_of(plan, keys, NAMES).open(total, nonces, PLACE)
    assert np.allclose(opened, np.clip(given[0], -1, 1) + np.clip(given[1], -1, 1), atol=3.0)
    with pytest.raises(ContributionError):
        opener_of(plan, keys, NAMES).open(total, nonces | {NAMES[0]: bytes(32)}, PLACE)
    with pytest.raises(ContributionError):
        opener_of(plan, keys, NAMES).open(total, {NAMES[1]: nonces[NAMES[1]]}, PLACE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bytes_on_the_wire_are_as_planned(variant):
    plan, keys = build(variant)
    described = plan.describe()
    one = sealer_of(plan, keys, NAMES[0], NAMES).seal(vectors()[0], PLACE)
    assert one.size == described["bytes up"]
    assert sum_of(plan, keys, vectors())[0].size == described["bytes down"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_that_cannot_be_sealed_are_refused(variant):
    plan, keys = build(variant, values=10)
    sealer = sealer_of(plan, keys, NAMES[0], NAMES)
    for wrong in (
        np.zeros(9),
        np.zeros((10, 1)),
        np.zeros(10, dtype=np.float32),
        np.full(10, np.nan),
        np.full(10, np.inf),
    ):
        with pytest.raises(SealError):
            sealer.seal(wrong, PLACE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adder_refuses_more_than_planned_and_an_empty_sum(variant):
    plan, keys = build(variant, values=10, hospitals=2)
    adder = make_adder(plan)
    with pytest.raises(ContributionError):
        adder.total()
    one = sealer_of(plan, keys, NAMES[0], NAMES).seal(np.zeros(10), PLACE)
    adder.add(one)
    adder.add(one)
    assert adder.contributions == 2
    with pytest.raises(ContributionError):
        adder.add(one)


@pytest.mark.parametrize("variant", TAGGED)
def test_other_keys_other_plans_and_other_schemes_are_refused_by_name(variant):
    plan, keys = build(variant, values=10)
    other_keys = make_keys(plan)
    adder = make_adder(plan, keys.key_id)
    with pytest.raises(KeyMismatchError):
        adder.add(sealer_of(plan, other_keys, NAMES[0], NAMES).seal(np.zeros(10), PLACE))
    other_plan, its_keys = build(variant, values=11)
    with pytest.raises(ParameterMismatchError):
        adder.add(sealer_of(other_plan, its_keys, NAMES[0], NAMES).seal(np.zeros(11), PLACE))
    plain, none = build(("plain", "auto"), values=10)
    with pytest.raises(SchemeMismatchError):
        adder.add(sealer_of(plain, none, NAMES[0], NAMES).seal(np.zeros(10), PLACE))
    with pytest.raises(KeyMismatchError):
        sealer_of(other_plan, keys, NAMES[0], NAMES)
    with pytest.raises(KeyMismatchError):
        opener_of(other_plan, keys, NAMES)
    assert adder.contributions == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_plan_survives_json_and_keeps_its_id(variant):
    plan, _ = build(variant)
    again = SealingPlan.from_json(plan.to_json())
    assert again == plan
    assert again.parameter_id == plan.parameter_id


@pytest.mark.parametrize("variant", EXACT[1:])
def test_sealing_twice_gives_different_bytes(variant):
    plan, keys = build(variant, values=10)
    sealer = sealer_of(plan, keys, NAMES[0], NAMES)
    body = [sealer.seal(np.ones(10), PLACE).payload[80:] for _ in range(2)]
    same = np.frombuffer(body[0], np.uint8) == np.frombuffer(body[1], np.uint8)
    assert same.mean() < 0.02


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_refusal_carries_a_code(variant):
    plan, _ = build(variant, values=10)
    with pytest.raises(SealingError) as caught:
        make_adder(plan).add(Sealed(payload=b""))
    assert caught.value.code == "malformed-frame"


def test_ckks_openings_are_never_returned_to_a_server():
    plan, _ = build(("ckks", "auto"), values=10)
    with pytest.raises(OpeningRefusedError, match="leaks"):
        require_returnable(plan)
    for name in set(SCHEMES) - {"ckks"}:
        require_returnable(build((name, "auto"), values=10)[0])


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(CapacityError, match="plain, modular, bfv, ckks"):
        plan_sealing(values=1, hospitals=1, grid=GRID, scheme="masks")


@pytest.mark.parametrize("variant", TAGGED)
def test_a_sum_is_not_of_other_names_rounds_attempts_or_trainings(variant):
    plan, keys = build(variant, values=100)
    total, nonces = sum_of(plan, keys, vectors(values=100))
    opener = opener_of(plan, keys, NAMES)
    opener.open(total, nonces, PLACE)
    for place in (
        Place(training="t-2", round=3, attempt=0),
        Place(training="t-1", round=4, attempt=0),
        Place(training="t-1", round=3, attempt=1),
    ):
        with pytest.raises(TagMismatchError):
            opener.open(total, nonces, place)
    with pytest.raises(TagMismatchError):
        stranger = {name: nonces[name] for name in NAMES[:3]} | {"stranger": nonces[NAMES[3]]}
        opener.open(total, stranger, PLACE)


@pytest.mark.parametrize("variant", TAGGED)
def test_a_sum_opens_with_the_nonces_it_was_sealed_with_alone(variant):
    plan, keys = build(variant, values=100)
    total, nonces = sum_of(plan, keys, vectors(values=100))
    opener = opener_of(plan, keys, NAMES)
    with pytest.raises(TagMismatchError):
        opener.open(total, nonces | {NAMES[0]: bytes(32)}, PLACE)
    exchanged = nonces | {NAMES[0]: nonces[NAMES[1]], NAMES[1]: nonces[NAMES[0]]}
    with pytest.raises(TagMismatchError):
        opener.open(total, exchanged, PLACE)
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ContributionError, match="nonce"):
            opener.open(total, nonces | {NAMES[0]: wrong}, PLACE)
    opener.open(total, nonces, PLACE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_sealing_draws_its_own_nonce(variant):
    plan, keys = build(variant, values=10)
    sealer = sealer_of(plan, keys, NAMES[0], NAMES)
    nonces = {sealer.seal(np.zeros(10), PLACE).nonce for _ in range(8)}
    assert len(nonces) == 8
    assert {len(nonce) for nonce in nonces} == {32}


@pytest.mark.parametrize("repeated", [False, True])
def test_the_difference_of_two_vectors_of_one_place_cannot_be_added_to_a_sum(monkeypatch, repeated):
    """With one nonce for both, the control, the forgery opens: its tag is the honest one."""
    if repeated:
        monkeypatch.setattr("crypto.modular.new_nonce", lambda: bytes(32))
    plan, keys = build(("modular", "auto"), values=100)
    first, second = (0.05 * vector for vector in vectors(values=100, count=2))
    sealer = sealer_of(plan, keys, NAMES[0], NAMES)
    sealed = [sealer.seal(vector, PLACE) for vector in (first, second)]
    slots = np.empty((2, plan.ciphertexts, plan.slots), dtype=np.uint64)
    for one, out in zip(sealed, slots, strict=True):
        read_slots(read_frame(one, plan, content=Content.SINGLE, key_id=None), plan, out)
    modulus = np.uint64(plan.plain_modulus)
    total = write_frame(
        plan,
        content=Content.TOTAL,
        key_id=keys.key_id,
        contributions=1,
        body=[
            to_planes(row, plan.slot_bits) for row in (2 * slots[0] + modulus - slots[1]) % modulus
        ],
    )
    opener = opener_of(plan, keys, NAMES)
    if repeated:
        opened = opener.open(total, {NAMES[0]: bytes(32)}, PLACE)
        assert np.abs(opened - (2 * first - second)).max() <= 2 * GRID.step
        return
    for one in sealed:
        with pytest.raises(TagMismatchError):
            opener.open(total, {NAMES[0]: one.nonce}, PLACE)
