"""The examples are what their READMEs say, and run as Flower runs apps."""

from __future__ import annotations

import difflib
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAdam, FedAvg

from asclepias import SecureFedAvg, hospital_mod, private_client
from tests.asclepias.flower_runs import run_app
from tests.asclepias.own_apps import AppGrid, furthest
from tests.simulations.engine_runs import environment, run_folder

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart-private"
OWN = ROOT / "examples" / "own-model-own-data"
VOLUMES = ROOT / "examples" / "monai-3d"
NOTEBOOK = ROOT / "examples" / "jupyter" / "regimes.ipynb"
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


def test_lines_that_peers_change_are_those_of_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    apps = importlib.import_module("quickstart_apps")
    found = json.loads((ROOT / "docs/measured/quickstart_peers.json").read_text(encoding="utf-8"))
    ways = {
        "plain FedAvg": {},
        "ours: private_client": None,
        "ours: hospital_mod": apps.SEALED,
        "Flower: DP wrapper": apps.WRAPPER,
        "Flower: DP wrapper and SecAgg+": apps.SECAGG,
        "NVFlare: HE": None,
    }
    for row in found["rows"]:
        apps.write_app(tmp_path / row["name"], ways[row["name"]])
        if row["lines"] is not None:
            assert apps.changed_lines(tmp_path / row["name"]) == row["lines"], row["name"]


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
    sites, rounds, rate = 2, 2, 0.05
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


@pytest.fixture
def progression(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The other example's own model, loss and data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(OWN))
    yield importlib.import_module("progression.task")
    for name in [name for name in sys.modules if name.partition(".")[0] == "progression"]:
        del sys.modules[name]


def test_a_model_of_ones_own_learns_under_noise(progression, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = ArrayRecord(progression.Progression().state_dict())
    strategy = SecureFedAvg(
        FedAdam(eta=0.1, tau=0.01),
        patients=progression.TRAINED,
        hospitals=3,
        target_epsilon=3.0,
        sampling_rate=0.3,
        learning_rate=1.0,
        seed=3,
        audit=False,
        folder=tmp_path / "run",
    )
    data = (progression.Progression, lambda context: progression.load_data(context))
    grid = AppGrid(lambda: private_client(*data, progression.surprise), 3)
    result = strategy.start(grid, first, num_rounds=8, evaluate_fn=progression.measure)
    errors = [one["error"] for one in result.evaluate_metrics_serverapp.values()]
    assert errors[0] > 65 and errors[-1] < 58  # always saying the median: 70


def test_a_hospitals_own_file_is_read_with_all_visits_of_a_patient(
    progression, tmp_path: Path
) -> None:
    file = tmp_path / "visits.csv"
    measured = ",".join(["0.5"] * 10)
    lines = ["name,a,b,c,d,e,f,g,h,i,j,progression", *(f"{n},{measured},230" for n in "abba")]
    file.write_text("\n".join(lines), encoding="utf-8")
    config = {"data-path": str(file)}
    context = Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})
    found = progression.load_data(context)
    assert found.numbers.tolist() == [0, 1, 1, 0] and found.named
    assert found.targets.tolist() == [1.0] * 4 and found.inputs.shape == (4, 10)


@pytest.fixture
def lesions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """MONAI's network, loss and readers, with fewer volumes than the example makes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(VOLUMES))
    task = importlib.import_module("lesions.task")
    monkeypatch.setattr(task, "TRAINED", 90)
    yield task
    for name in [name for name in sys.modules if name.partition(".")[0] == "lesions"]:
        del sys.modules[name]


@pytest.mark.exhaustive
def test_monais_network_learns_to_segment_under_noise(lesions, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = ArrayRecord(lesions.network().state_dict())
    strategy = SecureFedAvg(
        FedAdam(eta=0.02, tau=0.01),
        patients=lesions.TRAINED,
        hospitals=2,
        target_epsilon=8.0,
        sampling_rate=0.3,
        learning_rate=1.0,
        seed=3,
        audit=False,
        folder=tmp_path / "run",
    )
    app = (lesions.network, lambda context: lesions.load_data(context), lesions.overlap)
    grid = AppGrid(lambda: private_client(*app), 2)
    result = strategy.start(grid, first, num_rounds=4, evaluate_fn=lesions.measure)
    scores = [one["dice"] for one in result.evaluate_metrics_serverapp.values()]
    assert scores[0] < 0.3 and max(scores) > 0.4


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
def test_a_hospitals_own_scans_are_read_one_folder_a_patient(lesions, tmp_path: Path) -> None:
    import nibabel

    generator = np.random.default_rng(0)
    for name, edge in (("bert", 20), ("anna", 32)):
        (folder := tmp_path / "study" / name).mkdir(parents=True)
        scan = generator.normal(size=(edge,) * 3).astype(np.float32)
        for part, values in (("scan", scan), ("lesion", (scan > 1).astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{part}.nii.gz")
    config = {"data-path": str(tmp_path / "study")}
    context = Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})
    found = lesions.load_data(context)
    assert found.named and found.numbers.tolist() == [0, 1]
    assert found.inputs.shape == found.targets.shape == (2, 1, *(lesions.EDGE,) * 3)
    assert set(np.unique(found.targets)) == {0.0, 1.0}


@pytest.mark.exhaustive
def test_the_notebook_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]), names)
    table, said = names["table"], capsys.readouterr().out
    assert table["FSCDP"]["server"] == pytest.approx(2.0, rel=0.01)
    assert table["F"]["server"] is None and "no guarantee" in said
    assert table["FPDP"]["server"] <= table["FSCDP"]["server"]
    assert names["noise"][400] < 4.0 * names["noise"][25]


@pytest.mark.exhaustive
def test_hospitals_on_two_ray_nodes_end_in_the_model_of_one(tmp_path: Path) -> None:
    asked = ["default", "--seed", "3", "--set", "training.rounds=2", "--set", "audit.enabled=false"]
    models = []
    for name, command in (
        ("two", [sys.executable, str(ROOT / "examples" / "two-ray-nodes" / "two_nodes.py")]),
        ("one", [sys.executable, "-m", "simulations.cli", "run"]),
    ):
        done = subprocess.run(
            [*command, *asked, "--quiet", "--out", str(tmp_path / name)],
            capture_output=True, text=True, env=environment(), timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        models.append((run_folder(tmp_path / name) / "model.safetensors").read_bytes())
    assert models[0] == models[1]


@pytest.mark.exhaustive
def test_the_example_of_ones_own_runs_under_flwr_run(tmp_path: Path) -> None:
    said = run_app(OWN, tmp_path, "--run-config", "num-server-rounds=3")
    assert re.search(r"error \d+\.\d", said), said[-6000:]


@pytest.mark.parametrize(
    "supernodes",
    [
        pytest.param(0, marks=pytest.mark.exhaustive, id="simulated"),
        pytest.param(2, marks=pytest.mark.deployment, id="supernodes"),
    ],
)
def test_the_private_quickstart_runs_under_flwr_run(tmp_path: Path, supernodes: int) -> None:
    rounds = ["--run-config", "num-server-rounds=3"]
    said = run_app(QUICKSTART / "private", tmp_path, *rounds, supernodes=supernodes)
    assert re.search(r"accuracy 0\.\d+", said), said[-6000:]
    assert re.search(r"server: \{.*'prv': 2\.9", said), said[-6000:]
