"""A model that predicts: built from its artefact, checked, and run on records as they were read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.contract.model_settings import PRETRAINED, Model
from clients.data.records import Inputs, Records
from clients.learning.votes import decide_together
from clients.models.architecture import Architecture
from clients.models.catalogue import MODELS, architecture_of, imports
from clients.models.errors import ModelError
from clients.models.pretrained import Backbone, Pretrained
from clients.prediction.artefact import Artefact, ArtefactError
from clients.tasks.catalogue import imported, name_of, together
from clients.tasks.evaluation import probabilities

#: Records that are judged at once.
CHUNK_RECORDS = 256


class Predictor:
    """The models of an artefact, ready to predict.

    Args:
        artefact: the model.
        allowed: functions "package.module:function" that may be imported for an architecture that
            is not in the table of models. A file that names another is refused: to import it would
            be to run what the file's writer chose.

    Raises:
        ArtefactError: the weights fit no such model, or its function is not allowed.
    """

    def __init__(self, artefact: Artefact, allowed: Sequence[str] = ()) -> None:
        name = artefact.architecture
        needed = imports(name) or name
        built_in = name in MODELS or (name.startswith(PRETRAINED) and not imports(name))
        if not built_in and needed not in allowed:
            raise ArtefactError(
                f"the model is built by {needed}, which is not of this app; --allow {needed} "
                "imports and so runs it: say so only of code that you know"
            )
        if (task := imported(artefact.info.asked)) and task not in allowed:
            raise ArtefactError(
                f"the model was taught by the task {task}, which is not of this app; --allow "
                f"{task} imports and so runs it: say so only of code that you know"
            )
        self.artefact = artefact
        self.architecture = _architecture(artefact)
        self.modules = {member: self._built(member) for member in artefact.members}

    def _built(self, member: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            module = self.architecture.build(self.artefact.info)
        try:
            module.load_state_dict(dict(self.artefact.members[member]))
        except RuntimeError as error:
            said = " ".join(str(error).split())
            raise ArtefactError(f"{member} is no {self.artefact.architecture}: {said}") from None
        return module.eval()

    def prepared(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return inputs [n, *shape] as the model wants them: fixed features if it uses any."""
        nobody = np.arange(len(inputs), dtype=np.int64)
        records = Records(inputs=inputs, labels=np.zeros_like(nobody), patients=nobody)
        made = self.architecture.prepared(self.artefact.info, records, None)
        return np.asarray(made.inputs, dtype=np.float32)

    def each(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Return the logits [n, classes] of each member.

        Args:
            inputs: float32 [n, *shape], as read; none of them NaN.
        """
        starts = range(0, len(inputs), CHUNK_RECORDS)
        return self._each([self.prepared(inputs[one : one + CHUNK_RECORDS]) for one in starts])

    def each_of_prepared(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Return what `each` does, of inputs that are as the model wants them already."""
        starts = range(0, len(inputs), CHUNK_RECORDS)
        return self._each([np.asarray(inputs[one : one + CHUNK_RECORDS]) for one in starts])

    @torch.no_grad()
    def _each(self, prepared: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        chunks = [torch.from_numpy(np.ascontiguousarray(chunk)) for chunk in prepared]
        if not chunks:
            info = self.artefact.info
            values = len(info.classes) if info.question.of_classes else info.outputs
            empty = np.zeros((0, values, *info.question.space), dtype=np.float32)
            return [empty for _ in self.modules]
        return [
            np.asarray(torch.cat([module(chunk) for chunk in chunks]).numpy())
            for module in self.modules.values()
        ]

    def together(self, each: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
        """Return the logits [n, classes] on which all members agree; else their mean outputs."""
        if len(each) == 1:
            return each[0]
        if not self.artefact.info.question.of_classes:
            return together(each)
        return decide_together(each, self.artefact.vote)

    def logits(self, inputs: Inputs) -> NDArray[np.floating]:
        """Return the logits [n, classes] of records [n, *shape]."""
        return self.together(self.each(inputs))

    def chances(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return calibrated probabilities [n, classes] of records [n, *shape].

        Raises:
            ArtefactError: the model does not tell one class of several.
        """
        require_classes(self.artefact)
        return self.artefact.doubt.chances(self.logits(inputs))


def require_classes(artefact: Artefact) -> None:
    """Insist that a model tells one class of several.

    Raises:
        ArtefactError: it answers another question.
    """
    if not artefact.info.question.of_classes:
        raise ArtefactError(
            f"the model is of the task {name_of(artefact.info.question)}; this is for models that "
            "tell one class of several. 'flower-simulation predict' answers all tasks"
        )


def _architecture(artefact: Artefact) -> Architecture:
    """Return what the members are built by; a pretrained net comes from the same file."""
    name = artefact.architecture
    if not name.startswith(PRETRAINED):
        return architecture_of(Model(name=name))
    try:
        made = Pretrained(
            Backbone(name.removeprefix(PRETRAINED), artefact.backbone),
            hidden=artefact.hidden,
            stages=artefact.stages,
            tuned=artefact.tuned_stages,
            side=artefact.side,
        )
    except ModelError as error:
        raise ArtefactError(str(error)) from None
    return made.architecture()


def spread(each: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return how far members are apart, [n]: 0 for a single one.

    It is the standard deviation of the probability that each gives the class they favour together.
    """
    chances = np.stack([probabilities(one) for one in each])
    favoured = chances.mean(axis=0).argmax(axis=1)
    return np.asarray(chances[:, np.arange(chances.shape[1]), favoured].std(axis=0))
