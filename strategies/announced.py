"""A server without records: what an app announced of its hospitals', and its own judge of models.

Whoever writes a Flower app measures released models in a function of their own, on public records.
The server needs no more than the form of the model and the public sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from clients.contract.binding import PublicFacts
from strategies.holdout import Holdout

if TYPE_CHECKING:
    import torch

#: (rounds, tensors by name) -> figures of a released model.
Judge = Callable[[int, Mapping[str, "torch.Tensor"]], dict[str, float]]


class Announced(Holdout):
    """What takes the holdout's place where an app brings its own model and records.

    Args:
        module: the model that the training begins with.
        patients: N, training patients of the federation; public.
        largest_hospital: the most patients of one hospital; public.
        unit: whom a guarantee covers.
        judge: measures released models.
    """

    predicts = False
    #: What an app's judge may call the figure that is shown of each hospital.
    headline = "accuracy"

    def __init__(
        self,
        *,
        module: torch.nn.Module,
        patients: int,
        largest_hospital: int,
        unit: str,
        judge: Judge,
    ) -> None:
        self.patients = patients
        self.largest_hospital = largest_hospital
        self.split = {}
        self._model = module
        self._unit = unit
        self._judge = judge

    @property
    def facts(self) -> PublicFacts:
        """What both ends know of the records."""
        return PublicFacts.own(self._unit)

    @property
    def unit(self) -> str:
        """Whom a guarantee covers: a patient, or a record where no patients are named."""
        return self._unit

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Unknown at the server."""
        return ()

    @property
    def source(self) -> dict[str, object]:
        """The app measures on what it likes; here there are no records."""
        return {"origin": "none", "named": "", "patients": 0, "records": 0}

    def measure(self, tensors: Mapping[str, torch.Tensor], rounds: int = 0) -> dict[str, float]:
        """Return what the app's own judge says of a released model."""
        return self._judge(rounds, tensors)

    def judge(self) -> dict[str, object]:
        """Return nothing: what is measured is the app's business."""
        return {}
