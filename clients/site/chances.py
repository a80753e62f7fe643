"""What chance decides at a hospital: who is sampled at a place, and the noise of what leaves it.

Streams of a seeded run do not depend on the attempt: a run that is resumed repeats a place to the
bit. Nothing here knows a record; patients are numbers. An audit draws its canaries by the same
functions as a hospital its patients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from accounting.events import ExactEvent
from accounting.noising import draw_ahead
from accounting.parts import Seeds
from accounting.private import Private
from accounting.randomness import Stream
from accounting.release import exact, noised
from crypto.schemes import make_sealer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from accounting.grid import GridPlan
    from accounting.lines import Place
    from accounting.receipts import Receipt, Use
    from clients.contract.settings import Settings
    from clients.contract.terms import Terms
    from crypto import roles
    from crypto.keys import Keys


class Released(NamedTuple):
    """A value as it may leave.

    Attributes:
        vector: float64 ``[d]``, gradient units.
        use: what paid for it.
        seeds: of those parts of its noise that may be taken out of a sum of all.
    """

    vector: NDArray[np.float64]
    use: Use
    seeds: Seeds


class Chances:
    """One hospital's randomness in one training.

    Args:
        name: the hospital's.
        settings: the run's.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings

    def stream(self, place: Place, purpose: str, step: int = 0) -> Stream:
        """Return the random stream of one purpose in one step at a place of this hospital."""
        if not self._settings.seeded:
            return Stream.fresh()
        labels = (self._name, str(place.round), "1", purpose)
        return Stream.from_seed(self._settings.run.seed, *labels, *([str(step)] if step else []))

    def sampled(
        self, patients: NDArray[np.int64], place: Place, step: int = 0
    ) -> NDArray[np.int64]:
        """Return those of a hospital's patients who are in a batch: each with probability q."""
        stream = self.stream(place, "sampling", step)
        return patients[stream.bernoulli(len(patients), self._settings.training.sampling_rate)]

    def noise_ahead(self, grid: GridPlan, place: Place, count: int) -> Stream:
        """Draw the noise of a place's first sum before the sum is there; returns where it is.

        It is for one sum, as what a stream has given comes never again.

        Args:
            grid: on which the sum is noised.
            place: where in the training.
            count: values of the sum.
        """
        stream = self.stream(place, "noise")
        draw_ahead(grid, stream, count)
        return stream

    def noised_sum(
        self,
        total: NDArray[np.float64],
        grid: GridPlan,
        place: Place,
        receipt: Receipt,
        step: int = 0,
        drawn: Stream | None = None,
    ) -> Released:
        """Return a sum of clipped contributions as it may leave.

        Args:
            total: float64 ``[d]``, gradient units.
            grid: on which it is noised.
            place: where in the training.
            receipt: covers the place.
            step: of the place, from 0.
            drawn: where its noise was drawn ahead; None: it was not.
        """
        use = receipt.use(place.round, step + 1)
        return self.released(Private(total), grid, place, "noise", use, step, drawn)

    def released(
        self,
        value: Private[NDArray[np.float64]],
        grid: GridPlan,
        place: Place,
        purpose: str,
        use: Use,
        step: int = 0,
        drawn: Stream | None = None,
    ) -> Released:
        """Return a value with this hospital's noise on the grid; exact where that was paid for."""
        if isinstance(use.event, ExactEvent):
            return Released(exact(value, use, grid).vector, use, Seeds(()))
        stream = self.stream(place, purpose, step) if drawn is None else drawn
        made = noised(value, grid, stream, use)
        return Released(made.vector, use, made.seeds)


def prepared_sealing(
    terms: Terms, keys: Keys, hospital: str, place: roles.Place, *, ahead: bool = False
) -> roles.OneSealing:
    """Do what sealing a contribution takes before it is there.

    Args:
        terms: of the training.
        keys: the hospital's.
        hospital: its name.
        place: where in the training.
        ahead: whether there is time until it comes.
    """
    return make_sealer(terms.sealing, keys, hospital).prepare(place, ahead=ahead)


def sealed_contribution(
    update: NDArray[np.float64], prepared: roles.OneSealing, seeds: Sequence[Seeds] = ()
) -> roles.Sealed:
    """Seal what a hospital contributes to a sum, float64 ``[d]`` on the grid, for one place.

    Args:
        update: what it contributes.
        prepared: for its place; spent after this, whatever happens.
        seeds: of the noise in it, so far as it may be taken out of the sum.
    """
    return prepared.seal(update, [seed for one in seeds for seed in one.each])
