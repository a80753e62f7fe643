"""The examples are what their READMEs say, and run as Flower runs apps."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from asclepias import SecureFedAvg, hospital_mod, private_client
from simulations.engines.flower_engine import _environment, _superlink
from tests.asclepias.own_apps import AppGrid, furthest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart-private"
MOST_LINES = 10

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


def difference() -> list[str]:
    """The lines of a diff from the plain quickstart to the private one."""
    files = {
        file.relative_to(QUICKSTART / part)
        for part in ("plain", "private")
        for file in (QUICKSTART / part).rglob("*")
        if file.suffix in (".py", ".toml")
    }
    lines: list[str] = []
    for name in sorted(files):
        texts = [
            (QUICKSTART / part / name).read_text(encoding="utf-8").splitlines(keepends=True)
            for part in ("plain", "private")
        ]
        lines += difflib.unified_diff(*texts, f"plain/{name}", f"private/{name}", n=1)
    return lines


def test_the_private_quickstart_differs_by_ten_lines_which_its_readme_shows() -> None:
    lines = difference()
    changed = [one for one in lines if re.match(r"[+-](?![+-]{2} )", one)]
    assert 0 < len(changed) <= MOST_LINES
    assert "".join(lines) in (QUICKSTART / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The quickstart's own model, data and training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(QUICKSTART / "private"))
    yield importlib.import_module("quickstart.task")
    for name in [name for name in sys.modules if name.partition(".")[0] == "quickstart"]:
        del sys.modules[name]


def test_the_quickstart_without_noise_ends_where_fedavg_does(task, tmp_path: Path) -> None:
    """The same net and data: behind the mod as it trains itself, and by clipped gradients."""
    sites, rounds, rate = 2, 3, 0.05
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # where pooling has no ties, a step does not widen what rounding did
        first = ArrayRecord(task.Net().state_dict())

    def grid(app) -> AppGrid:
        made = AppGrid(app, sites)
        # One batch of all, so that shuffling decides on nothing.
        made._config = {"batch-size": 10_000, "learning-rate": rate}
        return made

    def plain() -> ClientApp:
        app = ClientApp()
        app.train()(task.train)
        return app

    def sealed() -> ClientApp:
        app = ClientApp(mods=[hospital_mod])
        app.train()(task.train)
        return app

    def private() -> ClientApp:
        return private_client(task.Net, lambda c: task.load_data(c), one_record_each=True)

    expected = FedAvg(fraction_evaluate=0.0).start(grid(plain), first, num_rounds=rounds).arrays
    common = {"patients": task.TRAINED, "hospitals": sites}
    mod = SecureFedAvg(own_training=True, folder=tmp_path / "mod", **common)
    found = mod.start(grid(sealed), first, num_rounds=rounds).arrays
    assert furthest(found, expected) <= rounds * (mod.sum_rounding / task.TRAINED + 5e-7)
    own = SecureFedAvg(
        l2_clip=20.0, sampling_rate=1.0, learning_rate=rate, folder=tmp_path / "own", **common
    )
    found = own.start(grid(private), first, num_rounds=rounds).arrays
    assert furthest(found, expected) <= rounds * (rate * own.sum_rounding / task.TRAINED + 5e-7)
    assert furthest(found, first) > 0.01


def run_app(app: Path, home: Path, *options: str) -> str:
    """Run an app by `flwr run` on a SuperLink of its own; returns what it printed."""
    environment = dict(_environment(home))
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home / "cache")}
    with ExitStack() as stack:
        stack.enter_context(_superlink(environment, home))
        command = [str(Path(sys.executable).with_name("flwr")), "run", str(app), "here", "--stream"]
        done = subprocess.run(
            [*command, "--federation-config", "num-supernodes=3", *options],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    return done.stdout + done.stderr


@pytest.mark.exhaustive
def test_the_private_quickstart_runs_under_flwr_run(tmp_path: Path) -> None:
    said = run_app(QUICKSTART / "private", tmp_path, "--run-config", "num-server-rounds=3")
    assert re.search(r"accuracy 0\.\d+", said), said[-3000:]
    assert re.search(r"server: \{.*'prv': 2\.9", said), said[-3000:]
    assert "(ClientAppActor" not in "".join(re.findall(r".*Traceback.*", said))
    assert os.environ.get("FLWR_HOME") is None
