import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from accounting.accountants import epsilon
from accounting.errors import LedgerError
from accounting.events import ExactEvent, GaussianEvent
from accounting.ledger import Ledger, read_ledger

EVENT = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def opened(path, site="north", cohort="lungs"):
    return Ledger(path, site=site, cohort=cohort, durable=False)


def spend(ledger, count, training="t"):
    for number in range(1, count + 1):
        ledger.spend(EVENT, training=training, round=number, attempt=1, purpose="gradient")


def test_an_entry_is_in_the_file_when_spend_returns(path):
    with opened(path) as ledger:
        entry = ledger.spend(EVENT, training="t", round=3, attempt=2, purpose="gradient")
        assert read_ledger(path).entries == (entry,)
        assert (entry.number, entry.round, entry.attempt) == (1, 3, 2)


def test_a_retry_is_a_new_entry_and_nothing_is_refunded(path):
    with opened(path) as ledger:
        for _ in range(2):
            ledger.spend(EVENT, training="t", round=1, attempt=1, purpose="gradient")
        assert len(ledger.entries()) == 2
        assert ledger.epsilon(1e-5) == epsilon([EVENT, EVENT], 1e-5)


def test_a_second_training_continues_the_account(path):
    with opened(path) as first:
        spend(first, 10, "one")
        alone = first.epsilon(1e-5)
    with opened(path) as second:
        spend(second, 10, "two")
        assert second.epsilon(1e-5) == epsilon([EVENT] * 20, 1e-5) > alone
        assert {entry.training for entry in second.entries()} == {"one", "two"}


@pytest.mark.parametrize("other", [{"site": "south"}, {"cohort": "eyes"}])
def test_the_ledger_of_another_site_or_cohort_is_refused_and_kept(path, other):
    with opened(path) as ledger:
        spend(ledger, 3)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=next(iter(other.values()))):
        opened(path, **other)
    assert path.read_bytes() == before


def test_a_file_that_is_no_ledger_is_refused_and_kept(path):
    for content in (b"epsilon,delta\n1,2\n", b"notes", b'{"a": 1}\n', b"\n"):
        path.write_bytes(content)
        with pytest.raises(LedgerError):
            opened(path)
        assert path.read_bytes() == content


def test_a_ledger_cut_at_any_byte_loses_nothing_that_was_complete(path):
    with opened(path) as ledger:
        spend(ledger, 3)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends[1:])
        with opened(path) as ledger:
            # A last line whole but for its newline counts too: more, never less.
            known = len(ledger.entries())
            assert complete <= known <= complete + 1
            spend(ledger, 1)
            assert len(ledger.entries()) == known + 1
        assert path.read_bytes().startswith(whole[:cut])
        with opened(path) as again:
            assert len(again.entries()) == known + 1
            assert again.events()[0].count == known + 1


def test_a_repair_that_is_torn_itself_is_repaired(path):
    with opened(path) as ledger:
        spend(ledger, 2)
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)
    opened(path).close()
    repaired = path.read_bytes()
    for cut in range(len(torn), len(repaired)):
        path.write_bytes(repaired[:cut])
        with opened(path) as ledger:
            spend(ledger, 1)
            assert len(ledger.entries()) == 2
        assert len(read_ledger(path).entries) == 2


def test_damage_in_the_middle_is_an_error_and_not_a_guess(path):
    with opened(path) as ledger:
        spend(ledger, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (
        [*lines[:2], lines[2].replace(b"1.5", b"9.5"), *lines[3:]],
        [*lines[:2], *lines[3:]],
        [*lines[:2], lines[2][:-30] + b"\n", *lines[3:]],
        [*lines[:3], lines[2], *lines[3:]],
        lines[1:],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(LedgerError):
            opened(path)
        with pytest.raises(LedgerError):
            read_ledger(path)


def test_a_file_that_shrinks_under_an_open_ledger_stops_it(path):
    with opened(path) as ledger:
        spend(ledger, 5)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:3]))
        with pytest.raises(LedgerError, match="cut short"):
            spend(ledger, 1)


def test_two_ledgers_on_one_file_see_each_others_entries(path):
    with opened(path) as one, opened(path) as two:
        spend(one, 3)
        spend(two, 4)
        assert one.events() == two.events()
        assert [entry.number for entry in one.entries()] == list(range(1, 8))


def test_a_check_and_its_spending_are_one_step_while_held(path):
    with opened(path) as one, opened(path) as two:
        order = []

        def other():
            two.spend(EVENT, training="two", round=1, attempt=1, purpose="gradient")
            order.append("two")

        with one.hold():
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(0.2)
            one.spend(EVENT, training="one", round=1, attempt=1, purpose="gradient")
            order.append("one")
        thread.join()
        assert order == ["one", "two"]
        assert [entry.training for entry in one.entries()] == ["one", "two"]


def test_an_event_without_noise_leaves_no_epsilon(path):
    with opened(path) as ledger:
        ledger.spend(ExactEvent(), training="t", round=1, attempt=1, purpose="update")
        assert ledger.epsilon(1e-5) == float("inf") == ledger.would_be(None, 1e-5)


def test_only_its_owner_can_read_the_ledger(path):
    opened(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_closed_ledger_does_not_spend(path):
    ledger = opened(path)
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        spend(ledger, 1)


def test_a_full_disk_is_an_error_and_the_ledger_goes_on_after(path, monkeypatch):
    with opened(path) as ledger:
        spend(ledger, 1)
        write = os.write

        def short(file, data):
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return write(file, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(OSError, match="space"):
            spend(ledger, 1)
        monkeypatch.undo()
        spend(ledger, 1)
        assert len(ledger.entries()) == 2


def test_lines_are_plain_json_with_every_field(path):
    with opened(path) as ledger:
        spend(ledger, 1)
    header, entry = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["site"] == "north" and header["cohort"] == "lungs"
    assert {"n", "time", "training", "round", "attempt", "purpose", "event"} <= set(entry)


KILLED = """
import os, random, signal, sys, time
from accounting.events import GaussianEvent
from accounting.ledger import Ledger, read_ledger

path, seed, kills = sys.argv[1], *map(int, sys.argv[2:])
chosen = random.Random(seed)
event = GaussianEvent(sampling_rate=0.1, noise_multiplier=1.5)
known = 0
for trial in range(kills):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ledger = Ledger(path, site="north", cohort="lungs", durable=trial % 10 == 0)
        number = 0
        while True:
            number += 1
            ledger.spend(event, training=str(trial), round=number, attempt=1, purpose="gradient")
            os.write(writing, b".")  # the data is touched
    os.close(writing)
    time.sleep(chosen.uniform(0.0, 0.008))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    touched = 0
    while data := os.read(reading, 65536):
        touched += len(data)
    os.close(reading)
    if not os.path.exists(path) or not os.path.getsize(path):
        assert touched == 0
        continue
    try:
        entries = read_ledger(path).entries
    except Exception as error:
        assert touched == 0 and "no ledger" in str(error), error
        continue
    rounds = sum(entry.training == str(trial) for entry in entries)
    assert touched <= rounds <= touched + 1, (trial, touched, rounds)
    assert len(entries) == known + rounds, (trial, known, rounds)
    known = len(entries)
print(known)
"""


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_killed_hospitals_never_touched_data_that_was_not_recorded(tmp_path, kills):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "ledger.jsonl"), "11", str(kills)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > kills
