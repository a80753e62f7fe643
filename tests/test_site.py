"""The site: what its pages show can be typed, and what is built is whole and fetches nothing."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import asclepias

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("[A-Z]*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("README.md"),
    ]
)
LANGUAGES = {"", "sh", "bash", "text", "toml", "python", "pycon", "diff", "mermaid"}
#: In a page's blocks of these a program is called as `flower-simulation ...` or `asclepias ...`,
#: which tests/simulations/test_cli.py hands to the programs.
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path) -> list[tuple[str, str]]:
    """A page's blocks of code: (language, text)."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def test_no_page_is_left_out() -> None:
    assert {"README.md", "docs/data.md", "docs/index.md", "CHANGELOG.md"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_code_can_be_read(name: str) -> None:
    for language, text in blocks(ROOT / name):
        if language.startswith("{"):  # of the site's own language, which its build reads
            continue
        assert language in LANGUAGES, f"{name}: {language}"
        if language == "toml":
            tomllib.loads(text)
        elif language == "python":
            compile(text, name, "exec")
        elif language == "pycon":
            assert ">>> " in text, f"{name}: {text}"


SESSIONS = [name for name in NAMES if any(kind == "pycon" for kind, _ in blocks(ROOT / name))]


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_on_a_page_say_what_is_shown(name: str) -> None:
    """A page is one session, from its first block to its last."""
    text = "\n".join(text for kind, text in blocks(ROOT / name) if kind == "pycon")
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted > 0 and result.failed == 0


def build(out: Path, source: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    command = re.search(r"-m (sphinx .*?) _site\n", (ROOT / "Makefile").read_text(), re.DOTALL)
    assert command is not None
    words = command[1].replace("\\\n", " ").replace("_site", str(out)).split()
    return subprocess.run(
        [sys.executable, "-m", *words, str(out)],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(out)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.exhaustive
def test_the_reference_has_every_public_name_command_and_setting(site: Path) -> None:
    from clients.contract.settings import DEFAULTS

    python, commands, settings = (
        (site / "docs" / "reference" / f"{one}.html").read_text(encoding="utf-8")
        for one in ("python", "commands", "settings")
    )
    for name in set(asclepias.__all__) - {"__version__"}:
        assert re.search(rf'id="asclepias\.(?:client\.)?{name}"', python), name
    for command in ("asclepias-ledger-recover", "asclepias-submit", "flower-simulation-run"):
        assert f'id="{command}"' in commands, command
    assert all(key in settings for key in DEFAULTS)


@pytest.mark.exhaustive
def test_no_page_of_the_site_fetches_anything(site: Path) -> None:
    fetched = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|"""
                         r"""<link(?![^>]+rel=["']?canonical)[^>]+href=["']?(?:https?:)?//|"""
                         r"""url\(["']?(?:https?:)?//|@import""")  # fmt: skip
    files = [one for one in site.rglob("*") if one.suffix in (".html", ".css")]
    assert len(files) > 20
    for file in files:
        assert not fetched.search(file.read_text(encoding="utf-8")), file
    assert (site / "index.html").is_file()


@pytest.mark.exhaustive
def test_a_link_to_nothing_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "docs").mkdir(parents=True)
    for name in ("conf.py", "command_pages.py"):
        (source / "docs" / name).write_text((ROOT / "docs" / name).read_text())
    (source / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    for text, sound in (("[a](index.md)", True), ("[a](gone.md)", False), ("[](#no)", False)):
        (source / "docs" / "index.md").write_text(f"# Pages\n\n{text}\n")
        assert (build(tmp_path / "out", source).returncode == 0) is sound, text
