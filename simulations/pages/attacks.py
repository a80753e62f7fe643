"""Attacks as a page shows them: what each reached, beside what theory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.pages.wording import ABSENT, epsilon_text, share_text

#: Part of a page, filled with `attack_parts`.
PART = """
{%- for attack in attacks %}
<h2>Attack: {{ attack.title[0] | lower }}{{ attack.title[1:] }}</h2>
<p>{{ attack.headline }}</p>
<table class="stack" id="attack-{{ attack.name }}">
<thead><tr>
{%- for column in attack.columns %}
<th scope="col"{% if column.endswith("#") %} class="number"{% endif %}>{{ column.rstrip("#") }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for row in attack.rows %}
<tr>
{%- for cell in row %}
{%- set column = attack.columns[loop.index0] %}
{%- if loop.first %}
<th scope="row">{{ cell }}</th>
{%- else %}
<td{% if column.endswith("#") %} class="number"{% endif %}
  data-label="{{ column.rstrip("#") }}">{{ cell }}</td>
{%- endif %}
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ attack.caption }} Attacked: {{ attack.facts }}.</caption>
</table>
{%- endfor %}
"""


def attack_parts(attacks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a page about attacks, as ``attacks.json`` holds them."""
    return [
        {
            "name": name,
            "title": found["title"],
            "headline": headline(found),
            "columns": attack_columns(found),
            "rows": attack_rows(found),
            "caption": found["caption"],
            "facts": found["facts"],
        }
        for name, found in attacks.items()
    ]


def headline(found: Mapping[str, Any]) -> str:
    """Return what has to be known before the table is read."""
    control = found["control"]
    if not control["succeeded"]:
        return (
            f"Shows nothing: the attack does not work where nothing protects ({control['text']})."
        )
    if found["alarms"]:
        return f"FAILED. {'; '.join(found['alarms'])}."
    return f"Where nothing protects, the attack works ({control['text']})."


def attack_columns(found: Mapping[str, Any]) -> list[str]:
    """Return the titles of a result's columns; those of numbers end in ``#``."""
    return [
        column["title"] if column["form"] == "text" else f"{column['title']}#"
        for column in found["columns"]
    ]


def attack_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return a result's rows as people read them."""
    columns: Sequence[Mapping[str, str]] = found["columns"]
    return [
        [_text(row.get(column["key"]), column["form"]) for column in columns]
        for row in found["rows"]
    ]


def _text(value: Any, form: str) -> str:
    if form == "epsilon":
        return epsilon_text(value)
    if value is None:
        return ABSENT
    forms = {"share": share_text, "number": "{:.3g}".format, "decibel": "{:.1f}".format}
    return forms[form](value) if form in forms else str(value)
