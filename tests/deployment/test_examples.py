"""The compose files, the image and the systemd units: documented examples, linted."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer.main
import yaml

from deployment.cli import app

EXAMPLES = Path(__file__).resolve().parents[2] / "deployment" / "examples"
COMPOSE = sorted(EXAMPLES.glob("compose.*.yaml"))
UNITS = sorted(EXAMPLES.glob("*.service"))
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _services(file: Path) -> dict:
    return yaml.safe_load(file.read_text())["services"]


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_compose_services_are_pinned_and_without_privileges(file: Path) -> None:
    for service in _services(file).values():
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+", service["image"])
        assert int(service["user"].partition(":")[0]) >= 1000
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
        assert service["command"][0] in COMMANDS


def test_a_hospital_opens_no_port_and_only_its_private_folder_is_writable() -> None:
    [node] = _services(EXAMPLES / "compose.supernode.yaml").values()
    assert "ports" not in node
    writable = [volume["target"] for volume in node["volumes"] if not volume.get("read_only")]
    assert writable == ["/site/private"]


def test_the_image_is_pinned_and_ends_as_a_plain_user() -> None:
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    [base] = [line for line in lines if line.startswith("FROM ")]
    assert re.search(r":\d+\.\d+\.\d+-", base)
    users = [line for line in lines if line.startswith("USER ")]
    assert users and int(users[-1].removeprefix("USER ").partition(":")[0]) >= 1000
    assert any("--constraint constraints.txt" in line for line in lines)


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_units_run_our_command_as_a_plain_user_in_a_closed_system(file: Path) -> None:
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(file.read_text())
    service = unit["Service"]
    assert service["User"] not in ("", "root")
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["UMask"] == "0077"
    for key in ("ExecStart", "ExecStartPre"):
        if key in service:
            words = service[key].split()
            assert words[0].endswith("/asclepias")
            assert words[1] in COMMANDS


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_systemd_itself_accepts_the_units(file: Path, tmp_path: Path) -> None:
    text = file.read_text().replace("/opt/asclepias/.venv/bin/asclepias", "/bin/true")
    copy = tmp_path / file.name
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert "Unknown" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.help
    below = getattr(command, "commands", {})
    for text in [one.epilog for one in below.values()] or [command.epilog]:
        assert f"asclepias {name}" in (text or "")
