"""A consortium's folder: keys, certificates, pins, and what goes into the app bundle."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import socket
import ssl
import threading
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.fab import Fab

from clients.site.readiness import site_faults
from clients.site.site_file import read_site_file
from crypto.identity import Identity, fingerprint
from deployment.authority import Authority
from deployment.bundle import build_bundle, bundle_digest
from deployment.checks import check_site
from deployment.cli import main
from deployment.consortium import UNBUNDLED, Consortium, make_keys, renew_server_certificate
from deployment.control import read_public_key
from deployment.errors import DeploymentError
from deployment.supernode import Notary, Pauses
from tests.deployment.proofs import leaks
from tests.deployment.real_sites import at, benchmark_consortium, rewrite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return benchmark_consortium(tmp_path_factory.mktemp("made") / "consortium", 3)


def test_only_the_owner_can_read_private_files(consortium: Consortium) -> None:
    private = [
        consortium.authority / "ca.key",
        consortium.superlink / "server.key",
        *(consortium.site(n) / "private" / "node.key" for n in consortium.hospitals),
        *(consortium.site(n) / "private" / "identity.key" for n in consortium.hospitals),
    ]
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}


def test_every_site_pins_every_identity(consortium: Consortium) -> None:
    made = {
        name: fingerprint(
            Identity.load_or_create(consortium.site(name) / "private" / "identity.key").public
        )
        for name in consortium.hospitals
    }
    for name in consortium.hospitals:
        assert read_site_file(consortium.site(name) / "site.toml").pins == made


def test_node_keys_are_p384_in_openssh_format(consortium: Consortium) -> None:
    for name in consortium.hospitals:
        data = (consortium.site(name) / "private" / "node.key").read_bytes()
        key = load_ssh_private_key(data, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp384r1"
        ours = read_public_key(consortium.superlink / "nodes" / f"{name}.pub")
        assert ours == read_public_key(consortium.site(name) / "node.pub")


def _handshake(server: Path, trusted: Path, host: str) -> None:
    """Shake hands over TLS with a server's certificate, trusting one authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / "server.pem", server / "server.key")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            context.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client = ssl.create_default_context(cafile=str(trusted))
        with client.wrap_socket(ours, server_hostname=host):
            pass
    finally:
        ours.close()
        thread.join()


def test_the_servers_certificate_is_trusted_by_its_own_name_only(consortium: Consortium) -> None:
    _handshake(consortium.superlink, consortium.site("hospital-00") / "ca.pem", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(consortium.superlink, consortium.superlink / "ca.pem", "other.example.org")


def test_a_certificate_of_another_authority_is_refused(
    consortium: Consortium, tmp_path: Path
) -> None:
    other = benchmark_consortium(tmp_path / "other", 3)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(other.superlink, consortium.site("hospital-00") / "ca.pem", "localhost")


def test_a_renewed_certificate_is_trusted_without_new_files(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "consortium", 3)
    before = (made.superlink / "server.pem").read_bytes()
    renew_server_certificate(made)
    assert (made.superlink / "server.pem").read_bytes() != before
    _handshake(made.superlink, made.site("hospital-01") / "ca.pem", "localhost")


def test_an_authority_cannot_be_a_server() -> None:
    authority = Authority.make("test")
    usage = authority.certificate.extensions.get_extension_for_class
    from cryptography import x509

    assert usage(x509.BasicConstraints).value.path_length == 0
    assert not usage(x509.KeyUsage).value.digital_signature


def test_a_folder_with_something_in_it_is_left_alone(consortium: Consortium) -> None:
    with pytest.raises(DeploymentError, match="not empty"):
        benchmark_consortium(consortium.folder, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hospitals": ["Lyon", "turin"]}, "lower-case"),
        ({"hospitals": ["lyon", "../turin"]}, "lower-case"),
        ({"hospitals": ["lyon", "lyon"]}, "its own name"),
        ({"hospitals": ["lyon"]}, "at least two"),
        ({"address": "example.org"}, "host:port"),
    ],
)
def test_what_cannot_be_a_consortium_says_why(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(DeploymentError, match=said):
        benchmark_consortium(tmp_path / "c", 3, **changes)
    assert not (tmp_path / "c").exists()


def test_keys_are_never_overwritten(consortium: Consortium) -> None:
    site = consortium.site("hospital-00")
    before = (site / "private" / "node.key").read_bytes()
    with pytest.raises(FileExistsError):
        make_keys(site)
    assert (site / "private" / "node.key").read_bytes() == before


def test_a_hospitals_own_keys_show_in_fingerprint_and_public_half(tmp_path: Path) -> None:
    said, public = make_keys(tmp_path)
    assert said == fingerprint(Identity.load_or_create(tmp_path / "private/identity.key").public)
    assert public == (tmp_path / "node.pub").read_bytes()


def test_checks_are_red_for_what_is_wrong_and_green_for_the_rest(tmp_path: Path) -> None:
    made = benchmark_consortium(tmp_path / "c", 3, allowed_apps=[bundle_digest()])
    rewrite(made, "hospital-00", "test-mode = true", "test-mode = true\n# checked")
    (made.site("hospital-00") / "private" / "node.key").chmod(0o644)
    found = {f.text: f.good for f in check_site(made.site("hospital-00"))}
    red = [text for text, good in found.items() if not good]
    assert any("chmod 600" in text for text in red)
    assert any("does not answer" in text for text in red)
    assert any("identities are pinned" in text for text, good in found.items() if good)
    assert any("is allowed" in text for text, good in found.items() if good)


def test_the_bundle_is_the_same_each_time_and_holds_nothing_secret(tmp_path: Path) -> None:
    first = build_bundle(ROOT)
    assert first == build_bundle(ROOT)
    assert len(first) < 10_000_000
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        for name in names:
            data = archive.read(name)
            assert b"PRIVATE KEY-----\n" not in data, name
            assert not name.startswith(("runs/", "wandb/", "consortium")), name
            assert Path(name).suffix in {"", ".py", ".toml", ".md", ".yaml", ".yml", ".json"}, name
            assert Path(name).name != "site.toml", name


def test_the_bundle_is_flowers_whatever_else_lies_in_the_apps_folder(tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(ROOT / "accounting", app / "accounting")
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, app / name)
    for place in (".venv", ".flwr", "accounting/.venv", "accounting/__pycache__", "runs", ".own"):
        (app / place).mkdir(parents=True, exist_ok=True)
        (app / place / "module.py").write_text(f"{place = }\n")
    (app / "linked.py").symlink_to(app / "accounting" / "grid.py")
    with pytest.warns(DeprecationWarning, match="gitwildmatch"):
        of_flower = build_fab_from_disk(app)
    assert build_bundle(app) == of_flower


def test_a_consortium_inside_the_apps_folder_stays_out_of_the_bundle(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        (app / name).write_bytes((ROOT / name).read_bytes())
    for room in ("clients", "strategies"):
        (app / room).mkdir()
        for file in (ROOT / room).glob("*.py"):
            (app / room / file.name).write_bytes(file.read_bytes())
    before = build_bundle(app)
    benchmark_consortium(app / "consortium", 3)
    assert build_bundle(app) == before


@pytest.mark.parametrize("how", [bytes, lambda data: data.hex().encode(), base64.b64encode])
def test_a_leaked_key_would_be_found(tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    made = benchmark_consortium(tmp_path / "c", 3)
    assert leaks(made) == []
    private = made.site("hospital-01") / "private"
    secret = bytes.fromhex((private / "identity.key").read_text())
    (made.superlink / "superlink.db").write_bytes(b"ab" + how(b"xyz" + secret + b"z") + b"c")
    (made.site("hospital-02") / "copy").write_bytes((private / "node.key").read_bytes())
    assert len(leaks(made)) == 2


def test_a_consortium_inside_the_app_needs_a_name_that_stays_out_of_the_bundle() -> None:
    with pytest.raises(DeploymentError, match="'consortium'"):
        benchmark_consortium(ROOT / "trial", 3)
    assert not (ROOT / "trial").exists()
    assert f"{UNBUNDLED}*/" in (ROOT / ".gitignore").read_text().split()


def _verified(notary: Notary, fab: Fab) -> bool:
    """What Flower's own check says, the one that a SuperNode makes."""
    from flwr.supernode.start_client_internal import _verify_fab

    certified = notary.certify(fab)
    licensed = bool(certified.verifications.get("valid_license", ""))
    return licensed and _verify_fab(certified, notary.entities)


def test_flower_refuses_every_bundle_but_the_allowed_one() -> None:
    allowed, other = b"the app", b"the app, modified"
    digests = [hashlib.sha256(content).hexdigest() for content in (allowed, other)]
    notary = Notary(frozenset({digests[0]}))
    assert _verified(notary, Fab(digests[0], allowed, {}))
    assert not _verified(notary, Fab(digests[1], other, {}))
    assert not _verified(notary, Fab(digests[0], other, {})), "a false name for other bytes"
    assert not _verified(notary, Fab(digests[1], other, {"valid_license": "yes"}))
    assert not _verified(Notary(frozenset()), Fab(digests[0], allowed, {}))


def test_any_bundle_runs_where_a_hospital_says_so_but_under_its_own_name_only() -> None:
    content = b"the app, modified"
    digest = hashlib.sha256(content).hexdigest()
    notary = Notary(frozenset(), any_app=True)
    assert _verified(notary, Fab(digest, content, {}))
    assert not _verified(notary, Fab("0" * 64, content, {}))


def test_what_init_makes_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = benchmark_consortium(tmp_path / "c", 3)
    finally:
        os.umask(before)
    for name in made.hospitals:
        assert site_faults(read_site_file(made.site(name) / "site.toml")) == []


def test_a_renewed_authority_trusts_what_it_signed_and_is_put_everywhere(tmp_path: Path) -> None:
    with at(datetime.now(UTC) - timedelta(days=3651)):
        made = benchmark_consortium(tmp_path / "c", 3)
    renew_server_certificate(made)
    trusted = made.site("hospital-01") / "ca.pem"
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(made.superlink, trusted, "localhost")
    assert main(["renew", str(made.folder), "--authority"]) == 0
    _handshake(made.superlink, trusted, "localhost")
    found = {file.read_bytes() for file in made.folder.rglob("ca.pem")}
    assert len(found) == 1


def test_pauses_grow_while_idle_and_are_short_again_after_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("deployment.supernode.time.sleep", slept.append)
    pauses = Pauses(0.2)
    for _ in range(40):
        pauses.sleep(3)
    assert slept[0] == 0.2
    assert slept[-1] == 3.0
    assert all(b <= 1.26 * a for a, b in pairwise(slept))
    pauses.sleep(0.5)
    pauses.sleep(3)
    assert slept[-1] == 0.2
