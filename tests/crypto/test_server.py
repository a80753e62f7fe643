"""What a server holds and what it can do with it."""

import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from crypto.bfv import lattice_of
from crypto.errors import KeysError, SealingError
from crypto.planning import plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser, Sealed
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)
PLACE = Place(training="t", round=1, attempt=0)
ROOT = Path(__file__).resolve().parents[2]


def sealed_by(names, plan, keys, vector):
    """Each hospital's sealing of one vector, by name."""
    return {name: make_sealer(plan, keys, name).seal(vector, PLACE) for name in names}


def nonces_of(sealed):
    return {name: one.nonce for name, one in sealed.items()}


def build(mode="symmetric", values=100, hospitals=3):
    plan = plan_sealing(values=values, hospitals=hospitals, grid=GRID, scheme="bfv", key_mode=mode)
    return plan, make_keys(plan)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_server_context_cannot_decrypt(mode):
    """An adder made from the plan's public text holds no key, and none can be got from it."""
    plan, _ = build(mode)
    adder = make_adder(SealingPlan.from_json(plan.to_json()))
    held = {type(thing).__name__ for thing in [adder, *vars(adder).values()]}
    assert not held & {"Decryptor", "SecretKey", "Keys", "Encryptor", "KeyGenerator"}
    lattice = vars(lattice_of(plan))
    kinds = {type(thing).__name__ for thing in lattice.values()}
    assert not kinds & {"Decryptor", "SecretKey", "Encryptor", "KeyGenerator", "PublicKey"}
    for key in (b"", bytes(100)):
        with pytest.raises(KeysError):
            lattice_of(plan).decryptor(key)


def test_a_key_made_by_the_server_opens_nothing():
    plan, keys = build()
    adder = make_adder(plan)
    sealed = sealed_by("abc", plan, keys, np.ones(100))
    for one in sealed.values():
        adder.add(one)
    with pytest.raises(SealingError):
        make_opener(plan, make_keys(plan)).open(adder.total(), nonces_of(sealed), PLACE)


def test_ciphertexts_do_not_show_the_plaintext():
    """Two vectors far apart give bytes that look alike: uniform, and unlike each other."""
    plan, keys = build(values=12_000)
    sealer = make_sealer(plan, keys, "a")
    for value in (0.0, 0.9):
        body = sealer.seal(np.full(12_000, value), PLACE).payload[80:]
        counts = np.bincount(np.frombuffer(body, np.uint8), minlength=256)
        expected = len(body) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 400  # chi-square, 255 degrees


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_a_refused_vector_leaves_the_sum_as_it_was(mode):
    plan, keys = build(mode, values=12_000, hospitals=10)
    both = sealed_by("ab", plan, keys, np.ones(12_000))
    sealed = list(both.values())
    adder = make_adder(plan)
    adder.add(sealed[0])
    bad = sealed[1].payload[:80] + b"\xff" * (sealed[1].size - 80)
    with pytest.raises(SealingError):
        adder.add(Sealed(payload=bad))
    adder.add(sealed[1])
    assert adder.contributions == 2
    opened = make_opener(plan, keys).open(adder.total(), nonces_of(both), PLACE)
    assert np.allclose(opened, 2 * GRID.bound)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_an_adder_may_be_asked_for_a_total_between_additions(mode):
    plan, keys = build(mode)
    adder, opener = make_adder(plan), make_opener(plan, keys)
    nonces = {}
    for index, name in enumerate("abc", start=1):
        sealed = make_sealer(plan, keys, name).seal(np.full(100, 0.5), PLACE)
        adder.add(sealed)
        nonces[name] = sealed.nonce
        opened = opener.open(adder.total(), nonces, PLACE)
        assert np.allclose(opened, 0.5 * index)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_sums_of_more_than_fit_64_bits_unreduced_are_exact(mode):
    """Residues have 60 bits, so sixteen overflow a word: reduction comes in time."""
    plan, keys = build(mode, hospitals=50)
    names = [f"h{index}" for index in range(50)]
    adder = make_adder(plan)
    sealed = sealed_by(names, plan, keys, np.full(100, -0.25))
    for one in sealed.values():
        adder.add(one)
    opened = make_opener(plan, keys).open(adder.total(), nonces_of(sealed), PLACE)
    assert np.allclose(opened, -12.5)


@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_server_memory_is_flat_in_the_number_of_hospitals(mode):
    plan, keys = build(mode, values=60_000, hospitals=200)
    sealed = make_sealer(plan, keys, "a").seal(np.zeros(60_000), PLACE)
    adder = make_adder(plan)
    adder.add(sealed)
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(60):
        adder.add(sealed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # Sixty vectors would be 60 times as much as one.
    assert peak < 3 * sealed.size
    assert 1024 * grown < 10 * sealed.size


def test_importing_the_schemes_does_not_load_tenseal():
    program = "import sys, crypto.schemes, crypto.ceremony; print('tenseal' in sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert child.stdout.strip() == "False", child.stderr


def test_one_sealer_and_one_opener_serve_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    plan, keys = build(values=30_000, hospitals=8)
    sealer = make_sealer(plan, keys, "h0")
    vector = np.linspace(-1, 1, 30_000)
    with ThreadPoolExecutor(4) as pool:
        sealed = list(pool.map(lambda _: sealer.seal(vector, PLACE), range(8)))
    opener, totals = make_opener(plan, keys), []
    for one in sealed:
        adder = make_adder(plan)
        adder.add(one)
        totals.append((adder.total(), {"h0": one.nonce}))
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda total: opener.open(*total, PLACE), totals))
    expected = np.clip(vector, -GRID.bound, GRID.bound)
    assert all(np.allclose(one, expected, atol=GRID.step) for one in opened)
