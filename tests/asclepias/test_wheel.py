"""A wheel has one package at its top level, and everything works from it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

from simulations.engines.local_server import free_port

ROOT = Path(__file__).parents[2]
#: What an sdist is made of.
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
#: Of each kind of test some, which take seconds.
SAMPLE = (
    "accounting/test_noise.py",
    "clients/learning/test_frames.py",
    "crypto/test_packing.py",
    "crypto/test_schemes.py",
    "asclepias/test_face.py",
)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("asclepias_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(source: str) -> set[str]:
    """The top-level packages that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
    return found


def test_what_names_a_room_is_written_anew_and_nothing_else(build: ModuleType) -> None:
    source = (
        '"""Uses `clients.site`, said of clients.data."""\n'
        "from clients import data; from crypto.roles import Place  # é\n"
        "def later():\n"
        "    from accounting.grid import (\n        plan_grid,\n    )\n"
        "    é = 'é'; return 'clients.client_app:app', 'crypto.', 'strategies', 'simulations.cli'\n"
    )
    made = build.below_face(source)
    assert made == source.replace("from clients import", "from asclepias.clients import").replace(
        "from crypto", "from asclepias.crypto"
    ).replace("from accounting", "from asclepias.accounting").replace(
        "'clients.c", "'asclepias.clients.c"
    ).replace("'simulations.c", "'asclepias.simulations.c")
    with pytest.raises(ValueError, match="line 1: write 'from room import module'"):
        build.below_face("import crypto.roles\n")
    app = 'serverapp = "strategies.server_app:app"\nother = "clients.x:y"\n'
    assert build.project_below_face(app) == app.replace('"strategies', '"asclepias.strategies')


def test_every_room_is_laid_below_the_face(build: ModuleType) -> None:
    setuptools = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rooms = {line.strip(' ",') for line in setuptools.splitlines() if line.startswith('  "')}
    there = {one.name for one in ROOT.iterdir() if (one / "__init__.py").is_file()}
    assert set(build.ROOMS) == (there & rooms) - {"asclepias", "benchmarks", "tests"}


@pytest.fixture(scope="module")
def wheel(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from an sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    source, out = folder / "source", folder / "out"
    source.mkdir()
    out.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source / name)
    for room in (*build.ROOMS, build.FACE):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    made = _built("sdist", source, out)
    with tarfile.open(made) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    return _built("wheel", unpacked, out)


def _built(kind: str, source: Path, out: Path) -> Path:
    code = f"import setuptools.build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and dependencies of this one."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    programs, python = folder / "bin", folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    # A checkout on PYTHONPATH would be taken for what is to be installed.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([*pip, *offline, str(wheel)], check=True, env=kept)
    [packages] = folder.glob("lib/python*/site-packages")
    # A path, whose own .pth files nobody reads: this checkout is not installed there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    there = Path(sys.executable).parent
    for program in (*there.glob("flwr*"), *there.glob("flower-super*")):
        text = program.read_text(encoding="utf-8").partition("\n")[2]
        (programs / program.name).write_text(f"#!{python}\n{text}", encoding="utf-8")
        (programs / program.name).chmod(0o755)
    return programs


def run(command: list[str], cwd: Path, **more: str) -> str:
    kept: Mapping[str, str] = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment = {**kept, "XDG_CACHE_HOME": str(cwd / "cache"), **more}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.exhaustive
def test_a_wheel_has_one_package_whose_modules_have_one_name(build: ModuleType, wheel) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {"asclepias"}
        assert [n for n in names if n.endswith("scenarios/default.toml")]
        assert "asclepias/py.typed" in names
        for name in names:
            if name.endswith(".py"):
                assert not imported(archive.read(name).decode()) & set(build.ROOMS), name
        [said] = [archive.read(n) for n in names if n.endswith("top_level.txt")]
    assert said.split() == [b"asclepias"]


@pytest.mark.exhaustive
def test_commands_and_scenarios_work_from_the_wheel(bare: Path, tmp_path: Path) -> None:
    names = "asclepias.SecureFedAvg, asclepias.private_client"
    code = f"import asclepias, sys; {names}; print(*sys.modules)"
    loaded = run([str(bare / "python"), "-c", code], tmp_path).split()
    rooms = {"accounting", "clients", "crypto", "deployment", "simulations", "strategies"}
    assert "asclepias.clients.client_app" in loaded
    assert not {name.partition(".")[0] for name in loaded} & rooms
    assert "heart-disease" in run([str(bare / "flower-simulation"), "scenarios"], tmp_path)
    digest = run([str(bare / "asclepias"), "bundle"], tmp_path).split()[-1]
    assert len(digest) == 64
    assert "visits.csv" in run([str(bare / "asclepias"), "deidentify", "--help"], tmp_path)
    options = ["--set", "training.rounds=2", "--set", "tracking.wandb=disabled", "--seed", "3"]
    command = [str(bare / "flower-simulation"), "run", "default", *options]
    assert "epsilon" in run([*command, "--out", "ours"], tmp_path)
    assert [*(tmp_path / "ours").rglob("report.html")]


@pytest.fixture(scope="module")
def suite(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests, and what of the repository they look at, with the wheel's names of modules."""
    folder = tmp_path_factory.mktemp("suite")
    for part in ("tests", "benchmarks"):
        for file in (ROOT / part).rglob("*.py"):
            place = folder / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                source = build.below_face(file.read_text(encoding="utf-8"))
            except ValueError:
                continue  # one that is about the repository's own modules
            place.write_text(names_in_code(build, source), encoding="utf-8")
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    config = "[pytest]\npythonpath = .\nmarkers =\n  exhaustive\n  deployment\n"
    (folder / "pytest.ini").write_text(
        config + "addopts = -q -m 'not exhaustive and not deployment'\n"
    )
    return folder


def names_in_code(build: ModuleType, source: str) -> str:
    """Write names of modules anew in texts that are code, which tests hand to other processes."""
    rooms = re.compile(rf"(?<![\w./])(?=(?:{'|'.join(build.ROOMS)})[. ])")
    for node in ast.walk(ast.parse(source)):
        code = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if code and re.search(r"\bimport \w", node.value):
            segment = ast.get_source_segment(source, node) or ""
            lines = [
                rooms.sub(f"{build.FACE}.", line) if "import" in line else line
                for line in segment.splitlines(keepends=True)
            ]
            source = source.replace(segment, "".join(lines))
    return source


#: What fast tests say of the repository's own folders.
OF_A_CHECKOUT = (
    "accounting/test_release.py::"
    "test_only_the_book_issues_receipts_and_only_a_release_takes_values_out",
    "deployment/test_consortium.py::"
    "test_the_bundle_is_flowers_whatever_else_lies_in_the_apps_folder",
    "deployment/test_consortium.py::"
    "test_a_consortium_inside_the_apps_folder_stays_out_of_the_bundle",
    "deployment/test_consortium.py::"
    "test_a_consortium_inside_the_app_needs_a_name_that_stays_out_of_the_bundle",
    "deployment/test_examples.py",
    "door/test_structure.py",
    "simulations/test_cli.py::test_the_old_form_is_accepted",
    "asclepias/test_wheel.py",
)


#: Folders of tests, one or two minutes of a processor each.
ROOMS = (
    *("accounting", "asclepias", "audit", "clients/audit", "clients/contract", "clients/data"),
    *("clients/learning", "clients/models", "clients/prediction", "clients/site"),
    *("clients/tasks", "clients/test_exchanges.py", "crypto", "deployment", "door", "inference"),
    *("simulations", "strategies"),
)


def test_every_folder_of_tests_is_held_against_the_wheel() -> None:
    folders = {file.relative_to(ROOT / "tests") for file in (ROOT / "tests").glob("*/**/test_*.py")}
    left = [one for one in folders if not any(one.is_relative_to(room) for room in ROOMS)]
    assert not left


def hold_against_the_wheel(bare: Path, suite: Path, names: Sequence[str]) -> None:
    words = [f"--deselect=tests/{one}" for one in OF_A_CHECKOUT]
    command = [str(bare / "python"), "-m", "pytest", "-p", "no:cacheprovider", *words]
    said = run([*command, *(f"tests/{name}" for name in names)], suite)
    assert " passed" in said and " failed" not in said


@pytest.mark.exhaustive
def test_a_sample_of_the_tests_holds_against_the_wheel(bare: Path, suite: Path) -> None:
    hold_against_the_wheel(bare, suite, SAMPLE)


@pytest.mark.deployment
@pytest.mark.parametrize("room", ROOMS)
def test_the_fast_tests_of_a_room_hold_against_the_wheel(
    bare: Path, suite: Path, room: str
) -> None:
    hold_against_the_wheel(bare, suite, [room])


@pytest.mark.deployment
def test_a_consortium_is_deployed_from_the_wheel(bare: Path, tmp_path: Path) -> None:
    """SuperLink, three SuperNodes and a run, which ends in the model that the wheel simulates."""
    asclepias = str(bare / "asclepias")
    address = f"127.0.0.1:{free_port()}"
    short = ["--set", "training.rounds=2", "--set", "partition.hospitals=3", "--seed", "3"]
    short += ["--set", "tracking.wandb=disabled"]
    init = [asclepias, "init", "consortium", "--benchmark", "default", "--test-mode"]
    run([*init, "--set", "partition.hospitals=3", "--address", address], tmp_path)
    link = [asclepias, "superlink", "consortium/superlink", "--host", "127.0.0.1"]
    with ExitStack() as stack:
        stack.enter_context(running(link, tmp_path, "ready on"))
        for number in range(3):
            site = f"consortium/sites/hospital-{number:02}"
            node = [asclepias, "supernode", "--site", site]
            stack.enter_context(running(node, tmp_path))
        submit = [asclepias, "submit", "default", "--superlink", "consortium/superlink"]
        assert "epsilon" in run([*submit, *short, "--wait", "120"], tmp_path)
    run([str(bare / "flower-simulation"), "run", "default", *short, "--out", "ours"], tmp_path)
    [deployed] = (tmp_path / "consortium").glob("superlink/runs/*/model.safetensors")
    [simulated] = (tmp_path / "ours").rglob("model.safetensors")
    assert deployed.read_bytes() == simulated.read_bytes()


@contextmanager
def running(command: list[str], folder: Path, ready: str = "") -> Iterator[None]:
    """A process, in a group of its own, that ends with the block."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=file, start_new_session=True,
            env={**kept, "XDG_CACHE_HOME": str(folder / "cache"), "FLWR_TELEMETRY_ENABLED": "0"},
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while ready not in log.read_text(errors="replace"):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
