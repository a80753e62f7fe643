"""How the site is built from README, docs and examples, by `make docs`: strictly, and offline.

The source folder is the whole repository, so that links between pages are the same here as in a
checkout. A link to what does not exist, a page that no menu shows, or a docstring that cannot be
read fails the build. Nothing is fetched: fonts are the reader's own, search runs in the page.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

project = "Asclepias"
author = "The Asclepias maintainers"
project_copyright = author
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "examples/*/README.md", "[A-Z]*.md"]
exclude_patterns = [".*", "_site", "runs", "docs/measured", "build"]

# GitHub makes an anchor of every heading; so links to them are checked here.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
suppress_warnings = ["myst.header"]  # an example's README may begin below the first level

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"Asclepias {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}


def _front_door(app: Sphinx, error: Exception | None) -> None:
    """Lead from the site's first address to its first page."""
    if error is None and app.builder.name == "html":
        page = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what the site needs beyond its extensions."""
    import command_pages

    app.add_directive("commands", command_pages.Commands)
    app.add_directive("settings", command_pages.Settings)
    app.add_directive("mermaid", command_pages.Mermaid)
    app.connect("build-finished", _front_door)
