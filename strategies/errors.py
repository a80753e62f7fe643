"""Why a training ends before its last round."""

from __future__ import annotations


class TrainingStopped(Exception):
    """A training cannot go on; everything done so far is saved.

    The message says which hospital, round and log to read. It is built from enumerated codes and
    public names only.
    """


class BudgetExhausted(TrainingStopped):
    """The next attempt would cost more than was promised; it was not made."""
