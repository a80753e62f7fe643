"""The command line: what it accepts, what it refuses, what it prints, how it exits."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from deployment.cli import app as deployment_app
from simulations.cli import app, main
from simulations.launch import illustrate
from tests.simulations.made_runs import end_run, make_run, run_round, start_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def engine(monkeypatch):
    """Stand in for a training: it writes what one writes, and notes what it was asked."""
    asked = []

    def simulate(settings, options, cohorts):
        asked.append((settings, options))
        path = Path(settings.run.out)
        folder = start_run(path, settings.training.rounds)
        for number in range(1, settings.training.rounds + 1):
            run_round(folder, number, release=True)
        end_run(folder, settings.training.rounds)

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    monkeypatch.setattr("simulations.launch.illustrate", lambda path: None)  # a second each
    return asked


def test_help_is_quick_and_names_every_command():
    code = (
        "import sys, simulations.cli as c; c.main(['--help']);"
        "heavy = {'torch', 'flwr', 'ray', 'opacus', 'numpy', 'matplotlib', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert out.splitlines()[-1] == "[]"
    for command in ("run", "resume", "watch", "account", "ledger", "report", "sealing-plan"):
        assert f" {command} " in out
    assert "--num-supernodes" in out


@pytest.mark.parametrize(
    "command",
    ["run", "resume", "watch", "scenarios", "settings", "sealing-plan", "account", "ledger",
     "exchanges", "figures", "report", "predict", "export", "attack"],
)  # fmt: skip
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"flower-simulation {command}" in out.split("Example")[-1]


def test_no_arguments_run_the_default_scenario(engine, capsys):
    assert main([]) == 0
    (settings, options) = engine[0]
    assert settings.run.scenario == "default"
    assert options.engine == "ray"
    out = capsys.readouterr().out
    for part in ("0.939", "0.991", "server + one key", "run folder: runs/"):
        assert part in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out


def test_a_run_leaves_its_resolved_settings_and_its_command(engine, tmp_path, capsys):
    words = ["run", "default", "--set", "training.rounds=3", "--num-supernodes", "4"]
    assert main([*words, "--seed", "7", "--out", str(tmp_path / "here"), "--quiet"]) == 0
    (settings, _) = engine[0]
    path = Path(settings.run.out)
    assert path.parent == tmp_path / "here"
    assert capsys.readouterr().out.strip().replace("\n", "") == f"here/{path.name}"
    table = tomllib.loads((path / "config.toml").read_text())
    assert table == settings.to_tables()
    assert table["partition"]["hospitals"] == 4
    assert (table["run"]["seed"], table["training"]["rounds"]) == (7, 3)
    assert json.loads((path / "provenance.json").read_text())["commands"][0]["command"]


def test_a_run_leaves_its_figures_and_its_report_and_names_it(engine, monkeypatch, capsys):
    monkeypatch.setattr("simulations.launch.illustrate", illustrate)
    assert main([]) == 0
    path = Path(engine[0][0].run.out)
    assert f"report: runs/{path.name}/report.html" in capsys.readouterr().out
    assert (path / "report.html").is_file()
    assert (path / "figures" / "training.png").is_file()


def test_a_figure_that_fails_fails_no_run(engine, monkeypatch, capsys):
    def fail(run):
        raise OSError("no space left")

    monkeypatch.setattr("simulations.launch.illustrate", illustrate)
    monkeypatch.setattr("simulations.pages.figures.draw_all", fail)
    assert main(["--quiet"]) == 0
    (log,) = Path("runs").glob("*/run.log")
    assert "no space left" in log.read_text()


def test_two_runs_never_share_a_folder(engine):
    assert main(["--quiet"]) == main(["--quiet"]) == 0
    assert len({settings.run.out for settings, _ in engine}) == 2


def test_json_prints_the_summary_and_nothing_else(engine, capsys):
    assert main(["run", "default", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["accuracy"] == 0.9386
    assert content["observers"][0]["observer"] == "server"
    assert Path(content["run"]).is_dir()


def test_the_old_form_is_accepted(engine):
    words = ["--app", str(ROOT), "--num-supernodes", "5", "--run-config"]
    assert main([*words, "training.rounds=2 privacy.regime='FPDP'", "--quiet"]) == 0
    (settings, _) = engine[0]
    assert settings.partition.hospitals == 5
    assert (settings.training.rounds, settings.privacy.regime) == (2, "FPDP")
    assert settings.data.public is False


def test_another_apps_folder_is_refused(tmp_path, capsys):
    assert main(["--app", str(tmp_path)]) == 2
    assert "flwr run" in capsys.readouterr().err


def test_wrong_settings_start_nothing_and_are_all_named(engine, tmp_path, capsys):
    words = ["--set", "training.round=3", "--set", "privacy.delta=2", "--set", "model.name=cmn"]
    assert main(["run", "default", *words]) == 2
    err = capsys.readouterr().err
    assert "Nothing was started: 3 settings are wrong." in err
    for part in ("training.rounds", "privacy.delta = 2", "'cnn'"):
        assert part in err
    assert "Traceback" not in err
    assert engine == []
    assert list(tmp_path.iterdir()) == []


def test_a_cut_that_does_not_exist_starts_nothing_and_lists_those_that_do(engine, tmp_path, capsys):
    words = ["--set", "exchange.name=layers", "--set", "privacy.regime=F"]
    assert main(["run", "default", *words, "--set", "exchange.cut=hiden"]) == 2
    assert "those are centre, flatten." in capsys.readouterr().err
    assert engine == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", "defualt"], "did you mean 'default'"),
        (["compare", "attacks"], "flower-simulation attack all"),
        (["run", "default", "--engine", "steam"], "known: ray, flower"),
        (["run"], "SCENARIO"),
        (["fly"], "fly"),
        (["--seed", "3", "run", "default"], "write options after it"),
        (["run", "default", "--seed", "x"], "x"),
        (["watch", "nowhere"], "no run folder"),
        (["resume", "latest"], "There is no run"),
        (["account", "--sampling-rate", "2", "--rounds", "3", "--noise-multiplier", "1"], "2.0 is"),
        (["account", "--sampling-rate", "0.1", "--rounds", "3"], "noise-multiplier"),
        (["sealing-plan", "--parameters", "9", "--hospitals", "10", "--scheme", "x"], "known"),
        (["sealing-plan", "--parameters", "9", "--hospitals", "10", "--regime", "x"], "FSCDP"),
        (["ledger", "nowhere"], "no run folder"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_one_paragraph_and_exit_code_two(words, part, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "Traceback" not in err


def test_a_stopped_run_exits_with_one_its_tables_and_its_message(monkeypatch, capsys):
    from simulations.engines.engine import RunStopped

    def simulate(settings, options, cohorts):
        end_run(start_run(Path(settings.run.out)), 2, status="stopped", message="round 3")
        raise RunStopped("round 3 closed with 9 of 10 hospitals; read hospital-04's log")

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    assert main([]) == 1
    out, err = capsys.readouterr()
    assert "0.939" in out
    assert "read hospital-04's log. What was done so far is in runs/" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("words", "shown"), [([], False), (["--debug"], True)])
def test_a_fault_of_ours_shows_its_traceback_only_when_asked(monkeypatch, capsys, words, shown):
    def simulate(settings, options, cohorts):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    assert main(["--quiet", *words]) == 1
    err = capsys.readouterr().err
    assert ("Traceback" in err) is shown
    assert "ZeroDivisionError: by zero" in err
    assert "--debug" in err


@pytest.mark.parametrize("command", ["watch", "report", "ledger", "scenarios", "results-page"])
def test_debug_may_follow_every_command(monkeypatch, capsys, command):
    def fail(*_):
        raise ZeroDivisionError("by zero")

    for place in (
        "strategies.run.reading.find_run",
        "simulations.scenario.list_scenarios",
        "simulations.compare.folder.read_comparison",
    ):
        monkeypatch.setattr(place, fail)
    monkeypatch.setattr("simulations.pages.account_book.find_run", fail)
    words = [command] if command == "scenarios" else [command, "x"]
    assert main(words) == main([*words, "--debug"]) == 1
    assert capsys.readouterr().err.count("Traceback") == 1


def commands_on_pages():
    """Every command that README, docs and examples show, as words."""
    found = set()
    pages = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
    ]
    for page in pages:
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        texts = [*"\n".join(blocks).splitlines(), *re.findall(r"`([^`\n]+)`", text)]
        for line in texts:
            # `asclepias` by itself is the package, and so it is where it is imported or installed.
            if match := re.search(
                r"(?<!from )(?<!install )\b"
                r"(flower-simulation(?: [^#&;|]*)?|asclepias (?:[a-z]|--)[^#&;|]*)(?=[#&;|]|$)",
                line,
            ):
                filled = re.sub(r"<[^>]+>", "NAME", match[0]).replace("--seed N", "--seed 1")
                found.add(filled.strip())
    return sorted(found)


@pytest.mark.parametrize("text", commands_on_pages())
def test_commands_on_pages_are_accepted(text):
    program, *words = shlex.split(text)
    group = get_command({"flower-simulation": app, "asclepias": deployment_app}[program])
    with group.make_context(program, list(words)) as context:
        if rest := [*context._protected_args, *context.args]:
            name, command, rest = group.resolve_command(context, rest)
            if rest:
                command.make_context(name, rest, parent=context)


def test_pages_show_commands():
    found = commands_on_pages()
    assert len(found) > 25
    assert "flower-simulation watch trial/superlink" in found


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(monkeypatch, capsys):
    def simulate(settings, options, cohorts):
        start_run(Path(settings.run.out))
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.engines.engine.simulate", simulate)
    assert main(["--quiet"]) == 130
    assert "resume" in capsys.readouterr().err


def test_an_interrupted_run_is_resumed_with_its_training(engine, tmp_path):
    folder = start_run(tmp_path / "runs" / "20260101-000000-default", 4)
    run_round(folder, 1)
    folder.record("end", status="interrupted", message="")
    assert main(["resume", "latest", "--quiet"]) == 0
    (settings, _) = engine[0]
    assert settings.run.training_id == "0123456789abcdef"
    assert Path(settings.run.out) == folder.path
    assert settings.training.rounds == 4


def test_a_finished_run_is_not_resumed(engine, tmp_path, capsys):
    make_run(tmp_path / "run")
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert "finished" in capsys.readouterr().err
    assert engine == []


def test_watch_follows_a_run_to_its_end(tmp_path, capsys):
    make_run(tmp_path / "run")
    assert main(["watch", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert "round 10/10" in captured.err
    assert "0.939" in captured.out


def test_watch_follows_the_newest_run_of_a_superlink_while_another_process_writes_it(tmp_path):
    """What a deployment leaves: a folder of runs, written to by the server's app."""
    path = tmp_path / "superlink" / "runs" / "20260101-000000-default"
    folder = start_run(path, 3)
    command = [sys.executable, "-m", "simulations.cli", "watch", str(tmp_path / "superlink")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    watching = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert watching.stderr and watching.stderr.readline().startswith("default: 10 hospitals, FSCDP")
    for number in range(1, 4):
        run_round(folder, number, release=True)
        assert watching.stderr.readline().startswith(f"round {number}/3: accuracy")
    end_run(folder, 3)
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    assert "server + one key" in out
    assert "\x1b" not in out + err


def test_watch_exits_with_one_for_a_run_that_did_not_finish(tmp_path, capsys):
    end_run(start_run(tmp_path / "run"), 2, status="stopped", message="round 3 closed with 9 of 10")
    assert main(["watch", str(tmp_path / "run")]) == 1
    assert "stopped: round 3 closed with 9 of 10" in capsys.readouterr().err


def test_watch_prints_json_and_nothing_else_when_asked(tmp_path, capsys):
    make_run(tmp_path / "run")
    assert main(["watch", str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["accuracy"] == 0.9386
    assert captured.err == ""


def test_scenarios_and_settings_are_listed(capsys):
    assert main(["scenarios"]) == 0
    assert "chest-xray" in capsys.readouterr().out
    assert main(["settings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training.sampling-rate"] == 0.2


def test_a_ledger_says_what_was_spent_on_what(tmp_path, capsys):
    from accounting.events import GaussianEvent
    from accounting.ledger import Ledger

    path = make_run(tmp_path / "run")
    event = GaussianEvent(sampling_rate=0.2, noise_multiplier=1.9)
    for site in ("server", "hospital-03"):
        folder = path if site == "server" else path / "sites" / site
        folder.mkdir(parents=True, exist_ok=True)
        with Ledger(folder / "ledger.jsonl", site=site, cohort="wisconsin", durable=False) as book:
            for number in range(1, 4):
                book.spend(event, training="t", round=number, attempt=1, purpose="gradient")
    assert main(["ledger", str(path)]) == 0
    out = capsys.readouterr().out
    for part in ("server", "hospital-03", "gaussian, q 0.2, sigma 1.9", "1-3", "gradient"):
        assert part in out
    file = path / "sites" / "hospital-03" / "ledger.jsonl"
    assert main(["ledger", str(file), "--json"]) == 0
    (statement,) = json.loads(capsys.readouterr().out)
    assert len(statement["entries"]) == 3


def test_the_tables_of_a_run_are_there_before_anything_is_drawn_of_it(engine, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(
        "simulations.launch.illustrate", lambda _: shown.append(capsys.readouterr().out)
    )
    assert main(["run", "default"]) == 0
    [before] = shown
    assert "Who could learn what" in before and "run folder" not in before
    assert "run folder" in capsys.readouterr().out
