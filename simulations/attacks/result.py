"""What an attack found: rows, a control in which it succeeds, and what theory allows beside it.

Results are kept in ``attacks.json`` of a folder, one for each attack, and are all that tables and
figures are made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scipy.stats import binom

from crypto.whole_file import locked
from simulations.error_messages import NotStarted
from strategies.run.folder import RunFolder

FILE = "attacks.json"
#: Chance at which an attack that did better than theory allows is no luck, over all of its rows.
LUCK = 1e-6
#: Chance at which an attack that did better than a guess at its control may be luck.
GUESSED = 1e-3

#: What every result that is kept has.
_KEPT = {"title", "columns", "rows", "caption", "control", "alarms"}

Row = Mapping[str, Any]


class AttackFailed(Exception):
    """An attack that shows nothing, or more than a guarantee allows; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a result's table.

    Attributes:
        key: of the rows.
        title: for people.
        form: how its values are written.
    """

    key: str
    title: str
    form: Literal["text", "share", "number", "epsilon", "decibel"] = "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Where an attack has to succeed, or else its failures elsewhere say nothing.

    Attributes:
        text: what was attacked and what came of it.
        succeeded: whether it did.
    """

    text: str
    succeeded: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one attack found.

    Attributes:
        attack: its name.
        title: for people.
        columns: of the table.
        rows: by the columns' keys, JSON-ready; a value that is not there is None.
        caption: how to read the table.
        control: where it has to succeed.
        alarms: what is beyond what theory allows, a sentence each.
        drawn: what its figure is made of, JSON-ready.
        facts: what was attacked, in words.
        seed: of all draws.
        seconds: that it took.
    """

    attack: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    caption: str
    control: Control
    alarms: tuple[str, ...] = ()
    drawn: Mapping[str, Any] = field(default_factory=dict)
    facts: str = ""
    seed: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "title": self.title,
            "columns": [{"key": c.key, "title": c.title, "form": c.form} for c in self.columns],
            "rows": [dict(row) for row in self.rows],
            "caption": self.caption,
            "control": {"text": self.control.text, "succeeded": self.control.succeeded},
            "alarms": list(self.alarms),
            "drawn": dict(self.drawn),
            "facts": self.facts,
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
        }

    def require(self) -> None:
        """Insist that the attack says something, and that nothing is beyond what theory allows.

        Raises:
            AttackFailed: its control did not succeed, or a bound does not hold.
        """
        if not self.control.succeeded:
            raise AttackFailed(
                f"{self.attack}: the attack does not work where nothing protects "
                f"({self.control.text}), so its other rows say nothing. Attack a model that can be "
                "attacked, or give it more trials"
            )
        if self.alarms:
            raise AttackFailed(f"{self.attack}: {'; '.join(self.alarms)}")


def keep_result(path: Path, found: Result) -> None:
    """Add a result to a folder's ``attacks.json``, in place of one of the same attack."""
    with locked(path / ".attacks.lock"):
        known = kept_results(path)
        RunFolder(path).write_json(FILE, {**known, found.attack: found.to_json()})


def kept_results(path: Path) -> dict[str, Any]:
    """Return what a folder's ``attacks.json`` holds, by attack.

    Raises:
        NotStarted: it is no such file; asked before an attack, nothing is lost.
    """
    file = path / FILE
    try:
        known = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError:
        known = None
    if isinstance(known, dict) and all(
        isinstance(one, dict) and one.keys() >= _KEPT for one in known.values()
    ):
        return known
    raise NotStarted(f"{file} is damaged: it holds no results of attacks; move it away first.")


def beyond(hits: int, trials: int, allowed: float, *, of: int) -> bool:
    """Whether so many hits of independent trials are more than luck where `allowed` holds.

    Args:
        hits: how many.
        trials: of how many.
        allowed: the largest chance of a hit.
        of: tests that the attack makes; the luckiest of them all is to be no luck.
    """
    return allowed < 1.0 and float(binom.sf(hits - 1, trials, allowed)) < LUCK / of


def guessed(hits: int, trials: int, chance: float) -> bool:
    """Whether so many hits may be those of whoever guesses, right with such a chance."""
    return float(binom.sf(hits - 1, trials, chance)) > GUESSED
