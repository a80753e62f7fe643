"""Slots of a pass: who leaves empties one slot and moves nobody, and the sums pay for no more."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from accounting.randomness import Stream
from clients.learning.slots import deal_slots


class Ordered:
    """A stream that gives one order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        self._order = order

    def permutation(self, size: int) -> np.ndarray:
        assert size == len(self._order)
        return np.array(self._order)


def dealt(order: tuple[int, ...], patients: int, batches: int) -> tuple[int, ...]:
    stream: Stream = Ordered(order)  # type: ignore[assignment]
    slots = deal_slots(patients, batches=batches, size=len(order) // batches, stream=stream)
    return tuple(int(slot) for slot in slots)


def cases() -> Iterator[tuple[int, int, int]]:
    """Batches, slots in all, and patients, small enough for every order of slots."""
    for batches, size in ((1, 3), (2, 2), (3, 2), (2, 3)):
        for patients in range(1, batches * size + 1):
            yield batches, batches * size, patients


@pytest.mark.parametrize(("batches", "slots", "patients"), list(cases()))
def test_without_a_patient_the_others_keep_their_slots_in_law(
    batches: int, slots: int, patients: int
) -> None:
    """Over all orders, which are equally likely: the same counts, one patient's slot left out."""
    orders = list(itertools.permutations(range(slots)))
    for leaver in range(patients):
        whole = Counter(
            tuple(s for k, s in enumerate(dealt(order, patients, batches)) if k != leaver)
            for order in orders
        )
        less = Counter(dealt(order, patients - 1, batches) for order in orders)
        assert whole == less


@pytest.mark.parametrize(("batches", "slots", "patients"), list(cases()))
def test_the_orders_of_both_worlds_are_paired_so_that_one_slot_is_emptied(
    batches: int, slots: int, patients: int
) -> None:
    """The bijection of the proof: take the leaver's entry out, put it at the end."""
    for leaver in range(patients):
        seen = set()
        for order in itertools.permutations(range(slots)):
            moved = (*order[:leaver], *order[leaver + 1 :], order[leaver])
            seen.add(moved)
            before, after = dealt(order, patients, batches), dealt(moved, patients - 1, batches)
            assert after == (*before[:leaver], *before[leaver + 1 :])
        assert len(seen) == len(list(itertools.permutations(range(slots))))


def test_dealing_by_order_moves_everybody_who_comes_after() -> None:
    """The negative control: patients in turn to the batches, as they are listed."""

    def by_order(names: list[str]) -> dict[str, int]:
        return {name: number for number, name in enumerate(names)}

    whole, less = by_order(list("abcd")), by_order(list("bcd"))
    assert all(whole[name] != less[name] for name in less)


def test_slots_are_distinct_and_equally_likely() -> None:
    counts = np.zeros((3, 8))
    for number in range(4000):
        slots = deal_slots(3, batches=2, size=4, stream=Stream.from_seed(number, "slots"))
        assert len(set(slots.tolist())) == 3
        counts[np.arange(3), slots] += 1
    # Each of 8 slots with 500 +- 21: five deviations.
    assert np.abs(counts - 500).max() < 5 * 21


def test_patients_without_a_slot_are_left_out_and_nobody_is_told() -> None:
    stream = Stream.from_seed
    assert len(deal_slots(4, batches=2, size=2, stream=stream(1, "slots"))) == 4
    dealt = deal_slots(5, batches=2, size=2, stream=stream(1, "slots"))
    assert sorted(dealt.tolist()) == [0, 1, 2, 3]
