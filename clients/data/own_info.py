"""What is public about records that an app brings: their form, and what is taught with them.

No file that predicts is written of them: what they are is in the app's own code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clients.data.records import DatasetInfo

if TYPE_CHECKING:
    from clients.contract.own_task import OwnTask


@dataclass(frozen=True, kw_only=True)
class OwnInfo(DatasetInfo):
    """A data set's public facts, with the model and the loss that an app brings; it has no classes.

    Attributes:
        brought: by the app.
    """

    brought: OwnTask = field(repr=False, compare=False)

    @property
    def own(self) -> OwnTask:
        """What the app brings."""
        return self.brought

    def __post_init__(self) -> None:
        """Hold nothing against it: the app's own code says what a target is."""
