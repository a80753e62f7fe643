"""Trackers listen; they never stop a training, and never hold it up."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest

from clients.contract.settings import Settings
from clients.contract.stages import listening, report
from strategies.run.folder import RunFolder
from strategies.run.trackers import Background, make_trackers, wandb_mode
from strategies.run.tracking import Stages, Tracking, refusal
from tests.exchange_runs import read_json, recorded, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing:UserWarning",  # of the private engine, harmless
)


class Listening:
    """Keeps what it hears; fails at the record of a given number."""

    name = "a listener"

    def __init__(self, fails_at: int = 0) -> None:
        self.heard: list[tuple[str, dict]] = []
        self.closed = False
        self._fails_at = fails_at

    def record(self, kind: str, **fields: object) -> None:
        self.heard.append((kind, fields))
        if len(self.heard) == self._fails_at:
            raise OSError("No space left on device")

    def close(self) -> None:
        self.closed = True


def lines(folder: RunFolder) -> list[dict]:
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_tracker_hears_what_is_in_the_file_and_when(folder: RunFolder) -> None:
    listening = Listening()
    tracking = Tracking(folder, [listening])
    tracking.record("release", round=5, accuracy=0.9)
    tracking.close()
    [written] = lines(folder)
    assert listening.heard == [("release", {k: v for k, v in written.items() if k != "kind"})]
    assert listening.closed


@pytest.mark.parametrize("threaded", [False, True])
def test_a_tracker_that_fails_is_dropped_with_one_warning(
    folder: RunFolder, caplog: pytest.LogCaptureFixture, threaded: bool
) -> None:
    failing, steady = Listening(fails_at=2), Listening()
    first = Background("failing", lambda: failing) if threaded else failing
    tracking = Tracking(folder, [first, steady])
    for number in range(5):
        tracking.record("round", round=number)
    tracking.close()
    written = lines(folder)
    assert [row["round"] for row in written if row["kind"] == "round"] == [0, 1, 2, 3, 4]
    assert len(failing.heard) == 2
    assert not failing.closed
    assert len(steady.heard) == 5
    [warning] = warnings_of(caplog)
    name = "failing" if threaded else "a listener"
    assert f"{name} failed (OSError: No space left on device) and is dropped" in warning
    assert [row["message"] for row in written if row["kind"] == "warning"] == [warning]


def test_a_tracker_that_cannot_start_is_one_warning(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Listening:
        raise ImportError("no such package")

    tracking = Tracking(folder, [Background("broken", broken)])
    tracking.record("start")
    tracking.record("end")
    tracking.close()
    assert [row["kind"] for row in lines(folder) if row["kind"] != "warning"] == ["start", "end"]
    assert len(warnings_of(caplog)) == 1


def test_a_tracker_that_ends_the_process_ends_its_own_thread(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> Listening:
        raise SystemExit(3)

    tracking = Tracking(folder, [Background("leaving", leave)])
    tracking.close()
    assert "leaving failed (TrackerFailed: it wanted to end the process with 3)" in caplog.text


def test_a_tracker_that_hangs_holds_nobody_up(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    free = threading.Event()

    class Hanging(Listening):
        def record(self, kind: str, **fields: object) -> None:
            free.wait(30)

    tracking = Tracking(folder, [Background("hanging", Hanging, close_seconds=0.05)])
    for number in range(3):
        tracking.record("round", round=number)
    tracking.close()
    assert [row["kind"] for row in lines(folder)] == ["round"] * 3 + ["warning"]
    assert "it is not done after 0.05 s and is left alone" in warnings_of(caplog)[0]
    free.set()


def test_preparations_are_recorded_at_most_so_often(folder: RunFolder) -> None:
    stages = Stages(Tracking(folder), pause_seconds=60)
    with listening(stages):
        for done in range(0, 101, 10):
            report("scattering features", done, 100)
        report("another stage")
    report("nobody listens any more")
    assert [(row["stage"], row["done"]) for row in lines(folder)] == [
        ("scattering features", 0),
        ("scattering features", 100),
        ("another stage", 0),
    ]


def test_what_another_thread_prepares_is_no_part_of_this_ones_stages() -> None:
    heard: list[str] = []

    def listen_alone() -> None:
        with listening(lambda stage, *_: heard.append(f"other: {stage}")):
            report("its own")

    with listening(lambda stage, *_: heard.append(f"this: {stage}")):
        thread = threading.Thread(target=listen_alone)
        thread.start()
        thread.join()
        report("mine")
    assert heard == ["other: its own", "this: mine"]


def test_only_what_the_settings_name_is_started(tmp_path: Path) -> None:
    assert make_trackers(Settings.from_config({"tracking.wandb": "disabled"}), tmp_path) == []
    assert Settings().tracking.wandb == "offline"


@pytest.mark.parametrize(
    ("asked", "environment", "mode"),
    [
        ("offline", {}, "offline"),
        ("online", {"WANDB_MODE": "offline"}, "offline"),
        ("offline", {"WANDB_MODE": "disabled"}, "disabled"),
        ("online", {"WANDB_MODE": "dryrun"}, "offline"),
        ("online", {"WANDB_DISABLED": "true"}, "disabled"),
        ("offline", {"WANDB_MODE": "online"}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
        ("online", {"WANDB_MODE": "nonsense"}, "online"),
    ],
)
def test_the_environment_makes_a_tracker_quieter_and_never_louder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    environment: dict[str, str],
    mode: str,
) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_mode(asked) == mode
    if mode == "disabled":
        assert make_trackers(small_settings(tmp_path, tracking__wandb=asked), tmp_path) == []


def test_hospitals_series_are_refused_with_the_reason_unless_data_are_public() -> None:
    private = Settings.from_config({"data.public": False})
    assert "data.public = false" in refusal(private)
    assert "noise does not cover" in refusal(private)
    assert refusal(Settings.from_config({"data.public": True})) == ""


def test_a_run_leaves_what_figures_need(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    run_app(settings)
    evaluation, split = read_json(settings, "evaluation.json"), read_json(settings, "split.json")
    assert evaluation["classes"] == split["classes"] == ["malignant", "benign"]
    [[tn, fp], [fn, tp]] = evaluation["confusion"]
    held = tn + fp + fn + tp
    accuracy = read_json(settings, "summary.json")["accuracy"]
    assert (tn + tp) / held == pytest.approx(accuracy)
    assert sum(row["count"] for row in evaluation["calibration"]) == held
    assert len(split["hospitals"]) == 4
    assert sum(map(sum, split["hospitals"].values())) + held == 569
    for row in recorded(settings, "round"):
        assert {"transfer", "add", "keep"} <= set(row["server_phases"])
        assert sum(row["server_phases"].values()) <= row["seconds"]
        assert {"sample", "gradient", "noise", "seal"} <= set(row["phases"])
    last = recorded(settings, "release")[-1]
    assert 0 < last["epsilon_prv"] < last["epsilon_rdp"]
    shown = recorded(settings, "hospitals")
    assert [row["round"] for row in shown] == [1, 2, 3, 3]
    assert set(shown[0]["seconds"]) == set(shown[-1]["accuracy"]) == set(split["hospitals"])


def test_nothing_of_single_hospitals_is_written_where_data_are_not_public(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, data__public=False)
    run_app(settings)
    assert recorded(settings, "hospitals") == []
    assert not (tmp_path / "split.json").exists()
    assert (tmp_path / "evaluation.json").exists()
    assert all(row["phases"] == {} for row in recorded(settings, "round"))
