"""The patient's page by HTTP: what it answers, whom it refuses, and what its agent ever holds."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
from contextlib import ExitStack

import numpy as np
import pytest
from clinics import OCTETS, Visitor, clinic
from some_models import artefact
from three_parties import heard, parties

from clients.prediction.predictor import Predictor
from crypto.errors import EnvelopeError
from crypto.inference.sealed_shares import ShareOpener, seal
from crypto.inference.words import encode
from deployment.clinic import app, asking, serving
from deployment.clinic.asking import code_of
from deployment.clinic.command import redirection
from deployment.clinic.guards import Pace
from deployment.clinic.page import make_page
from deployment.clinic.serving import Place
from deployment.clinic.texts import TEXTS
from deployment.errors import DeploymentError
from deployment.inference.agents import Agent
from deployment.inference.deposits import MOST_OF_ONE, Deposits
from deployment.inference.folders import read_folder
from deployment.inference.servers import Denied

SHAPE = (3, 28, 28)


@pytest.fixture(scope="module")
def made():
    return artefact("logistic", SHAPE, spread=0.05)


@pytest.fixture(scope="module")
def three(tmp_path_factory, made):
    with parties(tmp_path_factory.mktemp("three"), made, per_day=100) as running:
        yield running


@pytest.fixture(scope="module")
def served(three):
    with clinic(three.folder / "patients" / "ada", patience=20.0) as server:
        yield server


@pytest.fixture
def visitor(served):
    return Visitor(served)


def picture(seed=0):
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def words_of(values, about):
    gain, offset = (np.reshape(about[name], (-1, 1, 1)) for name in ("gain", "offset"))
    return encode(values.astype(np.float64) * gain + offset)


def test_shares_get_the_models_answer_with_its_doubt(visitor, made):
    about = visitor.about()
    assert (about["size"], about["channels"], about["share"]) == (28, 3, "9 in 10")
    *steps, last = visitor.ask(words_of(picture(), about), about)
    assert [one["step"] for one in steps] == ["deposited", "prepared", "answered"]
    answer = last["answer"]
    plain = Predictor(made).chances(picture()[None])[0]
    assert np.abs(np.array(answer["chances"]) - plain).max() < 1e-3
    assert answer["favourite"] in answer["within"]
    assert answer["left"] == about["left"] - 1
    assert all(row[2] > 0 for row in last["sent"])


def test_the_picture_and_the_providers_share_are_in_nothing_that_the_agent_sends(
    visitor, three, monkeypatch
):
    sent = heard(monkeypatch)
    about = visitor.about()
    words = words_of(picture(3), about)
    mask = np.random.default_rng(5).integers(0, 2**64, words.shape, dtype=np.uint64)
    assert "answer" in visitor.ask(words, about, seed=5)[-1]
    everything = b"".join(bytes(one) for one in sent.values())
    for name, needle in (("picture", words), ("provider's", mask), ("agent's", words - mask)):
        raw = needle.tobytes()
        found = [at for at in range(0, len(raw), 64) if raw[at : at + 8] in everything]
        assert not found, f"the {name} words at {found[:5]}"
    # The control: what an agent would send if a page did not mask what it shares.
    monkeypatch.setattr("clinics.seal", lambda public, share, model: share + bytes(81))
    visitor.ask(words, about, seed=5)
    everything = b"".join(bytes(one) for one in sent.values())
    assert mask.tobytes()[:800] in everything


@pytest.mark.parametrize(
    ("headers", "options", "status"),
    [
        ({}, {"host": "evil.example:80"}, 421),
        ({}, {"host": "127.0.0.1"}, 421),
        ({"Origin": "http://evil.example"}, {}, 403),
        ({"Origin": "null"}, {}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, {}, 403),
        ({}, {"token": False}, 401),
        ({"Authorization": "Bearer "}, {"token": False}, 401),
        ({"Authorization": "Bearer é"}, {"token": False}, 401),
    ],
    ids=["rebound", "no port", "other page", "file", "cross-site", "none", "empty", "odd"],
)
def test_nobody_else_may_ask(visitor, headers, options, status):
    for method, path in (("GET", "/about"), ("POST", "/predictions?model=x")):
        got, came, body = visitor.send(method, path, headers=headers, **options)
        assert got == status
        assert json.loads(body)["error"] in TEXTS["errors"]
        assert not [name for name in came if name.lower().startswith("access-control")]


def test_no_other_page_is_allowed_by_a_preflight(visitor):
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for headers in (asking, {**asking, "Origin": visitor.origin}):
        status, came, _ = visitor.send("OPTIONS", "/predictions", headers=headers, token=False)
        assert status in (401, 403)
        assert not [name for name in came if name.lower().startswith("access-control")]


def test_the_page_loads_nothing_and_runs_its_own_script_alone(visitor):
    status, headers, body = visitor.send("GET", "/", token=False)
    text = body.decode()
    assert status == 200
    assert visitor.token not in text
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z/]""", text)
    policy = headers["Content-Security-Policy"]
    assert policy == make_page().policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    for needed in ("frame-ancestors 'none'", "default-src 'none'", "connect-src 'self'"):
        assert needed in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_every_text_of_the_script_is_in_the_catalogue():
    script = make_page().html.decode()
    codes = set(re.findall(r'new Refused\("([a-z-]+)"', script)) | {"text", "volume", "tiff"}
    assert len(codes) > 12
    assert codes <= set(TEXTS["errors"])
    for key in re.findall(r"TEXTS\.(\w+)", script):
        assert key in TEXTS
    refusals = {"model", "limit", "dry", "dealer", "packet", "deposit", "busy", "size"}
    assert refusals <= set(TEXTS["errors"])


def test_what_is_no_two_shares_is_refused(visitor):
    about = visitor.about()
    path, size = f"/predictions?model={about['model']}", 2 * 8 * 3 * 28 * 28 + 81
    for status, code, where, body, headers in (
        (409, "model", "/predictions?model=other", bytes(size), OCTETS),
        (415, "type", path, bytes(size), {"Content-Type": "text/plain"}),
        (413, "size", path, bytes(size + 1), OCTETS),
        (413, "size", path, b"", OCTETS),
    ):
        got, _, said = visitor.send("POST", where, body, headers)
        assert (got, json.loads(said)["error"]) == (status, code)
    got, _, said = visitor.send("POST", path, bytes(size), OCTETS)
    assert got == 200
    assert json.loads(said) == {"error": "deposit"}
    assert visitor.about()["left"] == about["left"], "what is not taken is not counted"


def test_shares_that_trickle_in_are_given_up(three):
    with clinic(three.folder / "patients" / "ada", body_seconds=0.2) as server:
        slow = Visitor(server)
        head = (
            f"POST /predictions?model={slow.about()['model']} HTTP/1.1\r\nHost: {slow.host}\r\n"
            f"Authorization: Bearer {slow.token}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {2 * 8 * 3 * 28 * 28 + 81}\r\n\r\nabc"
        )
        host, _, port = slow.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(head.encode())
            with plain.makefile("rb") as file:
                said = file.read()
    assert b" 408 " in said.splitlines()[0]
    assert said.endswith(b'{"error":"slow"}')


def test_whoever_connects_and_says_nothing_keeps_nobody_out(three, monkeypatch):
    monkeypatch.setattr(serving, "_KEEP_SECONDS", 0.2)
    with clinic(three.folder / "patients" / "ada") as server, ExitStack() as held:
        visitor = Visitor(server)
        host, _, port = visitor.host.partition(":")
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: "):
            for _ in range(serving._MOST_GUESTS):
                plain = held.enter_context(socket.create_connection((host, int(port)), 20.0))
                plain.sendall(begun)
        assert plain.recv(1) == b"", "ended by the agent"
        assert visitor.about()["classes"]


def test_a_new_connection_ends_one_that_asks_nothing_and_none_that_is_answered(three, monkeypatch):
    monkeypatch.setattr(serving, "_KEEP_SECONDS", 60)
    begun, wait = threading.Event(), threading.Event()

    def slow(*_, **__):
        begun.set()
        assert wait.wait(20)
        yield {"answer": 1}

    monkeypatch.setattr(app, "asked", slow)
    with clinic(three.folder / "patients" / "ada") as server, ExitStack() as held:
        visitor = Visitor(server)
        host, _, port = visitor.host.partition(":")
        about, answered = visitor.about(), []
        words = np.zeros((3, 28, 28), dtype=np.uint64)
        patient = threading.Thread(target=lambda: answered.extend(visitor.ask(words, about)))
        patient.start()
        assert begun.wait(20)
        flood = [
            held.enter_context(socket.create_connection((host, int(port)), 20.0))
            for _ in range(3 * serving._MOST_GUESTS)
        ]
        assert visitor.about()["classes"]
        assert flood[0].recv(1) == b"", "the oldest made room"
        wait.set()
        patient.join()
        assert answered == [{"answer": 1}]
        held.pop_all().close()


def test_the_connection_ends_before_anything_is_told_of_the_answer(three, made, monkeypatch):
    """An answer that is no class, say, ends it no sooner: the provider would see that."""
    seen, close = [], Agent.close
    monkeypatch.setattr(Agent, "close", lambda self: seen.append("closed") or close(self))
    with three.agent() as agent:
        sealed = seal(bytes.fromhex(agent.seal), bytes(8 * 3 * 28 * 28), agent.model)
        model = agent.model
    seen.clear()
    folder = read_folder(three.folder / "patients" / "ada", "patient")
    for said in asking.asked(folder, model, bytes(8 * 3 * 28 * 28), sealed):
        seen.append(said.get("step", "told"))
    assert seen == ["deposited", "prepared", "closed", "answered", "told", "closed"]


def test_a_page_that_is_left_halfway_lets_the_next_one_ask(three, monkeypatch):
    monkeypatch.setattr(app, "asked", lambda *_, **__: iter([{"step": "prepared"}, {"answer": 1}]))
    folder = read_folder(three.folder / "patients" / "ada", "patient")
    page = app.Clinic(folder, patience=1.0, body_seconds=1.0)
    first = page._lines("m", b"", b"")
    assert json.loads(next(first)) == {"step": "prepared"}
    assert [json.loads(one) for one in page._lines("m", b"", b"")] == [{"error": "busy"}]
    first.close()
    assert len(list(page._lines("m", b"", b""))) == 2


def test_what_the_other_parties_refuse_has_its_words(three, made, tmp_path):
    with parties(tmp_path, made, per_day=1) as few, clinic(few.folder / "patients/ada") as server:
        visitor = Visitor(server)
        about = visitor.about()
        assert about["agent"] == visitor.about()["agent"] != visitor.token
        words = words_of(picture(), about)
        assert "answer" in visitor.ask(words, about)[-1]
        assert visitor.ask(words, about)[-1] == {"error": "limit"}
        few.provider.close()
        status, _, said = visitor.send("GET", "/about")
        assert (status, json.loads(said)) == (502, {"error": "link"})
        assert visitor.ask(words, about) == [{"error": "link"}]


def test_a_browser_is_started_without_the_token(three):
    folder = read_folder(three.folder / "patients" / "ada", "patient")
    with redirection(folder, "http://127.0.0.1:1/#secret") as file:
        assert "secret" not in file.as_uri()
        assert "#secret" in file.read_text()
        assert not file.stat().st_mode & 0o77
    assert not file.exists()


def test_so_many_pass_and_no_more():
    pace = Pace(3, 60.0)
    assert [pace.passes() for _ in range(5)] == [True, True, True, False, False]
    quick = Pace(2, 0.0)
    assert all(quick.passes() for _ in range(9))


def test_a_sealed_share_opens_for_its_key_and_model_alone():
    opener, other = ShareOpener(), ShareOpener()
    closed = seal(opener.public, b"share", "m1")
    assert opener.open(closed, "m1") == b"share"
    changed = closed[:-1] + bytes([closed[-1] ^ 1])
    for who, bytes_, model in (
        (other, closed, "m1"),
        (opener, closed, "m2"),
        (opener, changed, "m1"),
        (opener, bytes(100), "m1"),
        (opener, b"", "m1"),
    ):
        with pytest.raises(EnvelopeError):
            who.open(bytes_, model)
    assert "hidden" in repr(opener)


def test_a_share_is_its_patients_and_nobody_fills_the_provider():
    deposits = Deposits((2,))
    token = deposits.put(bytes(16), "ada")
    with pytest.raises(Denied):
        deposits.take(token, "eve")
    assert deposits.take(token, "ada").shape == (2,)
    for _ in range(MOST_OF_ONE):
        deposits.put(bytes(16), "eve")
    with pytest.raises(Denied) as denied:
        deposits.put(bytes(16), "eve")
    assert denied.value.reason == "busy"
    deposits.put(bytes(16), "ada")


def test_it_is_served_on_this_machine_or_by_tls():
    for address, fault in (
        ("0.0.0.0:0", "every address"),
        ("[::]:0", "every address"),
        ("example.org:80", "expected an IP address"),
        ("127.0.0.1:x", "cannot listen"),
    ):
        with pytest.raises(DeploymentError, match=fault):
            Place.bound(address)
    place = Place.bound("localhost:0")
    place.listening.close()
    assert not place.secure
    assert [one.rpartition(":")[0] for one in place.origins] == [
        "http://127.0.0.1",
        "http://localhost",
    ]


def test_beyond_this_machine_the_page_comes_with_the_agents_own_certificate(three):
    folder = read_folder(three.folder / "patients" / "ada", "patient")
    place = Place.bound("127.0.0.1:0")
    host, port = place.listening.getsockname()
    far = Place(place.listening, (f"https://{host}:{port}",), True)
    with clinic(folder.path, far):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(folder.path / "certificate.pem")
        connection = http.client.HTTPSConnection(host, port, timeout=20, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()


def test_an_error_without_a_word_of_its_own_tells_its_kind_alone(caplog):
    needle = f"needle {1 / 8}"
    try:
        raise ValueError(needle)
    except ValueError as error:
        assert code_of(error) == "failed"
    assert "ValueError" in caplog.text
    assert needle not in caplog.text
