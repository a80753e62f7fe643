"""The site: what its pages show can be typed, and what is built is whole and fetches nothing."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

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
PRIMER = ROOT / "docs" / "primer"
LANGUAGES = {"", "sh", "bash", "text", "toml", "python", "pycon", "diff", "mermaid"}
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


#: Pages whose commands are carried out, one after the other, in an empty folder.
WALKED = (
    "docs/primer/linkage.md",
    "docs/tutorials/first-training.md",
    "docs/tutorials/own-table.md",
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", WALKED)
def test_a_newcomer_can_follow_a_page(name: str, tmp_path: Path) -> None:
    """Files are those whose name stands in their first line; a `text` block is what is printed."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    said = ""
    for language, text in blocks(ROOT / name):
        if language in ("python", "toml"):
            file = re.match(r"# (\S+)\n", text)
            assert file, f"{name}: a file without its name"
            (tmp_path / file[1]).write_text(text, encoding="utf-8")
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{name}: {text}{done.stdout}{done.stderr}"
            said = " ".join(done.stdout.split())
        elif language == "text":
            for line in text.splitlines():
                assert " ".join(line.split()) in said, line


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    """The script that draws the primer's pictures."""
    spec = importlib.util.spec_from_file_location("primer_pictures", PRIMER / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "randomised-response",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("encryption", "linkage", "local-and-central", "sharing", "updates")
        ),
    ],
)
def test_a_picture_of_the_primer_is_what_its_computation_draws(
    pictures: ModuleType, name: str, tmp_path: Path
) -> None:
    [drawn] = pictures.write(tmp_path, [name])
    kept = PRIMER / f"{name}.svg"
    assert drawn.read_bytes() == kept.read_bytes(), "draw it again: python docs/primer/pictures.py"
    assert any(f"({name}.svg)" in page.read_text() for page in PRIMER.glob("*.md"))


def test_every_picture_of_the_primer_is_drawn(pictures: ModuleType) -> None:
    assert {file.stem for file in PRIMER.glob("*.svg")} == set(pictures.PICTURES)


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
