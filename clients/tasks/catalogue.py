"""The table of tasks, and how one's own is named: ``task.name = "package.module:name"``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from clients.tasks.classification import Classification, Ordinal
from clients.tasks.multi_label import MultiLabel
from clients.tasks.own import Own
from clients.tasks.question import (
    MULTI_LABEL,
    OF_CLASSES,
    REGRESSION,
    SEGMENTATION,
    SURVIVAL,
    Question,
)
from clients.tasks.regression import Regression
from clients.tasks.segmentation import Segmentation
from clients.tasks.survival import Survival

if TYPE_CHECKING:
    from torch import nn

    from clients.tasks.task import Outputs, Task

#: Name -> the kinds of targets that it is for, and how it is made of a question.
TASKS: Mapping[str, tuple[tuple[str, ...], Callable[[Question], Task]]] = {
    "classification": (OF_CLASSES, Classification),
    "ordinal": (("ordinal",), Ordinal),
    MULTI_LABEL: ((MULTI_LABEL,), MultiLabel),
    REGRESSION: ((REGRESSION,), Regression),
    SURVIVAL: ((SURVIVAL,), Survival),
    SEGMENTATION: ((SEGMENTATION,), Segmentation),
}

#: Names of what the built-in tasks measure.
MEASURES = frozenset(
    {
        *("accuracy", "balanced_accuracy", "auc", "loss", "kappa"),
        *("macro_auc", "macro_average_precision", "brier"),
        *("mae", "rmse", "r2"),
        "concordance",
        *("dice", "pixel_accuracy"),
    }
)


class TaskError(ValueError):
    """A task that there is not, or that does not suit the targets; the message says what would."""


def name_of(question: Question) -> str:
    """Return the name of the task that a question is learnt by."""
    if question.asked:
        return question.asked
    return "classification" if question.kind in OF_CLASSES else question.kind


def imported(name: str) -> str:
    """Return the function that a task's name makes a process import; "" for what is built in."""
    return name if ":" in name else ""


def task_of(question: Question) -> Task:
    """Return how a question is learnt; one's own is imported.

    Raises:
        TaskError: the name is not known, or the task is for other targets.
    """
    name = name_of(question)
    if imported(name):
        return cast("Task", Own(question, _loaded(name)))
    check_suits(question)
    return TASKS[name][1](question)


def check_suits(question: Question) -> None:
    """Insist that there is such a task, and that it is for these targets; nothing is imported.

    Raises:
        TaskError: not so.
    """
    name = name_of(question)
    if imported(name):
        return
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TaskError(
            f"unknown task {name!r}{hint} Known: {', '.join(TASKS)}, package.module:name"
        )
    kinds = TASKS[name][0]
    if question.kind not in kinds:
        more = "; declare ordinal = true beside the data" if name == "ordinal" else ""
        raise TaskError(
            f"task.name = {name!r} is for {' or '.join(kinds)} targets; these are "
            f"{question.kind}{more}"
        )


def linked(question: Question, module: nn.Module) -> nn.Module:
    """Return a model with what its task puts behind it, if anything."""
    task = task_of(question)
    return task.linked(module) if isinstance(task, Ordinal) else module


def together(each: Sequence[Outputs]) -> Outputs:
    """Return what several models say together: the mean of their outputs."""
    return np.asarray(np.mean([np.asarray(one) for one in each], axis=0))


def _loaded(name: str) -> Callable[[Question], object]:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(
            f"task.name = {name!r}: cannot be imported ({error}). Python has to find its module: "
            "install it, or set PYTHONPATH to its folder"
        ) from error
    if not callable(found):
        raise TaskError(f"task.name = {name!r} is no class or function of a Question")
    return cast("Callable[[Question], object]", found)
