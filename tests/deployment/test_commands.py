"""The command line: what it prints, what it refuses, and who may ask a SuperLink for what."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clients.site_file import read_site_file
from deployment.cli import main
from deployment.superlink import LocalOnly, read_superlink


def test_init_makes_a_consortium_that_its_own_files_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "c"
    words = ["init", str(folder), "--address", "fl.example.org:9092", "--data", "npz:scans.npz"]
    assert main([*words, "--hospital", "lyon", "--hospital", "turin"]) == 0
    link = read_superlink(folder)
    assert (link.address, link.hospitals) == ("fl.example.org:9092", ("lyon", "turin"))
    site = read_site_file(folder / "sites" / "turin" / "site.toml")
    assert (site.hospital, site.superlink, site.data_name) == (
        "turin",
        "fl.example.org:9092",
        "npz:scans.npz",
    )
    assert site.limits.max_epsilon is not None
    assert not site.test_mode
    assert len(site.allowed_apps) == 1
    printed = capsys.readouterr().out
    assert site.pins["lyon"] in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init", "c", "--hospital", "lyon"], "at least two hospitals"),
        (["init", "c", "--hospital", "a", "--hospital", "b", "--test-mode"], "no privacy"),
        (["init", "c", "--benchmark", "default", "--hospital", "a"], "leave --hospital out"),
        (["superlink", "nowhere"], "asclepias init"),
        (["status", "nowhere"], "asclepias init"),
        (["supernode", "--site", "nowhere"], "cannot be read"),
        (["submit", "default", "--superlink", "nowhere"], "asclepias init"),
        (["check"], "--site DIR or --superlink DIR"),
        (["sumbit", "default"], "submit"),
    ],
)
def test_a_mistake_gets_one_sentence_that_says_what_to_do(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) in (1, 2)
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_keys_print_the_public_halves_and_refuse_to_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "--site", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "ecdsa-sha2-nistp384" in printed
    assert "SHA256:" in printed
    assert main(["keys", "--site", str(tmp_path)]) == 1
    assert "move it away first" in capsys.readouterr().err


def _status(path: str, client: str) -> int:
    """Ask `LocalOnly` for a path from an address; 200 is the SuperLink behind it."""

    async def superlink(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200})  # type: ignore[operator]

    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "client": (client, 4711)}
    asyncio.run(LocalOnly(superlink)(scope, None, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "client", "status"),
    [
        ("/v1/fleet/pull-messages", "10.0.0.7", 200),
        ("/health", "10.0.0.7", 200),
        ("/v1/control/start-run", "10.0.0.7", 403),
        ("/v1/control/register-node", "10.0.0.7", 403),
        ("/v1/runtime/acquire-task", "10.0.0.7", 403),
        ("/v1/fleet/../control/start-run", "10.0.0.7", 403),
        ("/", "10.0.0.7", 403),
        ("/v1/control/start-run", "127.0.0.1", 200),
        ("/v1/runtime/acquire-task", "::1", 200),
    ],
)
def test_only_the_hospitals_interface_is_open_to_other_machines(
    path: str, client: str, status: int
) -> None:
    assert _status(path, client) == status
