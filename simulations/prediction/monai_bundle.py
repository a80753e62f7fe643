"""A model as a MONAI bundle: weights, configs and card in the folders that MONAI looks in.

The network is TorchScript, so a bundle runs where this app is not installed. What is read from a
file goes through the very steps that training used, written into the config.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulations.prediction.predicting import NotPredicted

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo
    from clients.prediction.predictor import Predictor

NETWORK = "models/model.ts"


def write_bundle(
    predictor: Predictor, folder: Path, card: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """Write a bundle and return how it predicts, as MONAI's own parser builds it.

    Raises:
        NotPredicted: the model is not for pictures or volumes.
    """
    from simulations.prediction.card import markdown
    from simulations.prediction.torchscript import write_torchscript

    info = predictor.artefact.info
    if info.kind not in ("image", "volume") or info.input_range != (0.0, 1.0):
        raise NotPredicted(
            f"--to monai-bundle is for pictures and volumes; the model is of {info.kind} data"
        )
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir()
    write_torchscript(predictor, folder / NETWORK)
    _write(folder / "configs" / "metadata.json", _metadata(info, card))
    _write(folder / "configs" / "inference.json", _inference(info))
    (folder / "docs" / "README.md").write_text(markdown(card), encoding="utf-8")
    return _read(folder)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> Callable[[Any], Any]:
    """Return how the bundle in a folder predicts records that are arrays."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(folder)
    with warnings.catch_warnings():
        # What torch announces of TorchScript is no fault of the bundle.
        warnings.simplefilter("ignore")
        network = parser.get_parsed_content("network_def")

    def run(records: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(records)).numpy()

    return run


def _metadata(info: DatasetInfo, card: Mapping[str, Any]) -> dict[str, Any]:
    import monai
    import numpy as np
    import torch

    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": "exported"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "name": f"{card['model']['architecture']} for {info.title}",
        "task": f"{info.task} classification",
        "description": "Trained by hospitals together, with a stated privacy guarantee.",
        "authors": "the hospitals of its training",
        "copyright": "see docs/README.md",
        "data_source": info.source or info.name,
        "data_type": info.kind,
        "intended_use": card["intended_use"],
        "network_data_format": _format(info),
    }


def _format(info: DatasetInfo) -> dict[str, Any]:
    """Return what goes into the network, and what comes out."""
    channels, *space = info.shape
    classes = {str(number): name for number, name in enumerate(info.classes)}
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "magnitude",
                "num_channels": channels,
                "spatial_shape": space,
                "dtype": "float32",
                "value_range": list(info.input_range),
                "is_patch_data": False,
                "channel_def": {str(number): f"channel {number}" for number in range(channels)},
            }
        },
        "outputs": {
            "pred": {
                "type": "probabilities",
                "format": "classes",
                "num_channels": len(info.classes),
                "spatial_shape": [],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": classes,
            }
        },
    }


def _inference(info: DatasetInfo) -> dict[str, Any]:
    """Return the config that predicts the pictures of a folder."""
    return {
        "imports": [
            "$import glob",
            "$import io",
            "$import json",
            "$import numpy",
            "$import pathlib",
            "$import PIL.Image as Image",
            "$import PIL.ImageOps as ImageOps",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/pictures'",
        "output": "$@bundle_root + '/predictions.json'",
        "files": "$sorted(glob.glob(@dataset_dir + '/*'))",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": f"$@bundle_root + '/{NETWORK}'",
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Lambdad", "keys": "image", "func": _reading(info)},
                {"_target_": "ToTensord", "keys": "image"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': one} for one in @files]",
            "transform": "@preprocessing",
        },
        # Of the config a comprehension sees what it goes through, and no more.
        "predictions": "${one: network(row['image'][None])[0].tolist() "
        "for one, row, network in zip(@files, @dataset, [@network_def] * len(@files))}",
        "run": ["$open(@output, 'w').write(json.dumps(@predictions, indent=2))"],
    }


def _reading(info: DatasetInfo) -> str:
    """Return the expression that reads a file as training did."""
    if info.kind == "volume":
        return "$lambda file: numpy.load(file).astype('float32')"
    size = info.shape[1:][::-1]
    mode, order = ("L", "[None]") if info.shape[0] == 1 else ("RGB", ".transpose(2, 0, 1)")
    drafted = tuple(2 * side for side in size)
    resized = f"convert({mode!r}).resize({tuple(size)}, Image.Resampling.BOX, reducing_gap=None)"
    return (
        f"$lambda file: (lambda picture: (picture.draft({mode!r}, {drafted}), "
        f"numpy.asarray(ImageOps.exif_transpose(picture).{resized}, dtype='float32'){order} / 255"
        ")[1])(Image.open(io.BytesIO(pathlib.Path(file).read_bytes())))"
    )
