"""What stands beside the code is true of it: versions, commands, what CI runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_written_once_and_the_others_follow() -> None:
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in text_of("CITATION.cff")
    assert re.search(rf"^## {re.escape(version)} ", text_of("CHANGELOG.md"), re.MULTILINE)


def test_only_versions_of_python_that_ci_runs_are_claimed() -> None:
    claimed = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
    workflow = text_of(".github/workflows/check.yml")
    assert claimed == re.findall(r'python-version: "([\d.]+)"', workflow)
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_ci_runs_one_command_which_is_there() -> None:
    steps = re.findall(r"- run: (.+)", text_of(".github/workflows/check.yml"))
    assert steps == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_ci_builds_the_site_and_keeps_it() -> None:
    made = {
        name: after for name, after in re.findall(r"^([a-z-]+):(.*)", text_of("Makefile"), re.M)
    }
    assert "make check\n" in text_of(".ci/run") and " docs " in made["check"]
    assert "path: _site\n" in text_of(".github/workflows/check.yml")


def test_pages_name_commands_and_files_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for page in ("CONTRIBUTING.md", "SECURITY.md"):
        text = text_of(page)
        assert set(re.findall(r"\bmake ([a-z-]+)(?=[` ]|$)", text)) <= targets
        for path in re.findall(r"\]\(([\w./-]+)\)|`([\w-]+/[\w./-]*)`", text):
            assert (ROOT / "".join(path)).exists(), (page, path)


def test_no_two_files_of_tests_have_one_name() -> None:
    """Two of one name are one module to pytest, and nothing at all is collected."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}
