"""``report.html`` of an attacked scenario: one self-contained page, made from ``attacks.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crypto.whole_file import write_shared
from simulations.pages.attack_figures import ATTACK_DRAWINGS
from simulations.pages.attacks import PART, attack_parts, headline
from simulations.pages.drawing import draw, inline_figures, write_figures
from simulations.pages.template import FIGURES, HEAD, REPORT, Answer, fill_page

PAGE = (
    HEAD
    + PART
    + FIGURES
    + """
</main>
</body>
</html>
"""
)


def write_attack_page(path: Path) -> Path:
    """Draw the figures of a folder with ``attacks.json`` and write its page; return the page."""
    attacks: dict[str, Any] = json.loads((path / "attacks.json").read_text(encoding="utf-8"))
    drawn = draw(ATTACK_DRAWINGS, attacks)
    write_figures(drawn, path / "figures")
    file = path / REPORT
    text = fill_page(
        PAGE,
        title=f"Attacks on the scenario {path.name.removeprefix('attack-')}",
        subtitle="Asclepias: what the literature's attacks reach, beside what theory allows.",
        answers=[
            Answer(
                question=f"{name}: does it work where nothing protects?",
                headline=headline(found),
                tone="yes" if found["control"]["succeeded"] and not found["alarms"] else "no",
            )
            for name, found in attacks.items()
        ],
        attacks=attack_parts(attacks),
        figures=inline_figures(drawn),
        figures_note="",
    )
    write_shared(file, text.encode(), durable=False)
    return file
