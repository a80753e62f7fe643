"""What a comparison's differences say, in sentences made from its numbers.

Two ways of training together are compared at every place that both have: a split, a number of
hospitals, an epsilon. A difference counts as shown only where its 95% interval, over three seeds at
the least, excludes 0; where it does not, nothing is said of which is better, and the sentence gives
how far the intervals reach::

    F, gradients against F, cyclic:6: clearly better at K = 50 (+0.031); no clear difference at
    K = 2, 5 (all intervals together: -0.035 to +0.081). Sends 270 to 310 times the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.compare.measures import LEAST_CLEAR, goodness, is_clear, measure_of
from simulations.compare.tables import AXES, axis_text, way_text

Content = Mapping[str, Any]
Pair = Mapping[str, Any]
PLACES = ("partition", "hospitals", "epsilon")
_MARKS = {"hospitals": "K = ", "epsilon": "epsilon "}


def answers(content: Content) -> list[str]:
    """Return a sentence for every two ways of training together that were compared."""
    measure = measure_of(content)
    grouped: dict[tuple[str, str], list[Pair]] = {}
    for pair in content["paired"]:
        if pair["difference"]["low"] is not None:
            grouped.setdefault(_names(pair), []).append(pair)
    axes = [axis for axis in PLACES if len({row[axis] for row in content["rows"]} - {None}) > 1]
    return [
        _sentence(names, pairs, axes, measure) + _bytes(pairs, content["rows"])
        for names, pairs in grouped.items()
    ]


def _names(pair: Pair) -> tuple[str, str]:
    return way_text(pair), way_text(pair["against"])


def _sentence(
    names: tuple[str, str], pairs: Sequence[Pair], axes: Sequence[str], measure: str
) -> str:
    clear = [pair for pair in pairs if is_clear(pair["difference"])]
    above = [pair for pair in clear if goodness(pair["difference"]["mean"], measure) > 0]
    below = [pair for pair in clear if pair not in above]
    even = [pair for pair in pairs if not any(pair["difference"]["values"])]
    few = [pair for pair in pairs if pair["difference"]["count"] < LEAST_CLEAR and pair not in even]
    open_ = [pair for pair in pairs if pair not in (*above, *below, *even, *few)]
    parts = []
    for word, found in (("clearly better", above), ("clearly worse", below)):
        if found:
            means = [pair["difference"]["mean"] for pair in found]
            parts.append(f"{word}{_at(found, axes)} ({_span(means, means)})")
    if even:
        parts.append(f"the same on every seed{_at(even, axes)}")
    if few:
        parts.append(f"too few seeds to say{_at(few, axes)}")
    if open_:
        lows = [pair["difference"]["low"] for pair in open_]
        highs = [pair["difference"]["high"] for pair in open_]
        reach = "all intervals together" if len(open_) > 1 else "interval"
        parts.append(f"no clear difference{_at(open_, axes)} ({reach}: {_span(lows, highs)})")
    return f"{names[0]} against {names[1]}: {'; '.join(parts)}."


def _bytes(pairs: Sequence[Pair], rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the first way sends by what the second does, where the exchange differs."""
    sent = {tuple(row[axis] for axis in AXES): row["sent_bytes"] for row in rows}
    ratios = []
    for pair in pairs:
        if pair["against"]["exchange"] in (None, pair["exchange"]):
            return ""
        own = sent.get(tuple(pair[axis] for axis in AXES))
        other = sent.get(tuple({**pair, **pair["against"]}[axis] for axis in AXES))
        if own and other and other["mean"]:
            ratios.append(own["mean"] / other["mean"])
    if not ratios:
        return ""
    low, high = (
        f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}" for ratio in (min(ratios), max(ratios))
    )
    return f" Sends {low if low == high else f'{low} to {high}'} times the bytes."


def _span(lows: Sequence[float], highs: Sequence[float]) -> str:
    low, high = f"{min(lows):+.3f}", f"{max(highs):+.3f}"
    return low if low == high else f"{low} to {high}"


def _at(pairs: Sequence[Pair], axes: Sequence[str]) -> str:
    """Say where: the values of the one axis that varies, or every place by itself."""
    seen = [axis for axis in axes if any(pair[axis] is not None for pair in pairs)]
    if not seen:
        return ""
    if len(seen) == 1:
        [axis] = seen
        return f" at {_MARKS.get(axis, '')}{', '.join(axis_text(pair[axis]) for pair in pairs)}"
    places = [
        " ".join(f"{_MARKS.get(axis, '')}{axis_text(pair[axis])}" for axis in seen)
        for pair in pairs
    ]
    return f" at {', '.join(places)}"
