"""What a run leaves behind to predict with: the released model, and its last releases together.

Members are released models alone, each paid for when it was released; putting them together is
post-processing. Nothing else of a training is at hand here: iterates between releases stay at the
hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from strategies.run.folder import RunFolder
    from strategies.teaching import TrainingContext

#: Between a hospital's name and a tensor's in the released file of an ensemble.
SEPARATOR = "/"
#: Member of a file that holds one model.
MODEL = "model"
#: Files: the model as it was released last; the last releases as an ensemble; their figures.
PREDICTOR, ITERATES, DOUBT = "predictor.safetensors", "iterates.safetensors", "doubt.json"

Members = dict[str, Mapping[str, "torch.Tensor"]]


def keep_predictors(folder: RunFolder, context: TrainingContext) -> None:
    """Write the files that predict, where a model was released.

    Args:
        folder: of the run.
        context: what the server has.
    """
    from safetensors.torch import load

    state, settings = context.state, context.settings
    if not (state.model and context.holdout.predicts):
        return
    about = {
        "training": context.training,
        "scenario": settings.run.scenario,
        "rounds": state.released,
        "regime": settings.privacy.regime,
        "exchange": settings.exchange.name,
    }
    parts = {PREDICTOR: (_decided(state.model), settings.exchange.vote)}
    iterates = {
        f"round-{number:06d}": load(model)
        for number, model in context.journal.read_releases().items()
    }
    if len(iterates) > 1:
        parts[ITERATES] = (dict(iterates), "probabilities")
    figures = {}
    for name, (members, vote) in parts.items():
        content, found = context.holdout.predictor(members, vote, about)
        folder.write_bytes(name, content)
        if found:
            figures[name.removesuffix(".safetensors")] = {"members": list(members), **found}
    if figures:  # doubt is of chances of one class of several
        folder.write_json(DOUBT, figures)


def _decided(model: Mapping[str, torch.Tensor]) -> Members:
    """Return the models that the last release consists of: one, or an ensemble's."""
    members: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in model.items():
        member, separator, own = name.rpartition(SEPARATOR)
        members.setdefault(member if separator else MODEL, {})[own] = tensor
    return dict(members)
