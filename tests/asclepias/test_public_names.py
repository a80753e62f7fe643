"""The public names: what there is, what is loaded for it, and how it types."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import asclepias

ROOT = Path(__file__).parents[2]
TYPED = Path(__file__).with_name("typed_app.py")


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in asclepias.__all__:
        found = getattr(asclepias, name)
        assert name == "__version__" or found.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'SecureFedAverage'"):
        asclepias.SecureFedAverage  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert asclepias.__version__ == project["version"]


@pytest.mark.exhaustive
def test_each_side_loads_nothing_of_the_other() -> None:
    code = (
        "import sys, asclepias\n"
        "assert not {'torch', 'flwr'} & set(sys.modules)\n"
        "asclepias.private_client\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('strategies', 'simulations')]\n"
        "assert 'clients.client_app' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    code = (
        "import sys, asclepias\n"
        "asclepias.SecureFedAvg\n"
        "assert not [m for m in sys.modules if m.startswith(('clients.site', 'simulations'))]\n"
        "assert 'clients.client_app' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.exhaustive
def test_a_file_that_uses_only_the_face_is_strictly_typed() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(TYPED)]
    quiet = ["--follow-imports=silent", "--no-warn-unused-ignores", "--cache-dir=.mypy_cache/face"]
    done = subprocess.run([*command, *quiet], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
