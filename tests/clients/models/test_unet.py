"""The U-Net: a class for each pixel, of each record alone, with gradients by record."""

from __future__ import annotations

import pytest
import torch

from clients.contract.settings import Settings
from clients.data import DatasetInfo
from clients.learning.batch import Batch
from clients.learning.dp_sgd import clipped_gradient_sum
from clients.learning.per_sample import PerSample
from clients.learning.row_check import check_rows
from clients.learning.task_loss import loss_of
from clients.models import ModelError, build_model
from clients.models.readiness import check_private_ready
from tests.patient_sums import one_by_one


def info(shape: tuple[int, ...], task: str = "segmentation") -> DatasetInfo:
    return DatasetInfo(
        name="made",
        title="made",
        task=task,
        shape=shape,
        classes=("rest", "a", "b"),
        kind="image" if len(shape) == 3 else "volume",
        input_range=(0.0, 1.0),
    )


def unet_of(shape: tuple[int, ...]) -> torch.nn.Module:
    return build_model(Settings.from_config({"model.name": "unet"}), info(shape), 1)


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 16, 16), (1, 6, 5, 8)])
def test_each_pixel_has_its_outputs_whatever_the_size(shape: tuple[int, ...]) -> None:
    found = unet_of(shape)(torch.rand(2, *shape))
    assert found.shape == (2, 3, *shape[1:])


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 6, 6)])
def test_unet_treats_each_record_alone(shape: tuple[int, ...]) -> None:
    module = unet_of(shape)
    check_private_ready(module, info(shape))
    check_rows(module, info(shape), shape)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 6, 6)])
def test_clipped_sum_of_masks_is_that_of_patients_one_by_one(shape: tuple[int, ...]) -> None:
    module, loss = unet_of(shape), loss_of(info(shape))
    torch.manual_seed(2)
    inputs, masks = torch.rand(5, *shape), torch.randint(0, 3, (5, *shape[1:]))
    patients = torch.tensor([0, 0, 1, 2, 2])
    batch = Batch(inputs=inputs, labels=masks, patients=patients)
    found = clipped_gradient_sum(PerSample(module, loss=loss), batch, l2_clip=0.5)
    assert loss is not None
    total = one_by_one(module, loss, batch, l2_clip=0.5)
    torch.testing.assert_close(torch.from_numpy(found.total), total, rtol=1e-3, atol=1e-5)


def test_model_that_says_one_thing_of_a_picture_is_refused_for_masks() -> None:
    settings = Settings.from_config({"model.name": "cnn"})
    with pytest.raises(ModelError, match=r"set model\.name to unet"):
        build_model(settings, info((1, 16, 16)), 1)
    settings = Settings.from_config({"model.name": "unet"})
    with pytest.raises(ModelError, match="asks of the whole"):
        build_model(settings, info((1, 16, 16), "multiclass"), 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.augmentations", 2),
        ("training.class-shares", "0.5,0.3,0.2"),
    ],
)
def test_what_goes_with_classes_alone_is_refused_for_masks(key: str, value: object) -> None:
    settings = Settings.from_config({"model.name": "unet", key: value})
    with pytest.raises(ModelError, match=f"{key}.*not for the task 'segmentation'"):
        build_model(settings, info((1, 16, 16)), 1)
