"""Run folders can be read while they are written, when they are torn, and after their end."""

import os
import threading

import pytest

from clients.contract.settings import Settings
from strategies.run.events import RunProgress, follow
from strategies.run.folder import RunFolder
from strategies.run.reading import NoRun, find_run, read_run, read_settings
from tests.simulations.made_runs import end_run, make_run, run_round, start_run, summary


def progress_of(path):
    return read_run(path).progress


def test_a_finished_run_is_read_whole(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    assert run.progress.status == "finished"
    assert (run.progress.round, run.progress.rounds) == (10, 10)
    assert run.progress.bytes_sent == 10 * (248_000 + 490_000)
    assert run.summary == summary(10)
    assert [event["round"] for event in run.of_kind("release")] == [5, 10]
    assert run.config["privacy.regime"] == "FSCDP"
    assert run.settings.training.rounds == 10
    assert run.evaluation["confusion"] == [[38, 4], [2, 70]]


def test_a_run_that_has_just_begun_is_read_as_far_as_it_is(tmp_path):
    start_run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.progress.status == ""
    assert run.summary == run.privacy == run.evaluation == {}
    assert run.progress.seconds_left is None


def test_a_torn_last_line_is_not_read(tmp_path):
    folder = start_run(tmp_path / "run")
    run_round(folder, 1)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "round", "rou')
    assert progress_of(folder.path).round == 1


def test_an_attempt_that_was_not_closed_is_no_finished_round(tmp_path):
    folder = start_run(tmp_path / "run")
    run_round(folder, 1)
    run_round(folder, 2, closed=False)
    assert progress_of(folder.path).round == 1


def test_a_resumed_run_goes_on_where_it_was():
    progress = RunProgress()
    progress.add({"kind": "start", "time": 0.0, "rounds": 10})
    progress.add({"kind": "round", "time": 1.0, "round": 4})
    progress.add({"kind": "end", "time": 1.5, "status": "interrupted", "message": "m"})
    assert (progress.status, progress.message) == ("interrupted", "m")
    progress.add({"kind": "start", "time": 100.0, "rounds": 10})
    progress.add({"kind": "round", "time": 102.0, "round": 5})
    assert (progress.status, progress.round) == ("", 5)
    assert progress.seconds_left == pytest.approx(10.0)


def test_time_left_is_the_pace_of_rounds_times_the_rest():
    progress = RunProgress()
    progress.add({"kind": "start", "time": 0.0, "rounds": 10})
    progress.add({"kind": "ceremony", "time": 5.0})
    for number in range(1, 5):
        progress.add({"kind": "round", "time": 5.0 + 2 * number, "round": number})
    assert progress.seconds_left == pytest.approx(12.0)


def test_events_of_an_unknown_kind_change_nothing():
    progress = RunProgress()
    progress.add({"kind": "weather", "time": 0.0})
    assert progress == RunProgress()


def test_following_yields_each_line_once_and_waits_for_whole_lines(tmp_path):
    until = threading.Event()
    events = follow(tmp_path / "run", until=until, poll_seconds=0.001)
    assert next(events) is None
    folder = start_run(tmp_path / "run")
    assert [next(events)["kind"], next(events)["kind"], next(events)] == ["start", "ceremony", None]
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "round", "round": 1, ')
        file.flush()
        assert next(events) is None
        file.write('"time": 2.0}\n')
    assert next(events)["round"] == 1
    until.set()
    assert next(events) is None
    end_run(folder)
    assert [event["kind"] for event in events] == ["end"]


def test_a_run_is_found_by_path_by_name_and_as_the_latest(tmp_path):
    runs = tmp_path / "runs"
    older, newer = make_run(runs / "20260101-000000-a"), make_run(runs / "20260102-000000-b")
    os.utime(older / "config.toml", (1, 1))
    assert find_run(str(older), runs) == older
    assert find_run(older.name, runs) == older
    assert find_run("latest", runs) == newer


def test_a_superlinks_folder_stands_for_its_newest_run(tmp_path):
    runs = tmp_path / "trial" / "superlink" / "runs"
    older, newer = make_run(runs / "20260101-000000-a"), make_run(runs / "20260102-000000-b")
    os.utime(older / "config.toml", (1, 1))
    flower = runs.parent / "flower"
    flower.mkdir()
    (flower / "config.toml").write_text("")  # Flower's own, and the newest
    for name in ("trial", "trial/superlink", "trial/superlink/runs"):
        assert find_run(str(tmp_path / name), tmp_path) == newer


@pytest.mark.parametrize("name", ["latest", "nowhere"])
def test_what_is_no_run_is_said_to_be_none(tmp_path, name):
    with pytest.raises(NoRun, match=r"no run"):
        find_run(name, tmp_path)


def test_settings_of_a_run_that_do_not_fit_are_named(tmp_path):
    path = make_run(tmp_path / "run")
    text = (path / "config.toml").read_text().replace("rounds = 10", 'rounds = "ten"')
    (path / "config.toml").write_text(text)
    with pytest.raises(NoRun, match="whole number"):
        read_settings(path)


def test_a_broken_summary_is_named(tmp_path):
    path = make_run(tmp_path / "run")
    (path / "summary.json").write_text("{")
    with pytest.raises(NoRun, match=r"summary[.]json is no JSON"):
        read_run(path)


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [RunFolder.open(Settings.from_config({})).path for _ in range(3)]
    assert len(set(made)) == 3 and all((path / "config.toml").is_file() for path in made)
