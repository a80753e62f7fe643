"""The scenarios of the field's nets train for a round, private and sealed, on real records."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from clients.data import Cohorts
from simulations.engines.direct_transport import train_here
from simulations.scenario import find_scenario, resolve

DATA = Path(os.environ.get("ASCLEPIAS_DATA", ""))
QUIET = ("tracking.wandb=disabled", "run.log-level=warning", "audit.enabled=false")
#: What makes a round cheap: little of the data, at two hospitals. A pass of a hospital has sixteen
#: records at the least, whatever their number.
SHORT = (
    "training.rounds=1",
    "training.release-every=1",
    "training.sampling-rate=0.01",
    "partition.name=iid",
    "partition.hospitals=2",
)
#: Scenario -> the file that it reads, and how many weights it trains.
NETS = {
    "ward-gru": ("", 3_714),
    "vesselmnist3d-graph": ("vesselmnist3d.npz", 1_426),
    "adrenalmnist3d-graph": ("adrenalmnist3d.npz", 1_426),
    "adrenalmnist3d": ("adrenalmnist3d.npz", 44_226),
    "retinamnist-squeezenet": ("retinamnist.npz", 725_061),
    "chest-xray-squeezenet": ("kermany_cxr_64.npz", 723_522),
    "chest-xray-resnet18": ("kermany_cxr_64.npz", 11_168_706),
    "chest-xray-224-squeezenet": ("chest_xray_sample.tar", 723_522),
    "chest-xray-224-resnet18": ("chest_xray_sample.tar", 11_171_266),
}
QUICK = ("ward-gru",)


def in_a_folder(archive: Path, folder: Path) -> str:
    """Return the folder of the pictures of an archive."""
    with tarfile.open(archive) as held:
        held.extractall(folder, filter="data")
    return str(folder)


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.exhaustive) for one in NETS],
)
def test_net_scenario_trains_private_and_sealed(name: str, tmp_path: Path) -> None:
    file, weights = NETS[name]
    if file and not (DATA / file).is_file():
        pytest.skip(f"needs {file} in $ASCLEPIAS_DATA")
    overrides = {"run.seed": 0, "run.out": str(tmp_path / "run")}
    if file.endswith(".tar"):
        overrides["data.dir"] = in_a_folder(DATA / file, tmp_path / "pictures")
    settings = resolve(find_scenario(name), [*SHORT, *QUIET], overrides)
    train_here(settings, Cohorts())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rounds"], settings.sealing.scheme) == (1, "bfv")
    assert 0 < summary["epsilon"]["prv"] <= settings.privacy.target_epsilon
    assert 0 < summary["metrics"]["loss"] < 10
    model = load_file(tmp_path / "run" / "model.safetensors")
    assert sum(tensor.size for tensor in model.values()) == weights
