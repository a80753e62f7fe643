"""What a run's probabilities are worth, as its report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulations.pages.wording import ABSENT, share_text

#: What predicts, by its name in ``doubt.json``.
NAMES = {"predictor": "the released model", "iterates": "its last releases together"}

#: Part of a page, filled with `doubt_rows` and `doubt_caption`.
PART = """
{%- if doubt %}
<h2>What its probabilities are worth</h2>
<table class="stack" id="doubt">
<thead><tr><th scope="col">Who predicts</th>
{%- for name in doubt_columns %}
<th scope="col" class="number">{{ name }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for name, values in doubt %}
<tr><th scope="row">{{ name }}</th>
{%- for value in values %}
<td class="number" data-label="{{ doubt_columns[loop.index0] }}">{{ value }}</td>
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ doubt_caption }}</caption>
</table>
{%- endif %}
"""

COLUMNS = (
    "Temperature",
    "Calibration error",
    "Calibrated",
    "Brier score",
    "Calibrated",
    "Classes in a set",
    "Sets of one class",
)


def doubt_rows(doubt: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return who predicts, and what its probabilities are worth, in the order of `COLUMNS`."""
    return [(_name(key, found), _values(found)) for key, found in doubt.items() if found.get("ece")]


def _name(key: str, found: Mapping[str, Any]) -> str:
    members = len(found.get("members") or ())
    return f"{NAMES.get(key, key)} ({members})" if members > 1 else NAMES.get(key, key)


def _values(found: Mapping[str, Any]) -> list[str]:
    size = found.get("mean_set_size")
    return [
        f"{found['temperature']:.3g}",
        *(share_text(found["ece"][when]) for when in ("before", "after")),
        *(share_text(found["brier"][when]) for when in ("before", "after")),
        ABSENT if size is None else f"{size:.2f}",
        share_text(found.get("single_class")),
    ]


def doubt_caption(doubt: Mapping[str, Any]) -> str:
    """Return how to read the table."""
    if not doubt:
        return ""
    first = next(iter(doubt.values()))
    patients = first["patients"]
    return (
        f"On {patients['sets']} public patients; the temperature was fitted to "
        f"{patients['temperature']} others. Calibration error and Brier score: less is better. "
        f"Sets hold the truth of {first['coverage']:.0%} of patients like these, with "
        f"{first['confidence']:.0%} confidence; all classes where there are too few to promise it."
        + ("" if first["mean_set_size"] is not None else " -: no patient was left to judge it on.")
    )
