"""The terminal says where a run is, without control codes where there is no terminal."""

import io
import re
import threading
import time

import pytest
from rich.console import Console

from simulations.pages.tables import observer_table, plain_table, show_table, summary_table
from simulations.pages.wording import bytes_text, epsilon_text, seconds_text, share_text
from simulations.progress import Display, ProgressThread
from strategies.run.events import RunProgress, read_events
from strategies.run.reading import read_run
from tests.simulations.made_runs import OBSERVERS, end_run, make_run, run_round, start_run, summary


def shown(path, *, terminal, since=0.0, width=80):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width)
    display = Display(console, since=since)
    display.show(path, until=threading.Event(), stop_at_end=True)
    return file.getvalue(), display.progress


def printed(table):
    file = io.StringIO()
    Console(file=file, width=80).print(table, width=80)
    return file.getvalue()


def test_without_a_terminal_a_plain_line_comes_with_each_release(tmp_path):
    text, progress = shown(make_run(tmp_path / "run"), terminal=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "default: 10 hospitals, FSCDP, gradients, sealed by bfv"
    assert [line.split(":")[0] for line in lines[1:]] == ["round 5/10", "round 10/10"]
    assert "accuracy 0.893" in lines[1]
    assert "epsilon <=0.7 (target 1)" in lines[1]
    assert progress.status == "finished"


def test_on_a_terminal_the_bar_names_round_accuracy_epsilon_and_bytes(tmp_path):
    text, _ = shown(make_run(tmp_path / "run"), terminal=True)
    assert "\x1b[" in text
    for part in ("round 10/10", "accuracy 0.939", "epsilon <=0.99 (target 1)", "sent 7.38 MB"):
        assert part in text


def test_faults_are_said_by_code(tmp_path):
    folder = start_run(tmp_path / "run")
    folder.record("fault", round=3, attempt=2, hospital="hospital-04", code="no-answer")
    end_run(folder, status="stopped", message="round 3 closed with 9 of 10")
    text, progress = shown(folder.path, terminal=False)
    assert "round 3, attempt 2: hospital-04 did not contribute (no-answer)" in text
    assert (progress.status, progress.fault_count) == ("stopped", 1)


def test_a_tracker_that_was_dropped_is_said(tmp_path):
    folder = start_run(tmp_path / "run")
    folder.record("warning", message="Weights & Biases failed ([Errno 28]) and is dropped")
    end_run(folder)
    text, _ = shown(folder.path, terminal=False)
    assert "warning: Weights & Biases failed ([Errno 28]) and is dropped" in text


def prepare(folder, done, total):
    folder.record("stage", stage="scattering features", done=done, total=total, time=100.0 + done)


def test_preparations_have_a_bar_with_time_left(tmp_path):
    from strategies.run.folder import RunFolder

    folder = RunFolder(tmp_path)
    for done in (0, 256, 512):
        prepare(folder, done, 1024)
    progress = RunProgress()
    for event in read_events(tmp_path):
        progress.add(event)
    assert progress.seconds_left == 512
    folder.record("end", status="stopped", message="")
    assert shown(tmp_path, terminal=False)[0] == "scattering features of 1,024 ...\n"


def test_the_bar_names_the_stage_until_rounds_begin(tmp_path):
    folder = start_run(tmp_path / "run")
    progress = read_run(folder.path).progress
    assert progress.stage == {}
    folder.record("start", rounds=10)
    assert read_run(folder.path).progress.stage == {"stage": "agreeing on keys"}
    file = io.StringIO()
    display = Display(Console(file=file, force_terminal=True, width=80))
    until = threading.Event()
    prepare(folder, 256, 1024)
    threading.Timer(0.6, until.set).start()
    display.show(folder.path, until=until)
    assert "scattering features 256/1,024" in file.getvalue()


def test_what_was_there_before_counts_but_is_not_said_again(tmp_path):
    text, progress = shown(make_run(tmp_path / "run"), terminal=False, since=4e9)
    assert text == ""
    assert progress.round == 10


def test_the_thread_shows_what_is_written_inside_its_block(tmp_path):
    file = io.StringIO()
    with ProgressThread(tmp_path / "run", Console(file=file, width=80)):
        folder = start_run(tmp_path / "run")
        run_round(folder, 1, release=True)
    assert "round 1/10: accuracy 0.735" in file.getvalue()


def test_who_waits_for_results_is_told_of_the_end_of_this_run_alone(tmp_path):
    ended = []
    folder = start_run(tmp_path / "run")
    folder.record("end", status="finished", message="", time=100.0)  # of an earlier try
    with ProgressThread(folder.path, Console(file=io.StringIO()), lambda: ended.append(1)):
        folder.record("end", status="interrupted", message="", time=4e9)
        time.sleep(0.5)
        assert not ended
        folder.record("end", status="finished", message="", time=4e9)
        time.sleep(0.5)
        assert ended == [1]
    assert ended == [1]


@pytest.mark.parametrize("width", range(8, 90, 9))
def test_no_terminal_is_so_narrow_that_an_epsilon_is_cut(tmp_path, width):
    rows = [
        {**one, "epsilon": one["epsilon"] and {"rdp": 123456.7, "prv": 0.0123}} for one in OBSERVERS
    ]
    file = io.StringIO()
    console = Console(file=file, width=width)
    show_table(console, observer_table(rows))
    show_table(console, summary_table(summary(60) | {"epsilon": {"rdp": 123456.7}}))
    text = file.getvalue()
    assert text.count("123,457") == text.count("0.0123") + 1 == 5
    assert "…" not in text
    bar, _ = shown(make_run(tmp_path / "run"), terminal=True, width=width)
    for found in re.findall(r"epsilon.{0,40}", bar):
        assert re.match(r"epsilon <=\d\.\d+ \(target 1\)", found), found


def test_end_tables_fit_eighty_columns_and_hold_the_numbers():
    text = printed(summary_table(summary(60))) + printed(observer_table(OBSERVERS))
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("0.939", "0.991", "1.08", "24.8 kB", "49 kB", "0.05 s a round", "10"):
        assert part in text
    assert "server + one key" in text
    assert "none" in text


def test_a_seeded_run_is_never_shown_as_a_guarantee():
    rows = [{**one, "guaranteed": False} for one in OBSERVERS]
    text = printed(summary_table(summary(60, seeded=True))) + printed(observer_table(rows))
    assert "none: seeded, repeatable" in text
    assert "(1.08)" in text
    assert "no guarantee" in text


def test_a_run_without_noise_says_so():
    plain = summary(60) | {"epsilon": None, "delta": None, "noise_multiplier": 0.0}
    assert "none: no noise was added" in printed(summary_table(plain))


def test_a_summary_of_a_run_that_stopped_early_is_still_a_table():
    early = summary(0) | {"accuracy": None, "auc": float("nan"), "epsilon": {"rdp": 0, "prv": 0}}
    assert "-" in printed(summary_table(early))


def test_markup_in_values_is_printed_as_it_is():
    assert "[red]x[/red]" in printed(plain_table("t", ["a"], [["[red]x[/red]"]]))


def test_numbers_are_worded_for_people():
    assert [bytes_text(n) for n in (0, 999, 1234, 24_800, 1.5e9, None)] == [
        "0 B", "999 B", "1.23 kB", "24.8 kB", "1.5 GB", "-",
    ]  # fmt: skip
    assert [seconds_text(s) for s in (0.05, 3.14, 42.4, 187, 3787, 59.9)] == [
        "0.05 s", "3.1 s", "42.4 s", "3 min 7 s", "1 h 3 min", "59.9 s",
    ]  # fmt: skip
    assert [share_text(s) for s in (0.93864, None, float("nan"))] == ["0.939", "-", "-"]
    assert [epsilon_text(e) for e in (0.9914, 206.4, 12345, None, float("inf"))] == [
        "0.991", "206", "12,345", "none", "infinite",
    ]  # fmt: skip
