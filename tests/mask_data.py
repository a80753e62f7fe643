"""Made-up pictures and volumes with bright discs in noise, and masks of where these are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_DECLARED = """
classes = ["rest", "lesion"]
[ranges]
values = [0, 255]
[pictures]
"""


def discs(
    count: int, side: int, axes: int = 2, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pictures uint8 [n, *side], and masks of 0 and 1."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * axes, indexing="ij"))
    pictures, masks = [], []
    for _ in range(count):
        middle = draw.uniform(0.3, 0.7, axes) * side
        radius = draw.uniform(0.18, 0.3) * side
        away = np.sqrt(((grid - middle.reshape(-1, *[1] * axes)) ** 2).sum(axis=0))
        mask = (away < radius).astype(np.uint8)
        noisy = 90 + 80 * mask + 25 * draw.normal(size=mask.shape)
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
        masks.append(mask)
    return np.stack(pictures), np.stack(masks)


def write_arrays(folder: Path, count: int, side: int, axes: int = 2) -> Path:
    """Write an npz file with masks, and its declaration; return the file."""
    pictures, masks = discs(count, side, axes)
    file = folder / "discs.npz"
    whose = np.array([f"p{k}" for k in range(count)])
    np.savez(file, train_images=pictures, train_masks=masks, train_patient=whose)
    said = _DECLARED.replace("[ranges]\nvalues = [0, 255]\n", "") + 'masks = "masks"\n'
    file.with_suffix(".toml").write_text(said, encoding="utf-8")
    return file


def write_pictures(root: Path, count: int, side: int) -> tuple[NDArray[np.uint8], ...]:
    """Write PNG files of patients, masks of 0 and 255 beside them; return what is in them."""
    from PIL import Image

    pictures, masks = discs(count, side)
    for number in range(count):
        for name, values in (("images", pictures), ("masks", 255 * masks)):
            file = root / name / f"p{number:03d}" / "a.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(values[number]).save(file)
    said = _DECLARED.replace("[ranges]\nvalues = [0, 255]\n", "")
    said += 'layout = "patient"\nmasks = "masks"\nmask-values = [0, 255]\nchannels = 1\n'
    (root / "dataset.toml").write_text(said, encoding="utf-8")
    return pictures, masks


def write_volumes(root: Path, count: int, side: int) -> tuple[NDArray[np.uint8], ...]:
    """Write NIfTI volumes and masks under the same names; return what is in them."""
    import nibabel

    volumes, masks = discs(count, side, 3)
    for number in range(count):
        for name, values in (("images", volumes), ("masks", masks)):
            file = root / name / f"v{number:03d}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values[number], np.diag([1.0, 1.0, 1.0, 1.0])).to_filename(file)
    said = _DECLARED + 'masks = "masks"\nvolumes = true\n'
    (root / "dataset.toml").write_text(said, encoding="utf-8")
    return volumes, masks
