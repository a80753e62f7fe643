"""The page over published comparisons: ``docs/results.md``.

``docs/results/`` keeps the ``comparison.json`` of every comparison shown, so that anybody can make
the page again from it; no number on it is typed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.contract.plain_json import json_text
from simulations.compare.answers import answers
from simulations.compare.axes import FIRST_SEED
from simulations.compare.figures import draw_comparison, drawings_of
from simulations.compare.folder import read_comparison
from simulations.compare.report import ALONE_CAPTION, alone_table
from simulations.compare.tables import (
    CLEAR,
    caption,
    left_out,
    markdown_table,
    paired_table,
    paired_title,
    result_table,
    seeds_text,
    tuning_text,
)

Content = Mapping[str, Any]
PAGE = "results.md"
FOLDER = "results"
HEAD = """# Results

Every table on this page was written by `flower-simulation results-page` from the comparisons in
[`results/`](results/), whose commands stand above their tables; a command leaves a folder of runs
and a `comparison.json` behind. Accuracy is measured on a public holdout of patients that no
hospital trains on. Trainings of one seed share holdout, split and initial weights, so differences
are taken seed by seed. No setting was chosen on these seeds unless it is said. What tuning would
cost in privacy is not counted: the data are public.
"""


def write_results_page(comparisons: Sequence[Content], docs: Path) -> Path:
    """Keep comparisons in ``docs/results/`` and write the page over all that are there.

    Returns:
        The page.
    """
    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for content in comparisons:
        name = content["name"]
        (folder / f"{name}.json").write_text(json_text(content, indent=1) + "\n", "utf-8")
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
    if content.get("alone"):
        lines += ["### Alone or together", "", markdown_table(*alone_table(content)), ""]
        lines += [ALONE_CAPTION, ""]
    for figure, drawing in drawings_of(content).items():
        if (docs / FOLDER / f"{name}-{figure}.svg").is_file():
            lines += [f"![{drawing.title}]({FOLDER}/{name}-{figure}.svg)", ""]
            lines += [f"{drawing.title}. {drawing.caption}", ""]
    for head, found in left_out(content):
        lines += [f"{head}:", "", *(f"- {line}" for line in found), ""]
    return "\n".join(lines)


def _facts(content: Content) -> str:
    text = (
        f"{content['date']}: {content['data']}, {content['model']}, {content['rounds']} rounds, "
        f"{seeds_text(content['seeds'])}, delta {content['delta']:g}."
    )
    if content["tuned"]:
        text += f" Tuned {tuning_text(content)}."
    seeds = [seed for row in content["rows"] for seed in row["seeds"]]
    if seeds and min(seeds) < FIRST_SEED:
        text += (
            f" Seeds {min(seeds)} to {max(seeds)}, on which settings that are not tuned here were "
            f"tried as well; the command takes seeds from {FIRST_SEED} on by now."
        )
    return text
