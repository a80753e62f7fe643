"""Products modulo X**n + 1 and 2**k, against big integers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from crypto import polynomials
from crypto.errors import PrecisionError
from crypto.polynomials import Multiplicand, Small

DEGREES = [2048, 4096]


def natural(stored):
    """Coefficients in order of their powers."""
    return np.concatenate([stored[..., 0::2], stored[..., 1::2]], axis=-1)


def exact_product(a, s, bits):
    """The negacyclic product by one big-integer multiplication: coefficients in wide fields."""
    a, s = natural(np.asarray(a)), natural(np.asarray(s))
    degree, width = len(a), 128
    half = 1 << (width - 1)
    step = width // 8

    def joined(values):
        whole = b"".join(int(one).to_bytes(step, "little") for one in values)
        return int.from_bytes(whole, "little")

    small = joined(np.maximum(s, 0)) - joined(np.maximum(-s, 0))
    offset = joined([half] * (2 * degree))
    raw = joined(a) * small + offset
    mask = (1 << width) - 1
    whole = raw.to_bytes(width // 8 * (2 * degree + 1), "little", signed=False)
    fields = [
        (int.from_bytes(whole[step * i : step * (i + 1)], "little") & mask) - half
        for i in range(2 * degree)
    ]
    found = [(fields[i] - fields[i + degree]) % (1 << bits) for i in range(degree)]
    return [found[i // 2 + i % 2 * (degree // 2)] for i in range(degree)]


def product(a, s, bits, norm=None):
    small = Small(np.asarray(s, dtype=np.int64))
    rows = np.asarray(a, dtype=np.uint64)
    ready = Multiplicand(rows, bits, norm or small.norm)
    out = np.empty_like(rows)
    ready.times(small, out, np.empty((len(rows), rows.shape[1] // 2), dtype=np.complex128))
    return out & np.uint64(2**bits - 1), ready


def test_the_ring_is_negacyclic():
    a, s = np.zeros((1, 8), np.uint64), np.zeros(8, np.int64)
    a[0, 7], s[2] = 1, 1  # X**7 and X: coefficient j + 4 is stored beside j
    assert product(a, s, 16)[0][0].tolist() == [2**16 - 1, 0, 0, 0, 0, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(
    degree=some.sampled_from([8, 32, 128]),
    bits=some.integers(20, 64),
    most=some.sampled_from([1, 32, 32 * 1023]),
    seed=some.integers(0, 2**32),
)
def test_products_are_those_of_big_integers(degree, bits, most, seed):
    random = np.random.default_rng(seed)
    a = random.integers(0, 2**bits, (2, degree), dtype=np.uint64, endpoint=False)
    s = random.integers(-most, most + 1, degree)
    found, _ = product(a, s, bits)
    for row, one in zip(a, found, strict=True):
        assert one.tolist() == exact_product(row, s, bits)


def powers(degree):
    """The power of X that each stored coefficient belongs to."""
    return np.arange(degree) // 2 + np.arange(degree) % 2 * (degree // 2)


def adversarial(degree, bits):
    """Public polynomials with all their energy in few frequencies, and limbs at their extremes."""
    top, index = 2**bits - 1, powers(degree)
    tones = [
        np.rint((2 ** (bits - 1) - 1) * np.cos(np.pi * (2 * tone + 1) * index / degree))
        for tone in (0, 3, degree // 2 - 1)
    ]
    extreme = sum(1 << start for start in range(0, bits, 2))
    signs = np.where(index % 2, 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    constants = [np.full(degree, value, dtype=object) for value in (top, 1 << (bits - 1), extreme)]
    rows = [*(tone.astype(object) for tone in tones), signs.astype(object), *constants]
    return np.array([[int(value) % (top + 1) for value in row] for row in rows], dtype=np.uint64)


def factors(degree):
    index = powers(degree)
    yield "largest", np.full(degree, 32)
    yield "signs", np.where(index % 2, 32, -32)
    yield "tone", np.rint(32 * np.cos(np.pi * 7 * index / degree)).astype(np.int64)


@pytest.mark.parametrize(("degree", "bits"), [(2048, 46), (4096, 58), (4096, 64)])
@pytest.mark.parametrize(
    "kind", ["largest", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("signs", "tone"))]
)
def test_the_worst_inputs_stay_exact(degree, bits, kind):
    """Tones, signs and constants, at both degrees, by the largest keys that there are."""
    a, s = adversarial(degree, bits), dict(factors(degree))[kind]
    found, ready = product(a, s, bits)
    assert ready.error_bound(32 * math.sqrt(degree)) <= 0.4
    for row, one in zip(a, found, strict=True):
        assert one.tolist() == exact_product(row, s, bits)


@pytest.mark.parametrize("degree", DEGREES)
def test_the_error_found_is_below_the_bound_that_was_computed(degree):
    """Before rounding, against integers: what rounds is far from a half, and the bound is above."""
    bits, index = 23, powers(degree)
    a = np.where(index % 2, 2**22 - 1, 2**22).astype(np.uint64)[None]
    s = np.where(index % 2, 32, -32)
    small = Small(s)
    ready = Multiplicand(a, bits, small.norm)
    assert len(ready.spectra) == 1
    exact = np.array(exact_product(a[0], s, 64), dtype=np.uint64).view(np.int64)
    raw = np.fft.ifft(ready.spectra[0] * small.spectrum, norm="forward")
    shown = (raw * polynomials._twist(degree).conj())[0].view(np.float64)
    # The limb is centred, so the product differs by whole multiples of 2**bits times s.
    error = np.abs((shown - exact + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)).max()
    assert 0 < error <= ready.error_bound(small.norm) <= 0.4


@pytest.mark.parametrize("degree", DEGREES)
def test_uniform_polynomials_need_two_limbs_for_a_key_and_more_for_a_sum_of_many(degree):
    random = np.random.default_rng(1)
    a = random.integers(0, 2**46, (4, degree), dtype=np.uint64)
    key = 5 * math.sqrt(degree)
    assert len(Multiplicand(a, 46, key).spectra) == 2
    assert len(Multiplicand(a, 46, 1000 * key).spectra) > 2


@pytest.mark.parametrize("degree", DEGREES)
def test_what_cannot_be_proved_exact_is_not_computed(degree):
    random = np.random.default_rng(2)
    a = random.integers(0, 2**46, (1, degree), dtype=np.uint64)
    with pytest.raises(PrecisionError, match="limbs"):
        Multiplicand(a, 46, 2.0**45)
    ready = Multiplicand(a, 46, 5 * math.sqrt(degree))
    large = Small(np.full(degree, 32_000))
    with pytest.raises(PrecisionError, match="off by"):
        ready.times(large, np.empty_like(a), np.empty((1, degree // 2), dtype=np.complex128))


def test_too_few_limbs_give_wrong_products(monkeypatch):
    """The control: with the bound switched off, the same inputs come out wrong."""
    monkeypatch.setattr(polynomials, "MOST_ERROR", math.inf)
    degree, bits = 4096, 58
    a, s = adversarial(degree, bits)[:1], np.full(degree, 32)
    found, ready = product(a, s, bits)
    assert len(ready.spectra) == 1
    assert found[0].tolist() != exact_product(a[0], s, bits)


def test_a_factor_shows_nothing_of_itself():
    assert "hidden" in repr(Small(np.arange(8)))
