"""How figures look, and how they are written: as SVG for pages, as PNG for slides, inside a page.

A `Drawing` is a title, a caption, and a function from what is drawn (a run, a comparison) to a
matplotlib figure. Colours are Okabe and Ito's (2008), told apart by colour-blind readers too; lines
differ in style as well.
"""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import matplotlib as mpl

from crypto.whole_file import write_shared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#666666",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY)
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "svg.hashsalt": "asclepias",
    "svg.fonttype": "path",
}
PNG_DPI = 200
#: How long a copy of the process is waited for: so many seconds, and times the other half.
PATIENCE_SECONDS, PATIENCE_TIMES = 2.0, 4.0
_PAUSE_SECONDS = 0.002

Source = TypeVar("Source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing(Generic[Source]):
    """A kind of figure.

    Attributes:
        title: what it shows, for people.
        caption: how to read it.
        draw: from what is drawn to a figure, or None where there is nothing to draw.
    """

    title: str
    caption: str
    draw: Callable[[Source], Figure | None]


#: What `_svg` has drawn, as long as the figure is there.
_SVG: WeakKeyDictionary[Figure, str] = WeakKeyDictionary()

#: Figures by name, each with the drawing that it came from.
Drawn = dict[str, tuple[Drawing[Any], "Figure"]]


def draw(drawings: Mapping[str, Drawing[Source]], source: Source) -> Drawn:
    """Return every figure that there is something to draw for, by name."""
    found: Drawn = {}
    with mpl.rc_context(STYLE):
        for name, drawing in drawings.items():
            if (figure := drawing.draw(source)) is not None:
                found[name] = (drawing, figure)
    return found


def write_figures(drawn: Drawn, folder: Path) -> list[Path]:
    """Write figures into a folder, made where it is not there; a copy of this process writes half.

    Returns:
        The files, an SVG and a PNG for each figure. The same figure gives the same SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine, others = list(drawn)[::2], list(drawn)[1::2]

    def write(names: list[str]) -> None:
        for name in names:
            figure = drawn[name][1]
            write_shared(folder / f"{name}.svg", _svg(figure).encode(), durable=False)
            pixels = io.BytesIO()
            with mpl.rc_context(STYLE):
                figure.savefig(pixels, format="png", dpi=PNG_DPI)
            write_shared(folder / f"{name}.png", pixels.getvalue(), durable=False)

    with _beside(partial(write, others)) if others else nullcontext(_yes) as is_done:
        write(mine)
        if is_done():
            for name in others:
                _SVG[drawn[name][1]] = (folder / f"{name}.svg").read_text(encoding="utf-8")
        else:
            write(others)
    return [folder / f"{name}.{kind}" for name in drawn for kind in ("svg", "png")]


def _yes() -> bool:
    return True


@contextmanager
def _beside(work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Do something in a copy of this process, where there is a processor for it.

    Threads do not outlive a fork, but the locks that they held do: a copy may wait for good.

    Yields:
        What waits for it, not much longer than the block took, and says whether it was done.
    """
    if not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2:
        yield lambda: False
        return
    began = time.monotonic()
    if (child := os.fork()) == 0:
        code = 1
        try:
            gc.disable()  # an object of an engine, put down here, may wait for its threads
            work()
            code = 0
        finally:
            os._exit(code)
    ended: list[int] = []

    def is_done() -> bool:
        now = time.monotonic()
        until = now + PATIENCE_SECONDS + PATIENCE_TIMES * (now - began)
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > until:
                end()
                return False
            time.sleep(_PAUSE_SECONDS)
        ended.append(found[1])
        return found[1] == 0

    def end() -> None:
        os.kill(child, signal.SIGKILL)
        ended.append(os.waitpid(child, 0)[1])

    try:
        yield is_done
    finally:
        if not ended:
            end()


def inline_figures(drawn: Drawn) -> list[dict[str, str]]:
    """Return name, title, caption and SVG element of each figure, for a page."""
    from markupsafe import Markup

    return [
        {
            "name": name,
            "title": drawing.title,
            "caption": drawing.caption,
            "svg": Markup(_inline_svg(figure, name, drawing.title)),
        }
        for name, (drawing, figure) in drawn.items()
    ]


def _svg(figure: Figure) -> str:
    """Return a figure as SVG, drawn at the first call: a file and a page show the same one.

    Its parts stay where they were laid out then. Laying out is half of the work.
    """
    if figure not in _SVG:
        file = io.StringIO()
        with mpl.rc_context(STYLE):
            figure.savefig(file, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")
        _SVG[figure] = file.getvalue()
    return _SVG[figure]


def _inline_svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an SVG element whose ids meet no other figure's."""
    text = _svg(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
