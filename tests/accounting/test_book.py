import hashlib
import json
import math
import time
import zlib

import pytest

from accounting import lines
from accounting.book import read_spent
from accounting.errors import AccountingError, BookError, LedgerError, LimitRefused
from accounting.events import GaussianEvent
from accounting.ledger import read_ledger
from accounting.limits import SiteLimits, SpendRequest
from accounting.spending import DeclaredPlan, Slack
from accounting.states import Phase
from tests.accounting.books import EVENT, Place, bind, keyed, kinds, opened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def test_an_event_is_in_the_file_before_there_is_a_receipt(path):
    book = keyed(path)
    views = {"server": 1.5, "one other hospital": 1.2, "with a key": None}
    receipt = book.spend(Place("t", 1, 1), EVENT, purpose="gradients", views=views)
    [entry] = read_ledger(path).entries
    assert (entry.event, entry.views, entry.uses, entry.purpose) == (EVENT, views, 1, "gradients")
    assert (receipt.event, receipt.uses, receipt.rounds) == (EVENT, 1, 1)
    assert book.spent("t") == 1 and book.events() == (EVENT,) == opened(path).events()


def test_a_refused_spending_writes_nothing(path):
    book = keyed(path)

    def refuse(_):
        raise LimitRefused("max-epsilon", 3, 2)

    with pytest.raises(LimitRefused):
        book.spend(Place("t", 1, 1), EVENT, purpose="x", check=refuse)
    with pytest.raises(BookError):
        book.spend(Place("t", 2, 1), EVENT, purpose="x")
    assert kinds(path)[-1] == "keyed" and not book.events()


def test_what_follows_from_a_seed_is_paid_for_once_however_often_it_is_computed(path):
    book = keyed(path, repeats=True)
    place = Place("t", 1, 1)
    for _ in range(3):
        receipt = book.spend(place, EVENT, purpose="x")
        receipt.use(1, 1)
        with pytest.raises(BookError):
            receipt.use(1, 1)
        book.append(lines.seal(place, reply="R"))
    assert kinds(path)[2:] == ["spend", "seal", *["again", "seal"] * 2]
    assert book.spent("t") == len(book.events()) == 1
    # What is opened is not computed again, and a later process knows it.
    book.append(lines.commit(place, roster="r", total="s"))
    with pytest.raises(BookError):
        opened(path).spend(place, EVENT, purpose="x")


def test_limits_are_checked_against_what_was_spent_under_the_same_lock(path):
    book = keyed(path, rounds=100)
    limits = SiteLimits(max_epsilon=2.0, delta=1e-5)
    views = {"server": 1.5, "hospital": 1.5}
    request = SpendRequest(
        regime="FPDP", event=EVENT, hospitals=5, noise_multiplier=1.5, delta=1e-5, views=views
    )
    with pytest.raises(LimitRefused, match="max-epsilon"):
        for number in range(1, 100):
            book.spend(
                Place("t", number, 1),
                EVENT,
                purpose="x",
                views=views,
                check=lambda account: limits.check(request, account),
            )
            book.append(lines.adopt("t", round=number, chain="c"))
    assert 10 < book.spent("t") < 99
    assert limits.would_be(book) <= 2.0 < limits.would_be(book, request)


def test_a_trainings_plan_is_its_first_event_in_every_place_it_was_bound_to(path):
    book = opened(path)
    three = GaussianEvent(sampling_rate=1.0, noise_multiplier=9.0, count=3)
    for training, fields in (("sums", {}), ("visits", {"visits": 2, "spare": 1}), ("none", {})):
        book.append(bind(training, **fields), lines.keyed(training, keys="K"))
    assert not book.plans() and book.places("unbound") == 0
    book.spend(Place("sums", 1, 1), three, purpose="layers", uses=6, rounds=3)
    book.spend(Place("visits", 1, 1), EVENT, purpose="cyclic")
    book.append(lines.charge("none", EVENT, why="lost"))
    book.spend(Place("sums", 1, 2), EVENT, purpose="layers", slack=Slack(1e-3, 1e-9))
    plans = book.plans()
    assert plans == {
        "sums": DeclaredPlan(event=three, places=2 + 2),
        "visits": DeclaredPlan(event=EVENT, places=2 + 1),
    }
    assert plans["sums"].whole.count == 12
    assert read_spent(path) == (book.spendings(), plans)
    assert opened(path).plans() == plans and opened(path).spendings() == book.spendings()
    assert [one.slack for one in book.spendings() if one.slack] == [Slack(1e-3, 1e-9)]
    assert [one.training for one in book.spendings() if one.charged] == ["none"]


@pytest.mark.parametrize(
    "fields",
    [
        {"views": {"server": -1.0}},
        {"views": {"server": math.nan}},
        {"views": {"server": 1.5, "hospital": "1.5"}},
        {"slack": Slack(-1e-3, 0.0)},
        {"slack": Slack(0.0, math.inf)},
    ],
)
def test_views_and_slack_that_make_no_sense_are_not_written(path, fields):
    book = keyed(path)
    before = path.read_bytes()
    with pytest.raises(AccountingError, match=next(iter(fields))):
        book.spend(Place("t", 1, 1), EVENT, purpose="x", **fields)
    assert path.read_bytes() == before


def test_each_use_of_a_receipt_is_given_once(path):
    receipt = keyed(path).spend(Place("t", 1, 1), EVENT, purpose="x", uses=6, rounds=2)
    uses = {(r, t): receipt.use(r, t) for r in (1, 2) for t in (1, 2, 3)}
    assert {(use.round, use.turn) for use in uses.values()} == set(uses)
    for round, turn in [*uses, (3, 1), (0, 1), (1, 0), (1, 4)]:
        with pytest.raises(BookError):
            receipt.use(round, turn)


def test_a_later_process_goes_on_with_a_pass_where_it_was_shown(path):
    place = Place("t", 1, 1)
    keyed(path).spend(place, EVENT, purpose="layers", uses=6, rounds=2)
    book = opened(path)
    book.receipt(place).use(1, 1)
    book.append(lines.show(place, turn=1))
    receipt = opened(path).receipt(place)
    with pytest.raises(BookError, match="used before"):
        receipt.use(1, 1)
    assert receipt.use(1, 2).event == EVENT
    book.append(lines.seal(place, reply="r"), lines.adopt("t", round=1, chain="c"))
    second = Place("t", 2, 1)
    assert opened(path).receipt(second).use(2, 1).round == 2
    book.append(lines.show(second, turn=1), lines.seal(second, reply="r"))
    for gone in (place, second, Place("t", 2, 2), Place("t", 3, 1), Place("other", 1, 1)):
        with pytest.raises(BookError):
            opened(path).receipt(gone)


def test_a_forbidden_move_writes_nothing(path):
    book = keyed(path)
    before = path.read_bytes()
    for move in (
        (lines.seal(Place("t", 1, 1), reply="r"),),
        (
            lines.commit(Place("t", 1, 1), roster="r", total="s"),
            lines.adopt("t", round=9, chain=""),
        ),
        (lines.spend(Place("t", 1, 1), EVENT, purpose="x", uses=1),),
        (bind(terms="other"),),
    ):
        with pytest.raises(BookError):
            book.append(*move)
    assert path.read_bytes() == before and not book.state("t").pending


def test_the_same_bind_again_writes_nothing_but_new_code_is_noted(path):
    book = keyed(path)
    before = path.read_bytes()
    book.append(bind())
    assert path.read_bytes() == before
    book.append(bind(code="fixed"))
    assert book.state("t").bind.code == "fixed" == opened(path).state("t").bind.code


def test_of_two_processes_on_one_book_the_overtaken_one_seals_nothing(path):
    one, two = keyed(path), opened(path)
    one.spend(Place("t", 1, 1), EVENT, purpose="x")
    two.spend(Place("t", 1, 2), EVENT, purpose="x")
    with pytest.raises(BookError, match="seal of"):
        one.append(lines.seal(Place("t", 1, 1), reply="r"))
    two.append(lines.seal(Place("t", 1, 2), reply="r"))


def test_a_file_with_a_forbidden_move_is_damaged(path):
    book = keyed(path)
    with book.hold():
        book._chain.append([lines.seal(Place("t", 1, 1), reply="r").to_json()])
    with pytest.raises(LedgerError, match="line 3: seal"):
        opened(path)


def test_a_book_says_where_it_is_at_home_and_what_stands_in_a_line(path):
    book = keyed(path)
    assert book.home() is None
    book.append(lines.moved(inode=7), lines.charge("lost", EVENT, why="lost book"))
    assert book.home() == opened(path).home() == 7
    assert book.line(2)[0] == lines.keyed("t", keys="K")
    assert book.line(4)[1] == book.head()[1] and book.head()[0] == 4
    assert book.events() == (EVENT,) and book.spent("lost") == 1
    assert read_ledger(path).entries[0].purpose == "charge: lost book"


def old_line(**fields):
    text = json.dumps(fields, separators=(",", ":"))
    return f'{text[:-1]},"check":"{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def old_ledger(count=3):
    event = {"kind": "gaussian", "sampling_rate": 0.1, "noise_multiplier": 1.5, "count": 1}
    yield old_line(ledger=1, site="north", cohort="lungs")
    for number in range(1, count + 1):
        yield old_line(
            number=number,
            time=1.5,
            training=f"old-{number % 2}",
            round=number,
            attempt=1,
            purpose="gradients",
            event=event,
        )


def test_a_ledger_of_format_1_is_continued_and_its_trainings_are_retired(path):
    before = b"".join(old_ledger())
    path.write_bytes(before)
    assert len(read_ledger(path).entries) == 3
    book = opened(path)
    assert book.events()[0].count == 3 and path.read_bytes().startswith(before)
    chained, *retired = [json.loads(line) for line in path.read_bytes().splitlines()[4:]]
    assert chained["chain"] == 2 and chained["entries"] == 3
    assert chained["prev"] == hashlib.sha256(before).hexdigest()
    assert [(line["kind"], line["training"]) for line in retired] == [
        ("retire", "old-1"),
        ("retire", "old-0"),
    ]
    with pytest.raises(BookError) as refused:
        book.append(bind("old-0"))
    assert refused.value.code == "training-retired"
    book.append(bind(), lines.keyed("t", keys="K"))
    book.spend(Place("t", 1, 1), EVENT, purpose="x")
    again = opened(path)
    assert again.events()[0].count == 4 and again.head() == book.head() and again.id == book.id
    assert [entry.number for entry in read_ledger(path).entries] == [1, 2, 3, 9]


def test_a_continuation_cut_anywhere_is_finished_by_the_next_opening(path):
    path.write_bytes(b"".join(old_ledger()))
    start = path.stat().st_size
    opened(path).close()
    whole = path.read_bytes()
    for cut in range(start - 40, len(whole), 3):
        path.write_bytes(whole[:cut])
        book = opened(path)
        count = 3 if cut >= start - 1 else 2
        assert book.events()[0].count == count == len(read_ledger(path).entries)
        assert book.state("old-1").phase is Phase.RETIRED
        assert opened(path).head() == book.head()


def test_a_damaged_ledger_of_format_1_stops_the_site(path):
    all_lines = list(old_ledger())
    for damaged in (
        [*all_lines[:2], all_lines[2].replace(b"1.5", b"9.5"), all_lines[3]],
        [*all_lines[:3], all_lines[3].replace(b"1.5", b"9.5")],
        [*all_lines[:2], all_lines[3]],
        all_lines[1:],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(LedgerError):
            opened(path)
        assert path.read_bytes() == b"".join(damaged)
    opened(path.with_name("sound")).close()
    path.write_bytes(b"".join(all_lines))
    opened(path).close()
    path.write_bytes(path.read_bytes().replace(b'"round":2', b'"round":3'))
    with pytest.raises(LedgerError):
        opened(path)


def test_twelve_thousand_lines_open_in_under_a_third_of_a_second(path):
    book = keyed(path, rounds=3000)
    with book.hold():
        for round in range(1, 3001):
            place = Place("t", round, 1)
            book.spend(place, EVENT, purpose="x")
            book.append(
                lines.seal(place, reply="r" * 64),
                lines.commit(place, roster="r" * 64, total="s" * 64),
                lines.close("t", round=round, chain="c" * 64),
            )
    took = []
    for _ in range(5):
        start = time.process_time()
        assert opened(path).head()[0] == 12002
        took.append(time.process_time() - start)
    assert min(took) < 0.3
