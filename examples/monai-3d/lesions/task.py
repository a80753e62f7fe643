"""MONAI's network, loss and readers; nothing here knows of privacy but who is whose volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from asclepias import Patients
from flwr.app import ArrayRecord, Context, MetricRecord
from monai.data.synthetic import create_test_image_3d
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Resized
from numpy.typing import NDArray
from torch import nn

#: Patients who are trained on, and public ones that models are measured on.
TRAINED, PUBLIC = 150, 24
#: Edge of a volume, in voxels.
EDGE = 16

_loss = DiceCELoss(sigmoid=True)


def network() -> nn.Module:
    """Return a small U-Net. Groups of channels are normed: a batch's norm would mix patients."""
    return BasicUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        features=(8, 8, 16, 16, 16, 8),
        norm=("group", {"num_groups": 4}),
        upsample="nontrainable",
    )


def overlap(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How little is found of a lesion: Dice and cross-entropy of one volume."""
    return _loss(outputs, targets)


def load_data(context: Context) -> Patients:
    """Return this hospital's own patients.

    A node that says where its files are (`data-path` in its node config) reads these: a folder for
    each patient, with `scan.nii.gz` and `lesion.nii.gz`. A simulated one has made volumes.
    """
    if path := context.node_config.get("data-path"):
        return _read(Path(str(path)))
    number = int(context.node_config["partition-id"])
    hospitals = int(context.node_config["num-partitions"])
    own = range(number, TRAINED, hospitals)
    return Patients(*_made(own), patients=[f"patient-{one}" for one in own])


def _read(folder: Path) -> Patients:
    keys = ("scan", "lesion")
    read = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS", labels=None),
            Resized(keys, (EDGE,) * 3, mode=("trilinear", "nearest")),
        ]
    )
    patients = sorted(one for one in folder.iterdir() if one.is_dir())
    found = [read({key: one / f"{key}.nii.gz" for key in keys}) for one in patients]
    scans = np.stack([one["scan"].numpy() for one in found])
    lesions = np.stack([one["lesion"].numpy() > 0.5 for one in found])
    return Patients(scans, lesions.astype(np.float32), patients=[one.name for one in patients])


def measure(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure a model on public volumes: the mean Dice score, 1 where each lesion is met."""
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    scans, lesions = _made(range(TRAINED, TRAINED + PUBLIC))
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(scans)) > 0.0
    score = DiceMetric()
    score(y_pred=found, y=torch.from_numpy(lesions))
    return MetricRecord({"dice": float(score.aggregate())})


def _made(numbers: range) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return volumes with bright balls in noise, and where these are, [n, 1, edge, edge, edge]."""
    pairs = [
        create_test_image_3d(
            EDGE, EDGE, EDGE,
            num_objs=2, rad_min=3, rad_max=6, noise_max=0.4, num_seg_classes=1,
            random_state=np.random.RandomState(number),
        )
        for number in numbers
    ]  # fmt: skip
    scans, lesions = (
        np.stack(part)[:, None].astype(np.float32) for part in zip(*pairs, strict=True)
    )
    return scans, lesions
