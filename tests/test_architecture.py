"""The map is true, rules about who may import whom catch what they forbid, and code stays short."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = ROOT / "docs" / "architecture.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
ROOMS = (*PACKAGES, "benchmarks")
NO_DATA = "The server never comes to hospital data, but for the public holdout"
NO_KEYS = "The server holds no keys"
#: Lines that a file and a function may have.
MOST_LINES, MOST_OF_A_FUNCTION = 400, 50


def top_folders(root: Path) -> set[str]:
    """Return the repository's own folders: those git keeps, or without git those it would keep."""
    done = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False
    )
    kept = {line.split("/")[0] for line in done.stdout.splitlines() if "/" in line}
    lines = (root / ".gitignore").read_text(encoding="utf-8").split()
    ignored = [line.rstrip("/") for line in lines if line.endswith("/")]
    return {
        f"{path.name}/"
        for path in root.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
        and (not kept or path.name in kept)
    }


def package_folders(root: Path) -> set[str]:
    """Return every folder of Python files in the rooms, such as ``clients/site/``."""
    files = (file for room in ROOMS for file in (root / room).rglob("*.py"))
    return {f"{file.parent.relative_to(root)}/" for file in files}


def room_files(root: Path) -> set[str]:
    """Return every Python file in the rooms that holds more than its package's docstring."""
    files = (file for room in ROOMS for file in (root / room).rglob("*.py"))
    return {str(file.relative_to(root)) for file in files if file.name != "__init__.py"}


def references(text: str) -> set[str]:
    """Return what stands in backticks and has the form of a path."""
    return set(re.findall(r"`([\w.-]+/[\w./-]*(?:::[\w.]+)?)`", text))


def rows(text: str) -> set[str]:
    """Return what the tables of the map have a row for."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def missing_from(text: str, root: Path) -> list[str]:
    """Say for each folder and file that is not on the map what to add, and where."""
    known = rows(text)
    folders = top_folders(root) | package_folders(root)
    faults = [
        f"add to 'Rooms': | `{folder}` | what it holds |" for folder in sorted(folders - known)
    ]
    for file in sorted(room_files(root) - known):
        room = f"{Path(file).parent}/"
        faults.append(f"add to the table of `{room}`: | `{file}` | what it holds |")
    return faults


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return the functions, classes, methods and tables that a Python file defines."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                found |= {f"{name}.{n.name}" for n in body if isinstance(n, ast.FunctionDef)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def wrong_references(text: str, root: Path) -> list[str]:
    """Say which paths and names on the map do not exist."""
    faults = []
    for reference in sorted(references(text)):
        path, _, name = reference.partition("::")
        file = root / path
        if path.endswith("/") != file.is_dir() or not file.exists():
            faults.append(f"remove or correct `{reference}`: there is no {path}")
        elif name and name not in names_in(file):
            faults.append(f"remove or correct `{reference}`: {path} defines no {name}")
    return faults


def overlong(root: Path) -> list[str]:
    """Say which files and functions of the rooms nobody reads in one go."""
    faults = []
    for name in sorted(room_files(root)):
        text = (root / name).read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > MOST_LINES:
            faults.append(f"split {name}: {lines} lines, at most {MOST_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_OF_A_FUNCTION:
                    most = MOST_OF_A_FUNCTION
                    faults.append(f"split {name}::{node.name}: {lines} lines, at most {most}")
    return faults


def chain(layers: list[str]) -> str:
    """Write the layers of a contract as the map does: ``strategies -> clients -> ...``."""
    return " -> ".join(f"({layer})" if "|" in layer else layer for layer in layers)


@pytest.fixture(scope="module")
def text() -> str:
    return MAP.read_text(encoding="utf-8")


def test_every_folder_and_file_is_on_the_map(text):
    faults = missing_from(text, ROOT)
    assert not faults, "docs/architecture.md is incomplete:\n" + "\n".join(faults)


def test_everything_on_the_map_exists(text):
    faults = wrong_references(text, ROOT)
    assert not faults, "docs/architecture.md is wrong:\n" + "\n".join(faults)


def test_the_map_shows_the_layers_that_import_linter_enforces(text):
    layers = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
    lacking = [chain(one) for one in layers if chain(one) not in text]
    assert not lacking, f"docs/architecture.md must hold these lines: {lacking}"


def test_every_import_rule_is_on_the_map(text):
    lacking = [contract["name"] for contract in CONTRACTS if contract["name"] not in text]
    assert not lacking, f"add to 'Who may import whom' in docs/architecture.md: {lacking}"


def test_every_package_folder_is_installed():
    packages = {folder.rstrip("/").replace("/", ".") for folder in package_folders(ROOT)}
    assert packages - {"benchmarks"} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_file_and_function_is_short_enough_to_be_read():
    assert not overlong(ROOT)


def test_what_is_too_long_is_named_with_its_lines(tmp_path):
    body = "    pass\n"
    (tmp_path / "crypto").mkdir()
    (tmp_path / "crypto" / "fits.py").write_text(f"def fits():\n{body * 49}" + "\n" * 350)
    (tmp_path / "crypto" / "long.py").write_text(f"class A:\n  def f():\n{body * 50}" + "\n" * 349)
    assert overlong(tmp_path) == [
        "split crypto/long.py: 401 lines, at most 400",
        "split crypto/long.py::f: 51 lines, at most 50",
    ]


def test_a_folder_that_is_not_on_the_map_is_named(tmp_path, text):
    root = skeleton(tmp_path)
    (root / "clients" / "imagined").mkdir()
    (root / "clients" / "imagined" / "dream.py").write_text('"""A dream."""\n')
    (root / "unheard-of").mkdir()
    assert missing_from(text, root) == [
        "add to 'Rooms': | `clients/imagined/` | what it holds |",
        "add to 'Rooms': | `unheard-of/` | what it holds |",
        "add to the table of `clients/imagined/`: | `clients/imagined/dream.py` | what it holds |",
    ]


def test_a_mention_outside_the_tables_does_not_put_a_file_on_the_map(text):
    row = next(line for line in text.splitlines() if line.startswith("| `clients/client_app.py` |"))
    without = text.replace(row, "see `clients/client_app.py`")
    assert [fault for fault in missing_from(without, ROOT) if "client_app.py" in fault]


def test_a_reference_to_what_does_not_exist_is_named():
    wrong = [
        "clients/gone.py",
        "clients/imagined/",
        "clients/learning/dp_sgd.py::unclipped",
        "clients/site/hospital.py::Hospital.peek",
    ]
    right = ["clients/learning/dp_sgd.py::clipped_gradient_sum", "crypto/schemes.py::SCHEMES"]
    text = " ".join(f"`{reference}`" for reference in wrong + right)
    assert [fault.split("`")[1] for fault in wrong_references(text, ROOT)] == sorted(wrong)


def skeleton(folder: Path) -> Path:
    """Copy the rooms' Python files, the map's neighbours and the rules into a folder."""
    for room in ROOMS:
        shutil.copytree(
            ROOT / room,
            folder / room,
            ignore=lambda place, names: [
                name
                for name in names
                if name == "__pycache__" or not (name.endswith(".py") or Path(place, name).is_dir())
            ],
        )
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def broken_contracts(root: Path) -> set[str]:
    """Run import-linter over a copy of the rooms and return the names of the broken contracts."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+?) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE)
    assert {name for name, _ in verdicts} == {contract["name"] for contract in CONTRACTS}, (
        done.stdout + done.stderr
    )
    broken = {name for name, verdict in verdicts if verdict == "BROKEN"}
    assert bool(done.returncode) == bool(broken)
    return broken


@pytest.mark.parametrize(
    ("planted", "broken"),
    [
        ("", set()),
        ("import clients.data.records\n", {NO_DATA}),
        ("from crypto.keys import Keys\n", {NO_KEYS}),
    ],
    ids=["nothing", "hospital data", "keys"],
)
def test_an_import_planted_at_the_server_breaks_exactly_its_rule(tmp_path, planted, broken):
    root = skeleton(tmp_path)
    module = root / "strategies" / "nodes.py"
    module.write_text(module.read_text(encoding="utf-8") + planted, encoding="utf-8")
    assert broken_contracts(root) == broken
