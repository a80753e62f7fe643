"""`asclepias check`: each thing that can be wrong has its own red line, which says what to do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from accounting.ledger import Ledger
from clients.site.site_file import read_site_file
from deployment.authority import Authority, write_certificate
from deployment.bundle import bundle_digest
from deployment.checks import check_site, check_superlink
from deployment.cli import main
from deployment.consortium import Consortium, renew_server_certificate
from deployment.errors import DeploymentError
from deployment.superlink import start_superlink
from deployment.superlink_folder import read_superlink
from deployment.supernode import run_supernode
from deployment.validity import served_fault
from tests.deployment.real_sites import at, benchmark_consortium, rewrite, without_pins

LYON = "hospital-00"


def _red(folder: Path) -> list[str]:
    return [finding.text for finding in check_site(folder) if not finding.good]


def _real_records(made: Consortium) -> None:
    rewrite(made, LYON, "simulated-partition = 0\n", "")


def _ends_soon(made: Consortium) -> None:
    write_certificate(made.site(LYON) / "ca.pem", Authority.make("a", days=5).certificate)


def _foreign_ledger(made: Consortium) -> None:
    path = made.site(LYON) / "private" / "ledger.jsonl"
    Ledger(path, site="turin", cohort="breast-cancer").close()


def _ended(made: Consortium) -> None:
    with at(datetime.now(UTC) - timedelta(days=4000)):
        ended = Authority.make("lyon's")
    write_certificate(made.site(LYON) / "ca.pem", ended.certificate)


def _not_begun(made: Consortium) -> None:
    with at(datetime(2099, 5, 6, tzinfo=UTC)):
        future = Authority.make("lyon's")
    write_certificate(made.site(LYON) / "ca.pem", future.certificate)


def _without(file: str) -> Callable[[Consortium], None]:
    return lambda made: (made.site(LYON) / "private" / file).unlink()


def _failed_audit(made: Consortium) -> None:
    found = {"training": "t", "passed": False, "failures": ["noise that came before"]}
    file = made.site(LYON) / "private" / "audit-t.json"
    file.write_text(json.dumps(found))
    file.chmod(0o600)


def _unpinned(made: Consortium) -> None:
    without_pins(made, LYON)


def _opened(place: str, mode: int) -> Callable[[Consortium], None]:
    return lambda made: (made.site(LYON) / place).chmod(mode)


def _instead(old: str, new: str) -> Callable[[Consortium], None]:
    return lambda made: rewrite(made, LYON, old, new)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_instead('"breast-cancer"', '"csv:none.csv"'), "none.csv"),
        (_instead(bundle_digest(), "0" * 64), "does not hold the app installed here"),
        (_instead("[pins]\n", "[other]\n"), "[other] is unknown"),
        (_unpinned, 'write name = "SHA256:..." for every hospital there'),
        (_instead(f'["{bundle_digest()}"]', "[]"), "that 'asclepias bundle' prints"),
        (_ended, 'the certificate of "lyon\'s authority"'),
        (_not_begun, "is not valid before 2099-05-05"),
        (_opened("private/identity.key", 0o644), "chmod 600"),
        (_opened("private", 0o755), "chmod 700"),
        (_opened("site.toml", 0o666), "mode 666"),
        (_opened(".", 0o777), "mode 777"),
        (_instead('"private/ledger.jsonl"', '"/dev/null"'), "is a device"),
        (_real_records, "test-mode = true over real records"),
        (_ends_soon, "ca.pem ends in 4 days"),
        (_foreign_ledger, "is the ledger of turin"),
        (_failed_audit, "the audit of training t failed: noise that came before"),
        (_without("node.key"), "node.key is missing"),
        (_without("identity.key"), "identity.key is missing"),
    ],
)
def test_what_is_wrong_at_a_site_gets_a_red_line_of_its_own(
    tmp_path: Path, break_it: Callable[[Consortium], None], said: str
) -> None:
    made = benchmark_consortium(tmp_path / "c", 3, allowed_apps=[bundle_digest()])
    site = made.site(LYON)
    sound = _red(site)
    break_it(made)
    before = sorted(path.name for path in (site / "private").iterdir())
    found = [text for text in _red(site) if text not in sound]
    assert any(said in text for text in found), found
    assert sorted(path.name for path in (site / "private").iterdir()) == before


def test_limits_are_missed_where_records_are_real(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    _real_records(made)
    rewrite(made, LYON, "test-mode = true", "test-mode = false")
    assert any("[data] public = true over real" in text for text in _red(made.site(LYON)))
    rewrite(made, LYON, "public = true", "public = false")
    assert any("max-epsilon is not set" in text for text in _red(made.site(LYON)))


def test_a_port_in_use_is_called_out(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        rewrite(made, LYON, "runtime-port = 0", f"runtime-port = {port}")
        assert any(f"{port} is in use" in text for text in _red(made.site(LYON)))


@contextmanager
def _superlink_with_a_clock(made: Consortium, ahead: timedelta) -> Iterator[int]:
    """Answer over TLS as the consortium's SuperLink, with a clock that is ahead."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + ahead, usegmt=True)

        def log_message(self, *words: object) -> None:
            pass

    class Quiet(HTTPServer):
        def handle_error(self, *words: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Health)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.superlink / "server.pem", made.superlink / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("ahead", "good"), [(0, True), (90, False)])
def test_clocks_that_differ_are_called_out(tmp_path: Path, ahead: int, good: bool) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    with _superlink_with_a_clock(made, timedelta(seconds=ahead)) as port:
        rewrite(made, LYON, f'superlink = "{made.address}"', f'superlink = "127.0.0.1:{port}"')
        clock = [f for f in check_site(made.site(LYON)) if f.text.startswith("clock")]
    assert [finding.good for finding in clock] == [good]
    assert good or "synchronise" in clock[0].text


def test_a_superlinks_folder_without_a_hospitals_key_is_called_out(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    (made.superlink / "nodes" / f"{LYON}.pub").unlink()
    red = [finding.text for finding in check_superlink(made.superlink) if not finding.good]
    assert any(f"no key of {LYON}" in text for text in red)


def test_the_command_fails_if_a_line_is_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    assert main(["check", "--site", str(made.site(LYON))]) == 1
    printed = capsys.readouterr().out
    assert "ok   " in printed
    assert "FAIL " in printed


def test_sites_that_trust_first_use_or_any_app_by_hand_are_green(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3, allowed_apps=[bundle_digest()])
    without_pins(made, LYON)
    rewrite(made, LYON, "test-mode = true", "test-mode = true\ntrust-on-first-use = true")
    rewrite(made, LYON, f'allowed-apps = ["{bundle_digest()}"]', "any-app = true")
    found = {finding.text: finding.good for finding in check_site(made.site(LYON))}
    assert any("the first keys seen are pinned" in text for text, good in found.items() if good)
    assert any("every bundle that the SuperLink" in text for text, good in found.items() if good)


def _served_by(made: Consortium, days: int) -> None:
    """Give the SuperLink a certificate that ended so many days ago, by its own authority."""
    with at(datetime.now(UTC) - timedelta(days=365 + days)):
        renew_server_certificate(made)


def test_a_server_whose_certificate_ended_is_named_with_its_date_and_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployment.supernode.forbid_core_dumps", lambda: None)
    made = benchmark_consortium(tmp_path / "c", 3)
    authority = made.site(LYON) / "ca.pem"
    with _superlink_with_a_clock(made, timedelta()) as port:
        assert served_fault(f"127.0.0.1:{port}", authority) == ""
    _served_by(made, 3)
    ended = datetime.now(UTC) - timedelta(days=3)
    with _superlink_with_a_clock(made, timedelta()) as port:
        said = served_fault(f"127.0.0.1:{port}", authority)
        rewrite(made, LYON, f'superlink = "{made.address}"', f'superlink = "127.0.0.1:{port}"')
        assert said in _red(made.site(LYON))
        with pytest.raises(DeploymentError, match="asclepias renew"):
            run_supernode(read_site_file(made.site(LYON) / "site.toml"))
    assert f"shown by 127.0.0.1:{port}) ended on {ended:%Y-%m-%d}" in said
    assert "'127.0.0.1'" in said
    assert "asclepias renew" in said


def test_no_superlink_starts_with_a_certificate_that_ended(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    _served_by(made, 3)
    with pytest.raises(DeploymentError, match=r"server\.pem\) ended on .*asclepias renew"):
        start_superlink(read_superlink(made.superlink), host="127.0.0.1")
    red = [finding.text for finding in check_superlink(made.superlink) if not finding.good]
    assert any("server.pem) ended on" in text for text in red)
    renew_server_certificate(made)
    (made.superlink / "server.key").chmod(0o640)
    with pytest.raises(DeploymentError, match=r"mode 640.*chmod 600"):
        start_superlink(read_superlink(made.superlink), host="127.0.0.1")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_unpinned, "[pins] is empty"),
        (_instead(f'["{"0" * 64}"]', "[]"), "allowed-apps is empty"),
        (_ended, "ended on"),
        (_not_begun, "not valid before 2099-05-05"),
        (_opened("private/node.key", 0o604), "chmod 600"),
        (_instead('"private/ledger.jsonl"', '"private"'), "is a folder"),
    ],
)
def test_a_supernode_does_not_start_at_a_site_that_is_not_ready(
    tmp_path: Path,
    break_it: Callable[[Consortium], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployment.supernode.forbid_core_dumps", lambda: None)
    made = benchmark_consortium(tmp_path / "c", 3)
    break_it(made)
    assert main(["supernode", "--site", str(made.site(LYON))]) == 2
    assert said in capsys.readouterr().err
