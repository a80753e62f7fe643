"""What is wrong with a run is said before anything starts: a sentence, exit code 2, no folder."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from clients.contract.settings import SettingsError
from clients.data import Cohorts
from simulations.cli import main
from simulations.compare.axes import Axes, plan_comparison
from simulations.compare.comparison import possible
from simulations.engines.ray_cluster import check_folder
from simulations.error_messages import NotStarted
from simulations.launch import _LogFile
from simulations.preflight import check_run, fault_of
from simulations.scenario import find_scenario, resolve
from strategies.run.folder import RunFolder
from tests.clients.learning.test_device import CUDA
from tests.in_process import small_settings
from tests.simulations.engine_runs import COMMAND, environment
from tests.simulations.made_runs import run_round, start_run

DEFAULT = find_scenario("default")
GIVEN_NOISE = ("privacy.target-epsilon=0.0", "privacy.noise-multiplier=")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASCLEPIAS_DATA", raising=False)


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    """Fail where an engine is reached."""

    def simulate(settings, options, cohorts):
        raise AssertionError("an engine was started")

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)


def refused(capsys, *words: str) -> str:
    """What a command says on standard error that is refused."""
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def given(noise: str) -> list[str]:
    return ["--set", GIVEN_NOISE[0], "--set", f"{GIVEN_NOISE[1]}{noise}"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        pytest.param(["--set", "data.name=csv:gone.csv"], ["gone.csv", "data.dir"], id="file"),
        pytest.param(["--set", "partition.hospitals=4000"], ["4000"], id="split"),
        pytest.param(["--set", "model.name=cnm"], ["'cnn'"], id="name"),
        pytest.param(["--set", "privacy.delta=0.9999999"], ["privacy.delta", "drawn"], id="delta"),
        pytest.param(["--set", "privacy.target-epsilon=1000"], ["rdp"], id="beyond prv"),
        pytest.param(given("0.001"), ["privacy.noise-multiplier = 0.001", "grid"], id="weak"),
        pytest.param(given("1e-8"), ["privacy.noise-multiplier = 1e-08"], id="weakest"),
    ],
)  # fmt: skip
def test_what_a_run_cannot_have_is_said_before_it_starts(tmp_path, capsys, words, parts):
    err = refused(capsys, "run", "default", *words)
    assert err.startswith("Nothing was started: ")
    for part in parts:
        assert part in err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_column_is_said_before_it_starts(tmp_path, capsys):
    (tmp_path / "visits.csv").write_text("age;outcome\n61;0\n48;1\n")
    (tmp_path / "visits.toml").write_text(
        'target = "outcome"\nclasses = ["0", "1"]\n[ranges]\nage = [0, 120]\nweight = [0, 300]\n'
    )
    err = refused(capsys, "run", "default", "--set", "data.name=csv:visits.csv")
    assert "weight" in err and "visits.csv" in err


def test_a_missing_file_takes_neither_torch_nor_ray(tmp_path):
    code = (
        "import sys, simulations.cli as c;"
        "code = c.main(['run', 'default', '--set', 'data.name=csv:gone.csv']);"
        "print(code, sorted({'torch', 'ray', 'opacus'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "2 []\n"


def test_noise_that_prv_cannot_account_for_may_be_planned_by_rdp():
    texts = ("privacy.target-epsilon=1000", "privacy.accountant=rdp")
    assert fault_of(resolve(DEFAULT, texts), Cohorts()) == ""


def test_a_fault_that_all_cells_share_is_said_once(tmp_path, capsys):
    words = ["compare", "default", "--regimes", "F,FPDP,FSCDP", "--epsilons", "1,3"]
    err = refused(capsys, *words, "--set", "data.name=csv:gone.csv")
    assert err.count("gone.csv") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_one_setup_cannot_have_leaves_the_others_and_stands_with_its_reason():
    plan = possible(plan_comparison(DEFAULT, Axes(regimes=("F",), hospitals=(10, 4000))))
    assert [setup.hospitals for setup in plan.setups] == [10]
    [(why, labels)] = plan.skipped
    assert "4000" in why[0] and "K = 4000" in labels[0]


def test_every_value_that_is_tuned_over_is_looked_at_before_the_first_training():
    axes = Axes(regimes=("FSCDP",), tune={"training.momentum": (0.5, 2.0)})
    with pytest.raises(SettingsError, match=r"training\.momentum = 2"):
        possible(plan_comparison(DEFAULT, axes))


def test_a_run_whose_folder_another_command_has_is_not_resumed(tmp_path, capsys):
    folder = start_run(tmp_path / "runs" / "20260101-000000-default", 4)
    run_round(folder, 1)
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with RunFolder(folder.path).held():
        err = refused(capsys, "resume", "latest")
    assert "Another command" in err and "watch" in err
    after = {path: path.read_bytes() for path in folder.path.iterdir() if path.name != ".lock"}
    assert after == before


def test_a_file_is_no_place_for_runs(tmp_path, capsys):
    (tmp_path / "here").write_text("")
    err = refused(capsys, "run", "default", "--out", "here")
    assert "here cannot be written: there is a file of that name" in err and "--out" in err
    err = refused(capsys, "run", "default", "--out", "here/below")
    assert "a part of that path is a file" in err
    assert "there is a file" in refused(capsys, "compare", "default", "--out", "here")


def test_a_folder_that_may_not_be_written_is_a_sentence(capsys):
    place = "/sys/kernel" if os.geteuid() == 0 else "/"
    assert f"{place}/runs" in refused(capsys, "run", "default", "--out", f"{place}/runs")


def test_a_disk_without_room_is_a_sentence_and_leaves_no_folder(tmp_path, capsys):
    """The limit on a file's size stands in for a disk: writing fails in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        code = main(["run", "default"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2
    assert "cannot be written: the file would be larger" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_fills_up_ends_a_run_with_a_sentence(monkeypatch, capsys):
    def simulate(settings, options, cohorts):
        logging.getLogger("any").warning("what a log that is full says nothing of")
        with Path("/dev/full").open("w") as file:
            file.write("a line")

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    full = partial(_LogFile, "/dev/full")
    monkeypatch.setattr("simulations.launch._LogFile", lambda *_, **options: full(**options))
    assert main(["run", "default"]) == 1
    err = capsys.readouterr().err
    assert "cannot be written: the disk is full; make room on it." in err
    assert "What was done so far is in runs/" in err
    assert "Traceback" not in err and "Logging error" not in err


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_deep_for_sockets_is_named(tmp_path, monkeypatch, name):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/tmp")
    check_folder()
    monkeypatch.setenv(name, f"/tmp/{'deep/' * 12}")
    with pytest.raises(NotStarted, match=rf"{name} = /tmp/deep.* too long .* by \d+ letters"):
        check_folder()


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive)],
)
def test_what_is_ended_while_it_prepares_is_not_told_to_resume(tmp_path, number, code):
    process = subprocess.Popen(
        [*COMMAND, "run", "default", "--out", str(tmp_path), "--quiet"],
        stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(tmp_path.glob("*/provenance.json")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "nothing was spent" in err and "The same command" in err
    assert "resume" not in err and "Traceback" not in err
    [folder] = tmp_path.glob("*/")
    assert main(["resume", str(folder)]) == 2


def test_a_run_that_is_ended_while_it_imports_is_interrupted_whatever_fails_then(
    monkeypatch, capsys
):
    """A library that is imported in part raises what it likes when it is next asked for."""

    def simulate(settings, options, cohorts):
        run_round(start_run(Path(settings.run.out)), 1)
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise AttributeError("module 'half' has no attribute 'imported'")

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    assert main(["run", "default"]) == 143
    err = capsys.readouterr().err
    assert "resume" in err and "half" not in err


def test_sigterm_has_its_code_whatever_a_library_makes_of_it(monkeypatch, capsys):
    def simulate(settings, options, cohorts):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    assert main(["run", "default"]) == 143


def test_sigterm_has_its_code_before_there_is_a_run_as_well(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "simulations.preflight.fault_of", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    assert main(["run", "default"]) == 143
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--noise-multiplier", "1", "--hospitals", "1"], "partition.hospitals >= 2"),
        (["--noise-multiplier", "1", "--dropouts", "9", "--colluders", "1"], "leaves nobody"),
        (["--noise-multiplier", "1", "--rounds", "9999999"], "training.rounds"),
        (["--target-epsilon", "1", "--delta", "0.99999999"], "drawn"),
        (["--noise-multiplier", "1", "--target-epsilon", "1"], "both set"),
        (["--noise-multiplier", "1", "--regime", "X"], "privacy.regime"),
    ],
)  # fmt: skip
def test_account_refuses_what_a_run_refuses(words, part, capsys):
    base = ["account", "--sampling-rate", "0.2"]
    rounds = [] if "--rounds" in words else ["--rounds", "60"]
    assert part in refused(capsys, *base, *rounds, *words)


@pytest.mark.parametrize("name", ["flower-simulation", "asclepias"])
def test_each_command_line_says_its_version(name, capsys):
    from deployment.cli import main as deploy

    assert {"flower-simulation": main, "asclepias": deploy}[name](["--version"]) == 0
    assert capsys.readouterr().out.startswith("asclepias 0.")


@pytest.mark.skipif(CUDA, reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_said_before_anything_starts(tmp_path, device):
    settings = small_settings(tmp_path, run__device=device)
    with pytest.raises(NotStarted, match=rf"run\.device '{device}': .*'auto' computes on"):
        check_run(settings)
