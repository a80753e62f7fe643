"""One class of several: cross-entropy of the class that a record has."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from clients.tasks.evaluation import confusion, evaluate, probabilities

if TYPE_CHECKING:
    import torch
    from torch import nn

    from clients.tasks.question import Question
    from clients.tasks.task import Outputs, Targets


@dataclass(frozen=True)
class Classification:
    """Multinomial likelihood: a record's loss is the negative log chance of its class, in nats."""

    question: Question
    headline: ClassVar[str] = "accuracy"

    @property
    def outputs(self) -> int:
        """A logit for each class."""
        return len(self.question.names)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each record's cross-entropy."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets, reduction="none")

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return accuracy, balanced accuracy, AUC, log loss and, of grades, quadratic kappa."""
        return evaluate(outputs, targets, ordinal=self.question.kind == "ordinal")

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return the counts of classes that were taken for each other."""
        return {"confusion": confusion(outputs, targets).tolist()}

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the most probable class, and the chance of each."""
        chances, names = probabilities(outputs), self.question.names
        said = {"prediction": [names[k] for k in chances.argmax(axis=1)]}
        return said | {
            f"probability: {name}": chances[:, k].tolist() for k, name in enumerate(names)
        }

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return the class of each record."""
        names = self.question.names
        return {"label": [names[k] if 0 <= k < len(names) else None for k in targets]}


@dataclass(frozen=True)
class Ordinal(Classification):
    """Grades in order, by cumulative links.

    A model says of a record one logit less than there are grades: c_1, and what each later one is
    below the one before it. P(grade >= k) is the logistic function of c_k, and as c_1 > c_2 > ...
    these chances fall in order whatever a model says (McCullagh 1980, "Regression models for
    ordinal data", with thresholds that may shift from record to record). `CumulativeLink` turns
    them into the logarithm of each grade's chance, of which cross-entropy is the likelihood: from
    there on grades are judged, calibrated and predicted as classes are.
    """

    @property
    def outputs(self) -> int:
        """A logit for each step from one grade to the next."""
        return len(self.question.names) - 1

    def linked(self, module: nn.Module) -> nn.Module:
        """Return a model with the link behind it; names of its tensors stay, if it is a chain."""
        from torch import nn

        from clients.tasks.cumulative_link import CumulativeLink

        if isinstance(module, nn.Sequential):
            module.add_module("link", CumulativeLink())
            return module
        return nn.Sequential(OrderedDict(body=module, link=CumulativeLink()))
