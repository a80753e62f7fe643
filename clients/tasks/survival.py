"""Time until an event that not everybody is followed up to: a hazard in each of a few intervals.

Cox's partial likelihood, the usual way, is no sum over patients. Each event is compared with all
who are still at risk then, so a patient stands in the terms of others: taking one away changes what
every earlier event contributes, there is no gradient of that patient alone, and no clip bounds it.
In a mini-batch it would even be another likelihood for every batch. A discrete-time hazard is a sum
over patients (Singer and Willett 1993; Gensheimer and Narasimhan 2019, "A scalable discrete-time
survival model for neural networks"): time is cut at declared horizons, a model says for each
interval the chance of the event given that it has not come before, and a record's loss is that of
one coin for each interval that the patient was at risk in.

Who leaves in the middle of an interval counts as having come through it if they were seen for half
of it or more, as in Gensheimer and Narasimhan. An event after the last horizon is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from clients.tasks.multi_label import sigmoid

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from clients.tasks.question import Question
    from clients.tasks.task import Outputs, Targets

    Floats = NDArray[np.float64]

#: Records that are compared with all others at once.
_BLOCK = 512


@dataclass(frozen=True)
class Survival:
    """A logit of the hazard in each interval that ends at a horizon."""

    question: Question
    headline: ClassVar[str] = "concordance"

    @property
    def outputs(self) -> int:
        """A logit for each interval."""
        return len(self.question.horizons)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each record's negative log likelihood, nats."""
        import torch
        from torch.nn import functional

        time, seen = targets[:, :1].to(outputs.dtype), targets[:, 1:] > 0
        ends = torch.tensor(self.question.horizons, dtype=outputs.dtype, device=outputs.device)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        happened = seen & (time > starts) & (time <= ends)
        # An event at time 0 is one of the first interval.
        happened = happened | (seen & (time <= 0) & (starts == 0))
        through = time >= torch.where(seen, ends, (starts + ends) / 2)
        through = through & ~happened
        lived, died = functional.logsigmoid(-outputs), functional.logsigmoid(outputs)
        return -(through * lived + happened * died).sum(dim=1)

    def measures(self, outputs: Outputs, targets: Targets) -> dict[str, float]:
        """Return Harrell's concordance, the Brier score at the horizons (mean), and log loss.

        Brier scores weigh who is seen by the inverse chance of being seen (Graf et al. 1999), by
        the Kaplan-Meier curve of leaving among the same public records.
        """
        if not len(targets):
            return dict.fromkeys(("concordance", "brier", "loss"), math.nan)
        curve, time, seen = self.chances(outputs), _times(targets), targets[:, 1] > 0
        at = [brier_at(curve[:, k], time, seen, h) for k, h in enumerate(self.question.horizons)]
        known = [one for one in at if not math.isnan(one)]
        return {
            "concordance": concordance(-curve.sum(axis=1), time, seen),
            "brier": float(np.mean(known)) if known else math.nan,
            "loss": self._loss(outputs, targets),
        }

    def _loss(self, outputs: Outputs, targets: Targets) -> float:
        import torch

        given = torch.from_numpy(np.array(outputs, dtype=np.float64))
        return float(self.losses(given, torch.from_numpy(np.array(targets))).mean())

    def judged(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return at each horizon what share is said to come through, what share did, and Brier."""
        curve, time, seen = self.chances(outputs), _times(targets), targets[:, 1] > 0
        real, rows = KaplanMeier(time, seen), []
        for number, horizon in enumerate(self.question.horizons):
            rows.append(
                {
                    "name": f"{horizon:g}",
                    "records": int((time >= horizon).sum()),
                    "said": float(curve[:, number].mean()),
                    "seen": real(horizon),
                    "brier": brier_at(curve[:, number], time, seen, horizon),
                }
            )
        return {"rows": rows, "horizons": list(self.question.horizons)}

    def chances(self, outputs: Outputs) -> Floats:
        """Return the chance of coming through each horizon without the event, ``[n, horizons]``."""
        return np.asarray(np.cumprod(1.0 - sigmoid(outputs), axis=1))

    def answers(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Return the chance of no event by each horizon, and the risk that patients rank by."""
        curve = self.chances(outputs)
        said = {"risk": (1.0 - curve.mean(axis=1)).round(6).tolist()}
        return said | {
            f"no event by {horizon:g}": curve[:, k].round(6).tolist()
            for k, horizon in enumerate(self.question.horizons)
        }

    def truths(self, targets: Targets) -> dict[str, list[Any]]:
        """Return the time of each record, and whether the event was seen then."""
        known = np.asarray(np.isfinite(targets).all(axis=1)).tolist()
        times = [float(row[0]) if k else None for row, k in zip(targets, known, strict=True)]
        events = [int(row[1]) if k else None for row, k in zip(targets, known, strict=True)]
        return {"time": times, "event": events}


def _times(targets: Targets) -> Floats:
    return np.asarray(targets[:, 0], dtype=np.float64)


def concordance(risk: Floats, time: Floats, seen: NDArray[np.bool_]) -> float:
    """Return the share of pairs whose order is known in which who fell ill first had more risk.

    Harrell et al. (1982): a pair counts where the earlier time is an event's; equal risks count
    half. NaN where there is no such pair.
    """
    pairs = right = 0.0
    for start in range(0, len(time), _BLOCK):
        here = slice(start, start + _BLOCK)
        later = (time[None] > time[here, None]) | ((time[None] == time[here, None]) & ~seen[None])
        counts = later & seen[here, None]
        pairs += float(counts.sum())
        above = (risk[here, None] > risk[None]) + 0.5 * (risk[here, None] == risk[None])
        right += float((above * counts).sum())
    return right / pairs if pairs else math.nan


class KaplanMeier:
    """The share that comes through a time, as Kaplan and Meier (1958) estimate it."""

    def __init__(self, time: Floats, happened: NDArray[np.bool_]) -> None:
        self._times = np.unique(time[happened])
        at_risk = np.array([(time >= one).sum() for one in self._times], dtype=np.float64)
        fell = np.array([(happened & (time == one)).sum() for one in self._times])
        self._curve = np.concatenate([[1.0], np.cumprod(1.0 - fell / np.maximum(at_risk, 1.0))])

    def __call__(self, time: float, *, before: bool = False) -> float:
        """Return the share that comes through a time, or to just before it."""
        place = np.searchsorted(self._times, time, side="left" if before else "right")
        return float(self._curve[int(place)])


def brier_at(chances: Floats, time: Floats, seen: NDArray[np.bool_], horizon: float) -> float:
    """Return the Brier score at a time; NaN where nobody is known to have come so far.

    Args:
        chances: of coming through the horizon.
        time: until the event, or until somebody left.
        seen: whether it was the event.
        horizon: the time.
    """
    stays = KaplanMeier(time, ~seen)
    late = stays(horizon)
    if late <= 0:
        return math.nan
    score = 0.0
    for chance, when, event in zip(chances, time, seen, strict=True):
        if when > horizon:
            score += (1.0 - chance) ** 2 / late
        elif event:
            score += chance**2 / max(stays(float(when), before=True), 1e-12)
    return score / len(time)
