"""How well a score tells who was trained on: the ROC curve, its area, and whether luck explains it.

Area and hits are over all models together; their errors come from leaving out a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from simulations.attacks.result import LUCK, Column, beyond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accounting.attack_limits import Limit

    Matrix = NDArray[np.float64]
    Coins = NDArray[np.bool_]

#: False-alarm rates that are shown, and patients outside of a training below which the second is
#: not: of fewer it would be a handful of people.
RATES, ENOUGH = (0.01, 0.001), 5000
#: Columns of the second rate, of a table whose rows are what `shown` returns.
RARE = (
    Column(key="hits_2_text", title="TPR at 0.1% FPR", form="text"),
    Column(key="most_hits_2", title="Allowed"),
)
#: Models from which on their spread alone tells a standard error.
MANY = 6
#: Standard errors above a limit that no luck explains.
ERRORS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a score tells of coins, over all models.

    Attributes:
        area: under the ROC curve.
        area_error: its standard error, by leaving out a model at a time, or of fewer than `MANY`
            a tenth of one's patients.
        hits: share of those trained on who are called, by false-alarm rate.
        hits_error: standard errors of these.
        curve: (false alarms, hits) at rates a constant factor apart.
        others: patients outside of a training, of that which has the fewest outside.
    """

    area: float
    area_error: float
    hits: tuple[float, ...]
    hits_error: tuple[float, ...]
    curve: tuple[tuple[float, float], ...]
    others: int

    @property
    def rates(self) -> tuple[float, ...]:
        """The false-alarm rates that there are patients enough for."""
        return RATES if self.others >= ENOUGH else RATES[:1]


def measure(scores: Matrix, coins: Coins) -> Measured:
    """Measure scores ``[models, p]``: larger where a patient is thought to be trained on."""
    whole = _figures(scores.ravel(), coins.ravel())
    rows, columns = np.indices(scores.shape)
    # Models are independent draws; of a few, tenths of the patients nearly are.
    group = rows if len(scores) >= MANY else 10 * rows + columns % 10
    groups = np.unique(group)
    left = np.array([_figures(scores[group != one], coins[group != one]) for one in groups])
    spread = np.sqrt((len(groups) - 1) * left.var(axis=0))
    rates = np.geomspace(1.0 / max(int((~coins).sum()), 2), 1.0, 40)
    curve = [(float(r), _hits(scores.ravel(), coins.ravel(), float(r))) for r in rates]
    return Measured(
        area=whole[0],
        area_error=float(spread[0]),
        hits=tuple(whole[1:]),
        hits_error=tuple(float(one) for one in spread[1:]),
        curve=tuple(curve),
        others=int((~coins).sum(axis=1).min()),
    )


def _figures(scores: Matrix, coins: Coins) -> list[float]:
    from sklearn.metrics import roc_auc_score

    area = float(roc_auc_score(coins, scores))
    return [area, *(_hits(scores, coins, rate) for rate in RATES)]


def _hits(scores: Matrix, coins: Coins, rate: float) -> float:
    """Share of members above the threshold that so many of the others are above."""
    others = np.sort(scores[~coins])[::-1]
    allowed = int(np.floor(rate * len(others)))
    threshold = others[allowed] if allowed < len(others) else -np.inf
    return float(np.mean(scores[coins] > threshold))


def alarm(found: Measured, coins: Coins, limit: Limit, *, of: int) -> str:
    """Return what is beyond a limit by more than luck explains, in words; "" where nothing is.

    Args:
        found: what was measured.
        coins: who was trained on.
        limit: what is allowed.
        of: rows that are so judged; each by its area, and by two tests at each rate.
    """
    members, others = int(coins.sum()), int((~coins).sum())
    tests = of * (1 + 2 * len(found.rates))
    # An area is a mean over pairs, of which so many have nobody in common (Hoeffding 1963).
    luck = math.sqrt(math.log(tests / LUCK) / (2 * max(min(members, others), 1)))
    if found.area > (most := limit.most_area()) + max(ERRORS * found.area_error, luck):
        return f"AUC {found.area:.3f}, where at most {most:.3f} is allowed"
    for number, wanted in enumerate(found.rates):
        hits, error = found.hits[number], found.hits_error[number]
        alarms = int(np.floor(wanted * others))
        rate = float(beta.ppf(1 - LUCK / tests, alarms + 1, max(others - alarms, 1)))
        allowed = limit.most_hits(rate)
        called = round(hits * members)
        if hits > allowed + ERRORS * error and beyond(called, members, allowed, of=tests):
            most = limit.most_hits(wanted)
            return f"TPR {hits:.3f} at {100 * wanted:g}% FPR, where at most {most:.3f} is allowed"
    return ""


def shown(found: Measured, limit: Limit) -> dict[str, Any]:
    """Return what a row of a table holds of it."""
    texts = [f"{h:.3f} ({e:.3f})" for h, e in zip(found.hits, found.hits_error, strict=True)]
    rare = len(found.rates) > 1
    return {
        "area": found.area,
        "area_error": found.area_error,
        "area_text": f"{found.area:.3f} ({found.area_error:.3f})",
        "most_area": limit.most_area(),
        "hits": found.hits[0],
        "hits_error": found.hits_error[0],
        "hits_text": texts[0],
        "most_hits": limit.most_hits(RATES[0]),
        "others": found.others,
        "hits_2_text": texts[1] if rare else None,
        "most_hits_2": limit.most_hits(RATES[1]) if rare else None,
    }


def with_rare(
    columns: Sequence[Column], rows: Sequence[dict[str, Any]]
) -> tuple[tuple[Column, ...], str]:
    """Return a table's columns, without `RARE` where no row has them, and why they are absent.

    Args:
        columns: of the table, `RARE` among them.
        rows: what `shown` returned, and more.
    """
    most = max(row["others"] for row in rows)
    if most >= ENOUGH:
        why = f"A dash at 0.1% FPR: fewer than {ENOUGH:,} patients are outside of that training."
        return tuple(columns), why
    why = (
        f"A TPR at 0.1% FPR is not shown: it takes {ENOUGH:,} patients outside of a training, and "
        f"there are {most:,}."
    )
    return tuple(one for one in columns if one not in RARE), why
