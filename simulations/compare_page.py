"""Pages made from comparisons: ``docs/results.md``, and a ``report.html`` in each folder.

``docs/results/`` keeps the ``comparison.json`` of every comparison shown, so that anybody can make
the page again from it; no number on it is typed.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulations.compare_answers import answers
from simulations.compare_figures import DRAWINGS, draw_all, draw_comparison
from simulations.compare_tables import (
    caption,
    left_out,
    markdown_table,
    paired_table,
    paired_title,
    result_table,
)
from simulations.results import REPORT, NoRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Content = Mapping[str, Any]
CLEAR = (
    "clear: the interval excludes 0. Each interval is by itself; of twenty true zeros one is "
    "expected to look clear."
)
COMPARISON = "comparison.json"
PAGE = "results.md"
FOLDER = "results"
HEAD = """# Results

Every table on this page was written by `flower-simulation results-page` from the comparisons in
[`results/`](results/), whose commands stand above their tables; a command leaves a folder of runs
and a `comparison.json` behind. Accuracy is measured on a public holdout of patients that no
hospital trains on. Trainings of one seed share holdout, split and initial weights, so differences
are taken seed by seed. What tuning would cost in privacy is not counted: the data are public.
"""


def read_comparison(path: Path) -> dict[str, Any]:
    """Read a comparison's folder, or its file.

    Raises:
        NoRun: there is none.
    """
    file = path / COMPARISON if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise NoRun(f"{file} cannot be read: {error.strerror}; 'compare' writes it.") from None
    except ValueError as error:
        raise NoRun(f"{file} is no JSON: {error}.") from None
    if not isinstance(content, dict) or "rows" not in content:
        raise NoRun(f"{file} is no comparison.")
    return content


def write_results_page(comparisons: Sequence[Content], docs: Path) -> Path:
    """Keep comparisons in ``docs/results/`` and write the page over all that are there.

    Returns:
        The page.
    """
    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for content in comparisons:
        name = content["name"]
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        for file in draw_comparison(content, folder):
            if file.suffix == ".svg":
                file.replace(folder / f"{name}-{file.name}")
            else:
                file.unlink()
    page = docs / PAGE
    page.write_text(render_results_page(docs), "utf-8")
    return page


def render_results_page(docs: Path) -> str:
    """Return the page over the comparisons in ``docs/results/``, the regimes first."""
    files = sorted(
        (docs / FOLDER).glob("*.json"), key=lambda one: (one.stem != "regimes", one.stem)
    )
    contents = [read_comparison(file) for file in files]
    listed = [f"- [{one['title']}](#{_anchor(one['title'])})" for one in contents]
    parts = [HEAD, "\n".join([*listed, ""]), *(_section(one, docs) for one in contents)]
    return "\n".join(parts)


def _anchor(title: str) -> str:
    """Return what a heading is linked by: its words in small letters, with hyphens."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _section(content: Content, docs: Path) -> str:
    name = content["name"]
    lines = [f"## {content['title']}", "", content["description"], ""]
    lines += ["```", content["command"], "```", "", _facts(content), ""]
    lines += [
        markdown_table(*result_table(content, wide=True)),
        "",
        caption(content, wide=True),
        "",
    ]
    if content["paired"]:
        lines += ["### What the differences say", ""]
        lines += [*(f"- {answer}" for answer in answers(content)), ""]
        lines += [f"### {paired_title(content)}", "", markdown_table(*paired_table(content)), ""]
        lines += [CLEAR, ""]
    for figure, drawing in DRAWINGS.items():
        if (docs / FOLDER / f"{name}-{figure}.svg").is_file():
            lines += [f"![{drawing.title}]({FOLDER}/{name}-{figure}.svg)", ""]
            lines += [f"{drawing.title}. {drawing.caption}", ""]
    for head, found in left_out(content):
        lines += [f"{head}:", "", *(f"- {line}" for line in found), ""]
    return "\n".join(lines)


def _facts(content: Content) -> str:
    text = (
        f"{content['date']}: {content['data']}, {content['model']}, {content['rounds']} rounds, "
        f"{content['seeds']} seeds, delta {content['delta']:g}."
    )
    if content["tuned"]:
        grids = "; ".join(
            f"{key} in {', '.join(f'{value:g}' for value in values)}"
            for key, values in content["tuned"].items()
        )
        text += (
            f" Tuned for each row by mean accuracy over {content['tuning_seeds']} other seeds: "
            f"{grids}."
        )
    return text


def write_comparison_report(content: Content, out: Path) -> Path:
    """Write ``report.html`` into a comparison's folder: tables and figures in one file."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from simulations.report_page import STYLE

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    tables = [(caption(content, wide=True), *result_table(content, wide=True))]
    if content["paired"]:
        tables.append((paired_title(content), *paired_table(content)))
    page = environment.from_string(HTML).render(
        style=Markup(STYLE),
        content=content,
        facts=_facts(content),
        tables=tables,
        answers=answers(content),
        left_out=left_out(content),
        figures=[
            {"title": drawing.title, "caption": drawing.caption, "svg": Markup(_svg(figure, name))}
            for name, (drawing, figure) in draw_all(content).items()
        ],
    )
    file = out / REPORT
    file.write_text(page, "utf-8")
    return file


def _svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element whose ids meet no other figure's."""
    import matplotlib as mpl

    from simulations.figures import STYLE as FIGURE_STYLE

    file = io.StringIO()
    with mpl.rc_context(FIGURE_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{DRAWINGS[name].title}" ', 1)


HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{{ content.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ content.title }}</h1>
<p>{{ content.description }}</p>
<pre>{{ content.command }}</pre>
<p class="soft">{{ facts }}</p>
{%- for text, columns, rows in tables %}
<table class="stack">
<thead><tr>
{%- for column in columns %}
<th scope="col"{% if column.endswith("#") %} class="number"{% endif %}>{{ column.rstrip("#") }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for row in rows %}
<tr>
{%- for cell in row %}
{%- set column = columns[loop.index0] %}
<td{% if column.endswith("#") %} class="number"{% endif %}
  data-label="{{ column.rstrip("#") }}">{{ cell }}</td>
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ text }}</caption>
</table>
{%- endfor %}
{%- if answers %}
<h2>What the differences say</h2>
<ul>
{%- for line in answers %}
<li>{{ line }}</li>
{%- endfor %}
</ul>
{%- endif %}
<div class="figures">
{%- for figure in figures %}
<figure role="group" aria-label="{{ figure.title }}">
<h3>{{ figure.title }}</h3>
{{ figure.svg }}
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{%- endfor %}
</div>
{%- for title, found in left_out %}
<h2>{{ title }}</h2>
<ul>
{%- for line in found %}
<li>{{ line }}</li>
{%- endfor %}
</ul>
{%- endfor %}
</main>
</body>
</html>
"""
