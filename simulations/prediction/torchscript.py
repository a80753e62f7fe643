"""TorchScript: a model that torch runs by itself, from records to probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulations.prediction.predicting import NotPredicted

if TYPE_CHECKING:
    from clients.prediction.predictor import Predictor


def whole_module(predictor: Predictor, *, real: bool) -> Any:
    """Return a model as one module.

    Raises:
        NotPredicted: its features cannot be written so.
    """
    from clients.prediction.whole_module import WholeModule

    try:
        return WholeModule(predictor, real=real).eval()
    except ValueError as error:
        raise NotPredicted(f"{error}; export it as safetensors") from None


def write_torchscript(predictor: Predictor, file: Path) -> None:
    """Write a model that torch runs by itself, from records to probabilities."""
    import torch

    module = whole_module(predictor, real=False)
    example = torch.zeros(2, *predictor.artefact.info.shape)
    with warnings.catch_warnings(), torch.no_grad():
        # A trace warns of what is constant in it; that the result is right is checked afterwards.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(file))


def read_torchscript(file: Path) -> Callable[[Any], Any]:
    """Return how a written model predicts."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

    def run(records: Any) -> Any:
        with torch.no_grad():
            return module(torch.from_numpy(records)).numpy()

    return run
