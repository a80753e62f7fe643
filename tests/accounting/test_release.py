import copy
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from accounting.errors import AccountingError
from accounting.events import ExactEvent, GaussianEvent, PublicEvent
from accounting.grid import plan_grid
from accounting.noise import make_noise_plan
from accounting.noising import noised_unpaid
from accounting.private import Private
from accounting.randomness import Stream
from accounting.receipts import Receipt, Use, is_redeemed, issue_receipt, taken_out
from accounting.release import Exact, Noised, exact, is_released, noised, public

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)


class Place(NamedTuple):
    training: str
    round: int
    attempt: int


@pytest.mark.parametrize("kind", [Receipt, Use, Noised, Exact])
def test_what_proves_a_payment_is_made_by_nobody_else(kind):
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        type("Own", (kind,), {})
    conjured = object.__new__(kind)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copied(conjured)
    assert not is_redeemed(conjured) and not is_released(conjured)


def test_conjured_uses_and_receipts_open_nothing():
    use = object.__new__(Use)
    for name, value in (("place", Place("t", 1, 1)), ("round", 1), ("turn", 1), ("event", EVENT)):
        object.__setattr__(use, name, value)
    with pytest.raises(TypeError, match="not made by its maker"):
        taken_out(Private(1.0), use)
    receipt = object.__new__(Receipt)
    with pytest.raises(TypeError, match="not made by its maker"):
        receipt.use(1, 1)


def test_only_the_book_issues_receipts_and_only_a_release_takes_values_out():
    allowed = {
        "issue_receipt": {"book.py", "receipts.py"},
        "taken_out": {"release.py", "receipts.py", "private.py"},
    }
    root = Path(__file__).parents[2]
    rooms = ("accounting", "clients", "crypto", "deployment", "simulations", "strategies")
    for name, files in allowed.items():
        found = {
            file.name
            for room in rooms
            for file in (root / room).rglob("*.py")
            if name in file.read_text()
        }
        assert found == files


def grid(noise="local"):
    plan = make_noise_plan(noise, noise_multiplier=1.5 if noise != "none" else 0.0, hospitals=3)
    return plan_grid(
        dimensions=4,
        hospitals=3,
        plan=plan,
        l2_clip=1.0,
        expected_patients=10.0,
        rounds=5,
        epsilon=1.0,
        delta=1e-5,
    )


def used(event=EVENT, count=1):
    receipt = issue_receipt(Place("t", 1, 1), event, uses=count, rounds=1)
    return [receipt.use(1, turn) for turn in range(1, count + 1)]


def test_a_noised_value_is_the_plans_and_costs_one_use():
    value, (use,) = np.array([0.1, -0.2, 0.3, 0.0]), used()
    found = noised(Private(value), grid(), Stream.from_seed(1, "noise"), use)
    assert np.array_equal(found.vector, noised_unpaid(value, grid(), Stream.from_seed(1, "noise")))
    assert (found.stddev, found.use) == (grid().noise_stddev, use)
    assert is_released(found) and is_redeemed(use)
    with pytest.raises(TypeError, match="used before"):
        noised(Private(value), grid(), Stream.from_seed(1, "noise"), use)
    with pytest.raises(TypeError):
        np.asarray(found)


def test_an_exact_value_needs_an_exact_event_and_a_noised_one_another():
    value, paid, (one, two, three) = Private(np.ones(4)), *used(), used(ExactEvent(), 3)
    with pytest.raises(AccountingError, match="does not pay"):
        exact(value, paid)
    for plan in (grid(), grid("none")):
        with pytest.raises(AccountingError, match="exact"):
            noised(value, plan, Stream.fresh(), one)
    with pytest.raises(AccountingError):
        noised(value, grid("none"), Stream.fresh(), paid)
    with pytest.raises(AccountingError):
        exact(value, one, grid())
    assert np.array_equal(exact(value, two).vector, np.ones(4))
    sealed = exact(value, three, grid("none"))
    assert np.allclose(sealed.vector, 1.0, atol=grid("none").step)
    assert is_released(sealed) and not is_redeemed(paid)


def test_only_a_declaration_makes_a_value_public():
    for event in (EVENT, ExactEvent()):
        use = issue_receipt(Place("t", 1, 1), event, uses=1, rounds=1).use(1, 1)
        with pytest.raises(AccountingError, match="does not make a value public"):
            public(Private(3), use)
    use = issue_receipt(Place("t", 0, 0), PublicEvent(), uses=1, rounds=1).use(0, 1)
    assert public(Private(3), use) == 3
    with pytest.raises(TypeError):
        public(Private(3), use)


def test_a_declaration_pays_for_nothing_else():
    use = issue_receipt(Place("t", 0, 0), PublicEvent(), uses=1, rounds=1).use(0, 1)
    with pytest.raises(AccountingError):
        exact(Private(np.zeros(2)), use)
