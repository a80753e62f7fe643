"""How many answers open one sum and nothing else: the theorem, against ranks over all small cases.

Every dealer's polynomial has t coefficients; a holder's answer is one linear equation in all of
them. What answers tell of the keys is the part of their row space that touches keys alone.
"""

import itertools
import random

import pytest

from crypto.errors import CapacityError
from crypto.sharing import PRIME
from crypto.thresholds import most_colluders, plan_threshold


def reduced(rows):
    """Row echelon form modulo p, without zero rows."""
    rows, done = [list(row) for row in rows], []
    width = len(rows[0]) if rows else 0
    for column in range(width):
        pivot = next((row for row in rows if row[column]), None)
        if pivot is None:
            continue
        rows = [row for row in rows if row is not pivot]
        inverse = pow(pivot[column], -1, PRIME)
        pivot = [value * inverse % PRIME for value in pivot]
        rows = [
            [(a - row[column] * b) % PRIME for a, b in zip(row, pivot, strict=True)]
            if row[column]
            else row
            for row in rows
        ]
        done.append(pivot)
    return done


def learnt(rosters, colluders, threshold, dealers, points=None):
    """What the answers of honest holders and all shares of colluding ones tell of the keys.

    Args:
        rosters: The roster that each honest holder answered, or None where it was silent; a list
            of several where it was restored and answered again.
        colluders: How many further holders show every share they have.
        threshold: t.
        dealers: The honest dealers.
        points: Of all holders, honest ones first.

    Returns:
        A basis of the known linear functions of the keys, a coefficient per dealer.
    """
    holders = len(rosters) + colluders
    points = points or list(range(1, holders + 1))
    dealers = list(dealers)

    def row(members, x):
        powers = [pow(x, power, PRIME) for power in range(threshold)]
        # Higher powers first: what is left in front of the keys' columns is eliminated.
        return [
            powers[power] if dealer in members else 0
            for power in range(threshold - 1, 0, -1)
            for dealer in dealers
        ] + [1 if dealer in members else 0 for dealer in dealers]

    rows = []
    for answered, x in zip(rosters, points, strict=False):
        several = answered if isinstance(answered, list) else [answered]
        rows += [row(members, x) for members in several if members]
    for x in points[len(rosters) :]:
        rows += [row({dealer}, x) for dealer in dealers]
    keys = len(dealers)
    return [one[-keys:] for one in reduced(rows) if not any(one[:-keys])]


def rosters_of(hospitals, dropouts):
    names = range(hospitals)
    return [
        frozenset(some)
        for size in range(hospitals - dropouts, hospitals + 1)
        for some in itertools.combinations(names, size)
    ]


def one_sum_at_most(found):
    """At most one function, and that one the sum of some keys."""
    if len(found) > 1:
        return False
    values = {value for one in found for value in one if value}
    return len(values) <= 1


# hospitals that all hold shares, threshold, dropouts
SMALL = [(3, 3, 1), (4, 3, 1), (4, 4, 1), (4, 3, 2), (4, 3, 3)]


@pytest.mark.parametrize(
    ("hospitals", "threshold", "dropouts"),
    [
        *(case for case in SMALL if case != (4, 3, 3)),
        pytest.param(4, 3, 3, marks=pytest.mark.exhaustive),
        pytest.param(5, 4, 1, marks=pytest.mark.exhaustive),
        pytest.param(5, 3, 1, marks=pytest.mark.exhaustive),
    ],
)
def test_three_rosters_and_more_open_nothing_but_one_sum(hospitals, threshold, dropouts):
    """Every way in which all honest holders may answer, the server's choice."""
    rosters, some = rosters_of(hospitals, dropouts), random.Random(0)
    assignments = list(itertools.product(rosters, repeat=hospitals))
    if len(assignments) > 60_000:
        assignments = some.sample(assignments, 60_000)
    elif len(assignments) > 500 and (hospitals, dropouts) == (4, 2):
        assignments = some.sample(assignments, 500)
    for assignment in assignments:
        found = learnt(assignment, 0, threshold, range(hospitals))
        assert one_sum_at_most(found)
    # With enough for one roster, its sum is found: the check can see something.
    whole = learnt([frozenset(range(hospitals))] * hospitals, 0, threshold, range(hospitals))
    assert whole == [[1] * hospitals]


@pytest.mark.parametrize(
    ("holders", "threshold", "colluders", "dropouts", "hospitals"),
    [(6, 5, 0, 1, 6), (7, 6, 1, 1, 7), (10, 8, 3, 2, 10), (10, 9, 6, 1, 10), (8, 7, 0, 1, 30)],
)
def test_whatever_rosters_are_answered_one_sum_is_learnt(
    holders, threshold, colluders, dropouts, hospitals
):
    """Drawn at random from few rosters, so that many holders share some; some are silent."""
    dice = random.Random(holders)
    found_any = 0
    for _ in range(40):
        some = [
            frozenset(range(hospitals)) - set(dice.sample(range(hospitals), dropouts))
            for _ in range(dice.randint(1, 3))
        ]
        answers = [
            None if dice.random() < 0.05 else dice.choice(some) for _ in range(holders - colluders)
        ]
        honest = range(hospitals - colluders)
        found = learnt(answers, colluders, threshold, honest)
        assert one_sum_at_most(found)
        found_any += bool(found)
    assert found_any


def small_cases():
    """All plans of up to five holders and seven hospitals, against as many as they hold against."""
    for holders in (3, 4, 5):
        for hospitals, dropouts in itertools.product(range(holders, 8), (1, 2, 3)):
            for threshold, colluders in itertools.product(range(2, holders + 1), (0, 1)):
                safe = most_colluders(
                    hospitals=hospitals, holders=holders, threshold=threshold, dropouts=dropouts
                )
                if dropouts < hospitals and safe >= colluders:
                    yield hospitals, holders, threshold, dropouts, colluders


@pytest.mark.parametrize("most", [10, pytest.param(1_000, marks=pytest.mark.exhaustive)])
def test_no_small_plan_tells_more_than_one_sum(most):
    """With a committee, silent holders and colluding ones too; every way to answer, or so many."""
    cases, dice = list(small_cases()), random.Random(most)
    for hospitals, holders, threshold, dropouts, colluders in cases:
        rosters, honest = [None, *rosters_of(hospitals, dropouts)], holders - colluders
        if len(rosters) ** honest <= most:
            assignments = itertools.product(rosters, repeat=honest)
        else:
            assignments = ([dice.choice(rosters) for _ in range(honest)] for _ in range(most))
        for assignment in assignments:
            found = learnt(assignment, colluders, threshold, range(hospitals - colluders))
            assert one_sum_at_most(found), (hospitals, holders, threshold, dropouts, assignment)
    # Both conditions of the theorem are in it, the second by itself too.
    assert len(cases) == 94
    assert any(3 * t <= 2 * h + c for _, h, t, _, c in cases)


@pytest.mark.parametrize(
    ("hospitals", "holders", "threshold", "colluders"), [(5, 5, 4, 1), (9, 3, 2, 0), (7, 6, 5, 0)]
)
def test_a_hospital_that_seals_a_place_twice_is_two_dealers_of_whom_rosters_lack_one(
    hospitals, holders, threshold, colluders
):
    """Its folder was put back. Under the second condition alone each takes four hospitals more."""
    dice, rosters, twice = random.Random(hospitals), rosters_of(hospitals, 1), 100
    found_any = 0
    for _ in range(60):
        some = [dice.choice(rosters) for _ in range(2)]
        answers = []
        for _ in range(holders - colluders):
            members = dice.choice(some)
            if 0 in members and dice.random() < 0.5:
                members = members - {0} | {twice}
            answers.append(members)
        found = learnt(answers, colluders, threshold, [*range(hospitals - colluders), twice])
        assert one_sum_at_most(found)
        found_any += bool(found)
    assert found_any


def test_the_rule_against_two_opened_rosters_alone_would_not_do():
    """The control: H = 3, t = 2 keeps two rosters from two answers each, and gives both keys."""
    a, b = frozenset({0}), frozenset({1})
    found = learnt([a, b, a | b], 0, 2, range(2), points=[3, 7, 11])
    assert len(found) == 1
    assert len({value for value in found[0] if value}) == 2  # two small unknowns, one equation
    assert most_colluders(hospitals=3, holders=3, threshold=2, dropouts=2) < 0


def test_a_restored_holder_counts_as_a_colluder():
    """H = K = 4, t = 3, d = 2: one that answers twice gives a relation of single keys."""
    one, other = frozenset({0, 2}), frozenset({1, 3})
    everybody = frozenset(range(4))
    worst = 0
    for assignment in itertools.product([one, other, everybody], repeat=3):
        found = learnt([[one, other], *assignment], 0, 3, range(4))
        worst = max(worst, *(len({value for value in row if value}) for row in found), 0)
    assert worst > 1
    assert most_colluders(hospitals=4, holders=4, threshold=3, dropouts=2) == 0
    # The cure: a plan that holds against one colluder holds against one restored holder.
    dropouts = 1
    assert most_colluders(hospitals=7, holders=7, threshold=6, dropouts=dropouts) >= 1
    dice, rosters = random.Random(1), rosters_of(7, dropouts)
    for _ in range(60):
        again = [[dice.choice(rosters), dice.choice(rosters)]]
        some = [dice.choice(rosters) for _ in range(2)]
        found = learnt(again + [dice.choice(some) for _ in range(6)], 0, 6, range(7))
        assert one_sum_at_most(found)


@pytest.mark.parametrize(
    ("hospitals", "holders", "threshold", "dropouts", "expected"),
    [
        (10, 10, 9, 1, 6),
        (10, 10, 8, 2, 3),
        (10, 10, 7, 3, 0),
        (10, 10, 6, 4, -1),
        (100, 20, 16, 5, 11),
    ],
)
def test_how_many_colluders_are_held(hospitals, holders, threshold, dropouts, expected):
    assert expected == most_colluders(
        hospitals=hospitals, holders=holders, threshold=threshold, dropouts=dropouts
    )


def test_a_plan_that_holds_against_too_few_is_refused_with_numbers_that_would_do():
    def plan(**changes):
        fields = {"hospitals": 10, "holders": 10, "dropouts": 2, "silent": 2, "colluders": 0}
        return plan_threshold(**(fields | changes))

    assert plan() == 8
    assert plan(colluders=3) == 8
    with pytest.raises(CapacityError, match="hold against the server and 3 hospitals, wanted 4"):
        plan(colluders=4)
    with pytest.raises(CapacityError, match="have 11 hospitals at least"):
        plan(dropouts=3, silent=3)
    assert plan(hospitals=11, holders=11, dropouts=3, silent=3) == 8


def test_one_colluder_is_held_from_three_times_the_dropouts_and_two_more():
    for dropouts in (1, 2, 3, 4):
        for hospitals in range(dropouts + 2, 3 * dropouts + 6):
            safe = most_colluders(
                hospitals=hospitals,
                holders=hospitals,
                threshold=hospitals - dropouts,
                dropouts=dropouts,
            )
            assert (safe >= 1) is (hospitals >= 3 * dropouts + 2)
