"""What ways of training are compared by: a figure of merit on the public holdout.

Accuracy, unless classes are uneven: then whoever says the commonest class of everything would win
it, and balanced accuracy takes its place. A comparison may name any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Name in a summary's `metrics` -> as tables call it.
MEASURES = {
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
#: Of which less is better.
LESS = frozenset({"loss", "ece", "brier"})
#: Fewest seeds of a difference that is called clear: over two, an interval says nothing but luck.
LEAST_CLEAR = 3


def default_measure(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Return what trainings are compared by where nobody says it, from their summaries."""
    uneven = any((one.get("merit") or {}).get("uneven") for one in summaries)
    return "balanced_accuracy" if uneven else "accuracy"


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
