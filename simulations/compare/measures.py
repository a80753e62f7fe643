"""What ways of training are compared by: a figure of merit on the public holdout.

Accuracy, unless classes are uneven: then whoever says the commonest class of everything would win
it, and balanced accuracy takes its place. Where no classes are learnt it is what the task is judged
by first. A comparison may name any other that its task measures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.tasks.catalogue import imported, name_of, task_of
from simulations.pages.task_words import NAMES

if TYPE_CHECKING:
    from clients.tasks.question import Question

#: Of classes: name in a summary's `metrics` -> as tables call it.
OF_CLASSES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_at_threshold": "balanced accuracy at a threshold",
    "kappa": "kappa",
    "loss": "loss",
    "ece": "calibration error",
    "brier": "Brier score",
}
#: Of all tasks.
MEASURES = {**OF_CLASSES, **NAMES}
#: Of which less is better.
LESS = frozenset({"loss", "ece", "brier", "mae", "rmse"})
#: Those that are no shares of anything -> their unit.
UNITS = {
    **{"loss": "", "kappa": "", "r2": ""},
    **dict.fromkeys(("mae", "rmse"), " (in the target's unit)"),
}
#: Fewest seeds of a difference that is called clear: over two, an interval says nothing but luck.
LEAST_CLEAR = 3


def default_measure(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Return what trainings are compared by where nobody says it, from their summaries."""
    told = list(summaries)
    for one in told:
        if "task" in one:  # its own task's figure may be one that nobody here knows
            return str(one["headline"]) if one["headline"] in MEASURES else "loss"
    uneven = any((one.get("merit") or {}).get("uneven") for one in told)
    return "balanced_accuracy" if uneven else "accuracy"


def first_figure(summary: Mapping[str, Any]) -> float | None:
    """Return what a training is judged by first; None where it measured no model."""
    if "task" not in summary:
        return summary.get("accuracy")
    metrics = summary.get("metrics") or {}
    found: float | None = metrics.get(summary["headline"], metrics.get("loss"))
    return found


def measure_fault(question: Question, measure: str) -> str:
    """Return why trainings cannot be compared by a measure; "" where nothing known is against it.

    Args:
        question: what is learnt.
        measure: a figure's name; "" for the default.
    """
    if not measure or imported(name_of(question)):
        return ""  # what somebody's own task measures shows when it has measured
    known = set(OF_CLASSES)
    if not question.of_classes:
        task = task_of(question)
        nobody = np.zeros((0, task.outputs, *question.space)), np.zeros((0, *question.shape))
        known = set(task.measures(*nobody))
    if measure in known:
        return ""
    listed = ", ".join(name for name in MEASURES if name in known)
    return f"measure {measure}: the task {name_of(question)} has none such, but {listed}"


def measure_of(content: Mapping[str, Any]) -> str:
    """Return what a comparison compares by; files of before do not say."""
    return str(content.get("measure", "accuracy"))


def figure_of(row: Mapping[str, Any], measure: str) -> Mapping[str, Any] | None:
    """Return a figure of a row of a comparison: its mean, interval and values."""
    found = row.get(measure) or (row.get("figures") or {}).get(measure)
    return found or None


def goodness(value: float, measure: str) -> float:
    """Return a figure so that more is better."""
    return -value if measure in LESS else value


def is_clear(difference: Mapping[str, Any]) -> bool:
    """Whether a mean difference is clear: of enough seeds, and its interval excludes 0."""
    low, high = difference["low"], difference["high"]
    return low is not None and difference["count"] >= LEAST_CLEAR and (low > 0 or high < 0)
