"""Exporting a model: written, read again, compared, and only then kept, with a card beside it.

An export is a folder of its own. It is made beside its place and renamed when it is whole.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.contract.plain_json import json_text
from simulations.prediction.predicting import NotPredicted, PredictionFailed, find_artefact
from simulations.prediction.torchscript import (
    read_torchscript,
    whole_module,
    write_torchscript,
)

if TYPE_CHECKING:
    from clients.prediction.artefact import Artefact
    from clients.prediction.predictor import Predictor
    from strategies.run.reading import RunResult

#: Records that are compared, and how far probabilities may be apart after another program's sums.
COMPARED, TOLERANCE = 64, 1e-4
CARD, CARD_JSON = "README.md", "card.json"

Floats32 = "NDArray[np.float32]"
#: Writes a model into a folder and returns how to predict with what was written.
Write = Callable[["Predictor", Path, dict[str, Any]], Callable[[Any], Any]]


def export(
    name: str,
    form: str,
    out: Path | None,
    *,
    iterates: bool = False,
    intended: str = "",
    allowed: Sequence[str] = (),
) -> Path:
    """Write a model in a form, with its card, and return the folder.

    Args:
        name: a run, or a file that was exported.
        form: a key of `FORMS`.
        out: the folder, which is not there yet; None for one named after the form.
        iterates: whether the run's last releases decide together.
        intended: what the model is meant for, for its card.
        allowed: functions that may be imported to build the model.

    Raises:
        NotPredicted: it cannot be written so, what was written predicts otherwise, or what its run
            promised does not hold.
        ArtefactError, NoRun: there is no such model.
    """
    from clients.prediction.predictor import Predictor, require_classes
    from simulations.prediction.card import card_of, markdown

    if form not in FORMS:
        raise NotPredicted(f"--to {form} is no form; known: {', '.join(FORMS)}")
    artefact = find_artefact(name, iterates=iterates)
    require_classes(artefact)
    run = None if Path(name).is_file() else _sound_run(name)
    place = out or (Path() if run is None else run.path) / f"export-{form}"
    if place.exists():
        raise NotPredicted(f"{place} exists already; move it away, or name another --out")
    if not place.absolute().parent.is_dir():
        raise NotPredicted(f"{place.absolute().parent} is no folder; make it first")
    predictor = Predictor(artefact, allowed)
    card = card_of(artefact, run, intended)
    with _beside(place) as folder:
        read_again = FORMS[form](predictor, folder, card)
        card["check"] = _compared(predictor, read_again, form)
        (folder / CARD).write_text(markdown(card), encoding="utf-8")
        (folder / CARD_JSON).write_text(json_text(card, indent=2) + "\n", encoding="utf-8")
    return place


def _sound_run(name: str) -> RunResult:
    """Return the run of a model.

    Raises:
        NotPredicted: an attack has shown that it does not hold what it promised.
    """
    from strategies.run.reading import find_run, read_run

    run = read_run(find_run(name))
    audit = run.summary.get("audit") or {}
    if audit and not audit.get("passed", True):
        raise NotPredicted(
            f"{run.path}: its audit failed: {audit['failures'][0]}. A model whose promise does not "
            "hold is not exported"
        )
    return run


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Make a folder beside its place; rename it there where all went well."""
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.absolute().parent))
    try:
        yield made
        made.chmod(0o755)
        made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _compared(predictor: Predictor, read_again: Callable[[Any], Any], form: str) -> dict[str, Any]:
    """Hold what was written against the model, on made-up records over the whole public range.

    Raises:
        PredictionFailed: it predicts otherwise.
    """
    import numpy as np

    info = predictor.artefact.info
    low, high = info.input_range
    generator = np.random.default_rng(0)
    records = generator.uniform(low, high, (COMPARED, *info.shape)).astype(np.float32)
    records[0], records[1] = low, high
    found = np.asarray(read_again(records))
    expected = predictor.chances(records)
    apart = float(np.abs(found - expected).max()) if found.shape == expected.shape else 1.0
    if not apart <= TOLERANCE:
        raise PredictionFailed(
            f"{form}: what was written predicts otherwise: probabilities differ by {apart:.3g}, "
            f"at most {TOLERANCE:g} was expected. Nothing was kept"
        )
    return {"format": form, "records": COMPARED, "largest_difference": apart}


def _safetensors(predictor: Predictor, folder: Path, card: dict[str, Any]) -> Callable[[Any], Any]:
    from clients.prediction.artefact import read_artefact
    from clients.prediction.predictor import Predictor as Reader

    artefact: Artefact = predictor.artefact
    file = folder / "model.safetensors"
    file.write_bytes(replace(artefact, about={**artefact.about, "card": card}).to_bytes())
    return Reader(read_artefact(file), (artefact.architecture,)).chances


def _torchscript(predictor: Predictor, folder: Path, card: dict[str, Any]) -> Callable[[Any], Any]:
    file = folder / "model.pt"
    write_torchscript(predictor, file)
    return read_torchscript(file)


def _onnx(predictor: Predictor, folder: Path, card: dict[str, Any]) -> Callable[[Any], Any]:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise NotPredicted(f"--to onnx needs {error.name}: pip install 'asclepias[onnx]'") from None
    import torch

    module = whole_module(predictor, real=True)
    example = torch.zeros(2, *predictor.artefact.info.shape)
    file = folder / "model.onnx"
    # Of torchvision's operators, which no model here has; it has a handler of its own.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["records"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if made is None:
        raise PredictionFailed("--to onnx: the exporter wrote nothing")
    made.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda records: session.run(["probabilities"], {"records": records})[0]


def _monai(predictor: Predictor, folder: Path, card: dict[str, Any]) -> Callable[[Any], Any]:
    from simulations.prediction.monai_bundle import write_bundle

    return write_bundle(predictor, folder, card)


FORMS: dict[str, Write] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "torchscript": _torchscript,
    "monai-bundle": _monai,
}
