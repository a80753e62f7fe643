import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.errors import AccountingError
from accounting.events import (
    ExactEvent,
    GaussianEvent,
    InputNoiseEvent,
    PublicEvent,
    SharedPatientEvent,
    from_json,
    merge,
    to_json,
)
from accounting.prv import prv_epsilon

rates = st.floats(1e-6, 1.0)
multipliers = st.floats(1e-3, 1e3)
counts = st.integers(0, 10**6)
gaussians = st.builds(
    GaussianEvent, sampling_rate=rates, noise_multiplier=multipliers, count=counts
)
shared = st.builds(
    SharedPatientEvent,
    sampling_rate=rates,
    noise_multiplier=multipliers,
    hospitals=st.integers(1, 9),
    count=counts,
)
inputs = st.builds(
    InputNoiseEvent,
    epsilon_value=st.floats(1e-9, 1e9),
    values=st.integers(1, 10**6),
    count=counts,
)
exact = st.builds(ExactEvent, count=counts)
events = st.one_of(gaussians, shared, exact, inputs, st.builds(PublicEvent, count=counts))


@given(events)
def test_an_event_comes_back_from_json_bit_for_bit(event):
    assert from_json(to_json(event)) == event


@given(st.lists(events, max_size=8))
def test_merging_keeps_every_count(several):
    merged = merge(several + several)
    assert sum(e.count for e in merged) == 2 * sum(e.count for e in several)
    mechanisms = [dataclasses.replace(e, count=1) for e in merged]
    assert len(set(mechanisms)) == len(mechanisms)


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"sampling_rate": float("nan")},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("inf")},
        {"count": -1},
        {"count": 1.5},
        {"count": True},
    ],
)
def test_a_parameter_out_of_range_is_refused_with_its_value(fields):
    good = {"sampling_rate": 0.1, "noise_multiplier": 1.0, "count": 1}
    with pytest.raises(AccountingError, match=str(next(iter(fields.values())))):
        GaussianEvent(**{**good, **fields})


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "magic"},
        {"kind": ["gaussian"]},
        {"kind": "gaussian"},
        {"kind": "gaussian", "sampling_rate": "0.1", "noise_multiplier": 1.0},
        {"kind": "gaussian", "sampling_rate": 0.1, "noise_multiplier": 1.0, "extra": 1},
        {"kind": "gaussian", "sampling_rate": True, "noise_multiplier": 1.0},
    ],
)
def test_json_that_is_no_event_is_refused(data):
    with pytest.raises(AccountingError):
        from_json(data)


@pytest.mark.parametrize("number", [math.inf, math.nan, 10**400, 2**63, 1.5, -1, True, "2"])
def test_what_is_counted_is_a_whole_number_that_can_be(number):
    with pytest.raises(AccountingError, match="rounds is"):
        GaussianEvent(sampling_rate=0.1, noise_multiplier=1.0, count=number)
    with pytest.raises(AccountingError, match="hospitals is"):
        SharedPatientEvent(sampling_rate=0.1, noise_multiplier=1.0, hospitals=number)
    with pytest.raises(AccountingError, match="values is"):
        InputNoiseEvent(epsilon_value=1.0, values=number)


def test_whole_numbers_of_hospitals_may_be_floats():
    two, as_float = (
        SharedPatientEvent(sampling_rate=0.1, noise_multiplier=1.0, hospitals=number)
        for number in (2, 2.0)
    )
    assert prv_epsilon([two], 1e-5) == prv_epsilon([as_float], 1e-5)


def test_the_faintest_noise_in_the_most_rounds_ends_in_a_number():
    event = GaussianEvent(sampling_rate=1.0, noise_multiplier=1.1e-100, count=2**63 - 1)
    assert prv_epsilon([event], 1e-5) > 1e100
