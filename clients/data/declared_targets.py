"""What a declaration says of its targets: which kind they are, and what of them cannot be so."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field

from clients.data.declared_parts import Part, Pictures, PublicRange, Texts
from clients.tasks.question import MULTI_LABEL, OF_CLASSES, REGRESSION, SEGMENTATION, SURVIVAL


class DeclaredTargets(Part):
    """The part of a declaration that says what there is to learn."""

    target: str = Field(default="", description="of a table: the column that holds the label")
    classes: Texts = Field(
        default=(), description="the labels, in order; the same at every hospital"
    )
    ordinal: bool = Field(
        default=False, description="classes are grades, judged by quadratic kappa too"
    )
    label_separator: Literal["", "|", ";", ",", "/", "+"] = Field(
        default="",
        description="cells hold several labels, joined by this: a row is of the second class if it "
        "is among them, of the first if not; with labels each is one of them, or nothing",
    )
    labels: Texts = Field(
        default=(),
        description="names of labels of which several can hold: a column of 1 and 0 each, or those "
        "of a target with label-separator",
    )
    target_range: PublicRange | None = Field(
        default=None,
        description="[lowest, highest] of a measurement to be predicted; it is clipped to them",
    )
    event: str = Field(
        default="",
        description="of a table with horizons: the column that says whether the event was seen at "
        "the time in target: 0 and 1, or the two classes",
    )
    horizons: tuple[float, ...] = Field(
        default=(),
        description="of a time to an event: times that it is looked for by, ascending, in the unit "
        "of the target",
    )
    pictures: Pictures = Field(default=Pictures(), description="what pictures are like")

    @property
    def task(self) -> str:
        """The kind of the targets, as data sets have it."""
        if self.labels:
            return MULTI_LABEL
        if self.target_range is not None:
            return REGRESSION
        if self.horizons:
            return SURVIVAL
        if self.pictures.masks:
            return SEGMENTATION
        if self.ordinal:
            return "ordinal"
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels or classes; of events what stands for none and for one."""
        return self.labels or self.classes

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value of a measurement that is predicted; 0 and 1 of other targets."""
        found = self.target_range
        return (0.0, 1.0) if found is None else (found.low, found.high)

    def asked(self) -> dict[str, Any]:
        """Return what a data set's facts say of its targets, by the names of their fields."""
        return {
            "task": self.task,
            "classes": self.names,
            "target_range": self.span,
            "horizons": self.horizons,
        }

    @property
    def declares_targets(self) -> bool:
        """Whether it says what there is to learn."""
        return bool(self.names or self.target_range is not None or self.horizons)

    @property
    def target_columns(self) -> tuple[str, ...]:
        """The columns of a table that hold the target."""
        if self.labels and not self.label_separator:
            return self.labels
        return tuple(one for one in (self.target, self.event if self.horizons else "") if one)

    def target_faults(self) -> list[str]:
        """Return what is not sound, a sentence each."""
        kinds = {
            "labels": bool(self.labels),
            "target-range": self.target_range is not None,
            "horizons": bool(self.horizons),
            "[pictures] masks": bool(self.pictures.masks),
        }
        said = [key for key, one in kinds.items() if one]
        if len(said) > 1:
            return [f"{' and '.join(said)}: each is another kind of target; leave one of them"]
        return [*self._name_faults(), *self._range_faults(), *self._time_faults()]

    def _range_faults(self) -> list[str]:
        found = []
        if self.target_range is not None and self.classes:
            found.append("target-range and classes: a measurement has none; leave one of them")
        if self.target_range is not None and self.target_range.origin is not None:
            found.append("target-range holds dates, expected two numbers")
        values = self.pictures.mask_values
        if values and len(values) != len(self.classes):
            found.append("[pictures] mask-values: expected a value for each class, in their order")
        return found

    def _time_faults(self) -> list[str]:
        found = []
        if not all(math.isfinite(b) and a < b for a, b in pairwise((0.0, *self.horizons))):
            found.append(f"horizons = {list(self.horizons)}, expected times above 0, ascending")
        if self.event and not self.horizons:
            found.append("event goes with horizons, the times that an event is looked for by")
        if self.horizons and self.classes and len(self.classes) != 2:
            found.append(
                f"classes = {list(self.classes)}: of times to an event they are what the column of "
                'events holds, what is no event first, as in classes = ["alive", "dead"]'
            )
        return found

    def _name_faults(self) -> list[str]:
        if self.labels:
            if self.classes or self.ordinal:
                return ["labels and classes: of labels several can hold; leave one of them"]
            return [f"labels names {one!r} twice: take one out" for one in twice(self.labels)]
        if not self.classes:
            return []
        found = [f"classes names {one!r} twice: take one out" for one in twice(self.classes)]
        if len(self.classes) < 2:
            found.append(
                f"classes = {list(self.classes)}, expected two or more different names, such as "
                'classes = ["healthy", "ill"]'
            )
        if self.label_separator and not self.labels and len(self.classes) != 2:
            found.append(
                f"label-separator goes with two classes, found {len(self.classes)}: the second is "
                "the label that is looked for, the first stands for all others"
            )
        return found

    def said_of_targets(self) -> dict[str, str]:
        """Return what all hospitals must agree on, key -> value as TOML spells it."""
        said: dict[str, str] = {}
        if self.classes or self.task in OF_CLASSES:
            said["classes"] = listed(self.classes)
        if self.ordinal:
            said["ordinal"] = "true"
        if self.label_separator:
            said["label-separator"] = repr(self.label_separator)
        if self.labels:
            said["labels"] = listed(self.labels)
        if self.target_range is not None:
            said["target-range"] = str(self.target_range)
        if self.horizons:
            said["horizons"] = json.dumps(list(self.horizons))
        if self.event:
            said["event"] = listed((self.event,))[1:-1]
        return said


def listed(names: tuple[str, ...]) -> str:
    """Return names as TOML lists them."""
    return json.dumps(list(names), ensure_ascii=False)


def twice(names: tuple[str, ...]) -> list[str]:
    """Return the names that come twice; as in cells, case and blanks do not matter."""
    seen: set[str] = set()
    found = []
    for name in names:
        folded = " ".join(name.split()).casefold()
        if folded in seen:
            found.append(name)
        seen.add(folded)
    return found
