"""What Weights & Biases is told, read back from the file that it writes offline."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.contract.settings import Settings
from strategies.run.wandb_tracker import Series, WandbTracker
from tests.exchange_runs import read_json, recorded, run_app
from tests.in_process import small_settings

pytestmark = pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing:UserWarning",  # of the private engine, harmless
)

ROOT = Path(__file__).parents[3]
BLOCK_BYTES = 32768
HEADER_BYTES = 7


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each whole piece of a LevelDB log, which is what a ``.wandb`` file is.

    Another process writes it meanwhile, so the last piece may be there in part: it is left out.
    """
    assert data[:4] == b":W&B"[: len(data)]
    at = HEADER_BYTES
    while at + HEADER_BYTES <= len(data):
        if BLOCK_BYTES - at % BLOCK_BYTES < HEADER_BYTES:
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part = data[at + HEADER_BYTES : at + HEADER_BYTES + size]
        if len(part) < size:
            return
        yield kind, part
        at += HEADER_BYTES + size


class Stored:
    """One ``.wandb`` file, parsed by wandb's own message types."""

    def __init__(self, file: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.rows: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str] = {}
        self.artifacts: list[Any] = []
        self.has_machine_metrics = False
        self.ended = False
        whole = b""
        for kind, part in pieces(file.read_bytes()):
            whole = part if kind in (1, 2) else whole + part
            if kind in (1, 4):
                record = Record()
                record.ParseFromString(whole)
                self._take(record)

    def _take(self, record: Any) -> None:
        match record.WhichOneof("record_type"):
            case "run":
                self.run = record.run
                self._update(self.config, record.run.config.update)
            case "config":
                self._update(self.config, record.config.update)
            case "summary":
                self._update(self.summary, record.summary.update)
            case "history":
                row: dict[str, Any] = {}
                self._update(row, record.history.item)
                self.rows.append(row)
            case "metric" if record.metric.name or record.metric.glob_name:
                self.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "artifact":
                self.artifacts.append(record.artifact)
            case "stats":
                self.has_machine_metrics = True
            case "exit":
                self.ended = True

    @staticmethod
    def _update(into: dict[str, Any], items: Any) -> None:
        for item in items:
            name = item.key or "/".join(item.nested_key)
            into[name] = json.loads(item.value_json)

    def series(self, name: str, axis: str = "round") -> list[tuple[float, float]]:
        return [(row[axis], row[name]) for row in self.rows if name in row]


def stored_runs(folder: Path) -> dict[str, Stored]:
    """Runs by name, as soon as wandb's own process has written them to their ends."""
    for _ in range(600):
        found = [Stored(file) for file in (folder / "wandb").glob("offline-run-*/*.wandb")]
        if all(one.ended for one in found):
            return {one.run.display_name: one for one in found}
        time.sleep(0.05)
    raise AssertionError("a run has no end")


@pytest.fixture(scope="module", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give wandb a home of its own, and end its service with this module."""
    home = tmp_path_factory.mktemp("home")
    names = {"WANDB_CACHE_DIR": "cache", "WANDB_DATA_DIR": "data", "WANDB_CONFIG_DIR": "config"}
    with pytest.MonkeyPatch.context() as patch:
        for name, part in names.items():
            patch.setenv(name, str(home / part))
        yield
        import wandb

        wandb.teardown()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = small_settings(
        tmp_path_factory.mktemp("runs") / "a-run",
        tracking__wandb="offline",
        training__rounds=4,
        run__seed=-1,
    )
    run_app(settings)
    return settings


@pytest.fixture(scope="module")
def server(trained: Settings) -> Stored:
    runs = stored_runs(Path(trained.run.out))
    assert list(runs) == ["server"]
    return runs["server"]


def test_the_servers_run_is_grouped_and_carries_every_setting(
    server: Stored, trained: Settings
) -> None:
    assert server.run.run_group == "a-run"
    assert server.run.job_type == "server"
    assert server.config["training"]["rounds"] == 4
    assert server.config["privacy"]["regime"] == "FSCDP"
    assert server.config["hospital_series"].startswith("shown")


def test_measures_are_those_of_the_run_folder(server: Stored, trained: Settings) -> None:
    releases, rounds = recorded(trained, "release"), recorded(trained, "round")
    assert len(releases) == 2
    for name in ("loss", "accuracy", "auc", "balanced_accuracy", "epsilon_prv"):
        assert server.series(name) == [(row["round"], row[name]) for row in releases]
    assert server.series("round_seconds") == [(r["round"], r["seconds"]) for r in rounds]
    spent = {(row["round"], row["epsilon_rdp"]) for row in rounds + releases}
    assert set(server.series("epsilon_rdp")) == spent
    assert len(server.series("phase_seconds/seal")) == 4


def test_measures_are_shown_against_rounds_bytes_and_seconds(
    server: Stored, trained: Settings
) -> None:
    for prefix, axis in (("", "round"), ("by_megabytes/", "megabytes"), ("by_seconds/", "seconds")):
        assert server.axes[f"{prefix}accuracy"] == axis
        assert [v for _, v in server.series(f"{prefix}accuracy", axis)] == [
            v for _, v in server.series("accuracy")
        ]
    total = recorded(trained, "round")[-1]
    megabytes = (total["uplink_bytes_total"] + total["downlink_bytes_total"]) / 1e6
    assert server.series("by_megabytes/accuracy", "megabytes")[-1][0] == pytest.approx(megabytes)
    seconds = [at for at, _ in server.series("by_seconds/accuracy", "seconds")]
    assert seconds == sorted(seconds)
    steps = [row["_step"] for row in server.rows]
    assert steps == list(range(len(steps)))


def test_the_end_adds_summary_tables_pictures_and_the_model(
    server: Stored, trained: Settings
) -> None:
    summary = read_json(trained, "summary.json")
    assert len(summary) > 20
    assert {key: server.summary.get(key) for key in summary} == summary
    names = {name.partition("/")[0] for row in server.rows for name in row}
    assert {"observers", "split"} <= names
    assert any(name.startswith("confusion") for name in names)
    model = next(one for one in server.artifacts if one.type == "model")
    [entry] = model.manifest.contents
    assert entry.path == "model.safetensors"
    assert entry.local_path == str(Path(trained.run.out) / "model.safetensors")
    files = Path(trained.run.out).glob("wandb/offline-run-*/files/media/table/observers*")
    rows = json.loads(next(files).read_text())["data"]
    privacy = read_json(trained, "privacy.json")
    assert [row[0] for row in rows] == [one["observer"] for one in privacy["observers"]]


def test_hospitals_are_prefixed_series_in_a_simulation_of_public_data(
    server: Stored, trained: Settings
) -> None:
    last = recorded(trained, "hospitals")[-1]
    for name, accuracy in last["accuracy"].items():
        assert server.series(f"hospitals/{name}/accuracy") == [(4, accuracy)]
        assert len(server.series(f"hospitals/{name}/seconds")) == 4


def test_a_file_that_is_still_being_written_reads_as_far_as_it_is_whole(
    server: Stored, trained: Settings, tmp_path: Path
) -> None:
    [whole] = (Path(trained.run.out) / "wandb").glob("offline-run-*/*.wandb")
    data, part = whole.read_bytes(), tmp_path / "part.wandb"
    rows = []
    for size in (*range(200), *range(200, len(data), 97), *range(len(data) - 50, len(data) + 1)):
        part.write_bytes(data[:size])
        rows.append(Stored(part).rows)
    assert rows[0] == []
    assert rows[-1] == server.rows
    assert all(one == server.rows[: len(one)] for one in rows)


def record_hospitals(tmp_path: Path, **config: Any) -> dict[str, Stored]:
    """Tell a tracker of two hospitals and an end, and read back what it wrote."""
    (tmp_path / "run").mkdir()
    settings = Settings.from_config({"tracking.wandb": "offline", **config})
    tracker = WandbTracker(settings, tmp_path / "run")
    tracker.record("hospitals", time=1.0, round=3, accuracy={"north": 0.9, "south": 0.8})
    tracker.record("end", time=2.0, status="finished")
    tracker.close()
    return stored_runs(tmp_path / "run")


def test_hospitals_have_runs_of_their_own_in_a_deployment_of_public_data(tmp_path: Path) -> None:
    runs = record_hospitals(tmp_path, **{"data.public": True, "data.patients": 400})
    assert sorted(runs) == ["north", "server", "south"]
    assert {one.run.run_group for one in runs.values()} == {"run"}
    assert runs["north"].series("accuracy") == [(3, 0.9)]
    assert not any("hospitals/north/accuracy" in row for row in runs["server"].rows)
    assert runs["north"].axes["*"] == "round"


def test_hospitals_are_refused_with_the_reason_where_data_are_not_public(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = record_hospitals(tmp_path, **{"data.public": False})
    assert list(runs) == ["server"]
    assert b"north" not in next((tmp_path / "run").glob("wandb/off*/*.wandb")).read_bytes()
    assert "noise does not cover" in runs["server"].config["hospital_series"]
    assert "data.public = false" in caplog.text


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"data.public": True}, True),
        # The machine is the hospitals' own as well: its load tells how large a batch was.
        ({"data.public": False}, False),
        ({"data.public": False, "data.patients": 400, "data.largest-hospital": 200}, True),
    ],
    ids=["public simulation", "simulation", "deployment"],
)
def test_machine_metrics_are_shown_unless_hospitals_share_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], shown: bool
) -> None:
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
    settings = Settings.from_config({"tracking.wandb": "offline", **config})
    tracker = WandbTracker(settings, tmp_path)
    threading.Event().wait(1.0)  # ten samples
    tracker.close()
    assert stored_runs(tmp_path)["server"].has_machine_metrics is shown


def test_a_folder_that_cannot_be_written_is_one_warning_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wandb").write_text("a file where a folder should be")
    settings = small_settings(tmp_path, tracking__wandb="offline", training__rounds=1)
    run_app(settings)
    assert read_json(settings, "summary.json")["status"] == "finished"
    assert recorded(settings, "end")[-1]["status"] == "finished"
    warned = [
        r for r in caplog.records if r.levelno >= logging.WARNING and "Weights" in r.msg % r.args
    ]
    assert len(warned) == 1


NOBODY_THERE = "http://127.0.0.1:9"
KEY = "0123456789" * 4


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "NotLoggedIn: no API key is configured: run 'wandb login'"),
        (KEY, "CommError"),
    ],
    ids=["nobody is logged in", "the network is gone"],
)
def test_an_online_run_without_login_or_network_is_one_warning_and_goes_on(
    tmp_path: Path, key: str, said: str
) -> None:
    """In a process of its own, on a terminal's input, where wandb would ask for a key."""
    settings = small_settings(tmp_path / "run", tracking__wandb="online", training__rounds=2)
    (tmp_path / "config.json").write_text(json.dumps(settings.to_config()))
    code = (
        "import json, logging, pathlib, sys\n"
        "from clients.contract.settings import Settings\n"
        "from tests.exchange_runs import run_app\n"
        "import strategies.run.wandb_tracker as tracker\n"
        "tracker.INIT_SECONDS = 2.0\n"
        "logging.basicConfig(level='WARNING')\n"
        "run_app(Settings.from_config(json.loads(pathlib.Path(sys.argv[1]).read_text())))\n"
    )
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "config.json")],
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "NETRC": str(tmp_path / "netrc"),
            "WANDB_BASE_URL": NOBODY_THERE,
            "WANDB_API_KEY": key,
        },
    )
    for end in (ours, theirs):
        os.close(end)
    assert done.returncode == 0, done.stderr
    assert read_json(settings, "summary.json")["status"] == "finished"
    [warning] = recorded(settings, "warning")
    assert f"Weights & Biases failed ({said}" in warning["message"]
    assert done.stderr.count("is dropped; metrics.jsonl goes on") == 1
    assert len(recorded(settings, "round")) == 2


def test_wandb_is_not_imported_unless_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clients.contract.settings import Settings\n"
        "from strategies.run.trackers import make_trackers\n"
        "make_trackers(Settings.from_config({'tracking.wandb': 'disabled'}), Path('.'))\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def test_rows_carry_bytes_and_seconds_of_the_moment() -> None:
    series = Series()
    assert series.row("start", {"time": 100.0}) == {}
    row = series.row(
        "round",
        {"time": 103.0, "round": 1, "uplink_bytes_total": 1e6, "downlink_bytes_total": 2e6,
         "epsilon_rdp": None, "seconds": 0.5, "phases": {}},
    )  # fmt: skip
    assert row == {"round": 1, "megabytes": 3.0, "seconds": 3.0, "round_seconds": 0.5}
    row = series.row("release", {"time": 104.0, "round": 1, "accuracy": 0.5})
    assert (row["megabytes"], row["seconds"], row["by_seconds/accuracy"]) == (3.0, 4.0, 0.5)
    assert series.row("fault", {"time": 105.0, "round": 2}) == {}


def test_a_run_does_not_wait_for_what_launched_jobs_need(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from strategies.run.wandb_tracker import WandbTracker
from tests.in_process import small_settings
folder = Path({str(tmp_path)!r})
WandbTracker(small_settings(folder, tracking__wandb="offline"), folder).close()
print([name for name in sys.modules if name.startswith("wandb.sdk.launch.inputs")])
"""
    asked = [sys.executable, "-c", script]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout == "[]\n"
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
