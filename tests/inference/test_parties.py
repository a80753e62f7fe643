"""Provider, dealer and patient over TLS: what they send, and how each of their faults ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from some_models import artefact
from three_parties import Parties, change, heard, needles, parties, written

from clients.prediction.predictor import Predictor
from clients.prediction.private_program import compile_model
from crypto.coins import KeyStream
from crypto.errors import IdentityError
from crypto.inference.links import LinkError, Refusal
from crypto.inference.parties import Party
from crypto.inference.words import encode
from deployment.errors import DeploymentError
from deployment.inference import identities
from deployment.inference.folders import read_folder
from deployment.inference.identities import make_identity
from deployment.inference.packets import Packets, PacketSeeds
from deployment.inference.providers import MOST_AT_ONCE
from deployment.inference.servers import MOST_GUESTS, MOST_OF_A_PATIENT

SHAPE = (3, 4, 4)


@pytest.fixture(scope="module")
def model():
    return artefact("logistic", SHAPE)


@pytest.fixture
def three(tmp_path, model):
    with parties(tmp_path, model) as made:
        yield made


def picture(seed=0):
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def shared(model, inputs):
    return encode(compile_model(model).prepared(inputs))


def predicted(agent, model, inputs):
    agent.prepare()
    return agent.predict(shared(model, inputs)).chances


def test_neither_picture_nor_model_is_in_what_is_sent_logged_or_written(
    three, model, monkeypatch, caplog
):
    caplog.set_level("DEBUG")
    sent, inputs = heard(monkeypatch), picture()
    with three.agent() as agent:
        list(agent.fetch(1))
        for _ in range(2):
            found = predicted(agent, model, inputs)
    assert np.abs(found - Predictor(model).chances(inputs[None])[0]).max() < 1e-3
    places = [*map(bytes, sent.values()), *written(three), caplog.text.encode()]
    assert set(sent) == {"the provider", "the dealer", "provider", "ada"}
    assert not [one for one in needles(model, inputs) if any(one in place for place in places)]
    assert f"{found[0]:.4f}" not in caplog.text


def test_control_without_randomness_the_search_finds_both(tmp_path, model, monkeypatch):
    monkeypatch.setattr(KeyStream, "words", lambda self, count: np.zeros(count, np.uint64))
    with parties(tmp_path, model) as three:
        sent, inputs = heard(monkeypatch), picture()
        with three.agent() as agent:
            predicted(agent, model, inputs)
    words = needles(model, inputs)[6:8]
    assert any(one in sent["the provider"] for one in words), "the picture, at the provider"
    matrix = compile_model(model).weights["2"].words.tobytes()
    assert matrix in sent["ada"], "the weights, at the patient"


def test_what_the_dealer_gets_depends_on_neither_picture_nor_weights(tmp_path, monkeypatch):
    got = []
    for seed in (0, 1):
        made = artefact("logistic", SHAPE, seed=seed)
        sent = heard(monkeypatch)
        (tmp_path / str(seed)).mkdir()
        with parties(tmp_path / str(seed), made) as three, three.agent() as agent:
            predicted(agent, made, picture(seed))
        got.append(bytes(sent["the dealer"]))
        monkeypatch.undo()
    frames = [_frames(one) for one in got]
    ids = {"model", "packet"}
    for one, other in zip(*frames, strict=True):
        if one.startswith(b"{"):
            first, second = json.loads(one), json.loads(other)
            assert {k: v for k, v in first.items() if k not in ids} == {
                k: v for k, v in second.items() if k not in ids
            }
        else:
            assert len(one) == len(other) == 32, "the seed of a mask, from the operating system"


def _frames(sent):
    frames = []
    while sent:
        size = int.from_bytes(sent[:4], "little")
        frames.append(sent[4 : 4 + size])
        sent = sent[4 + size :]
    return frames


def test_a_page_gives_one_share_to_each(three, model):
    inputs = picture(5)
    whole = shared(model, inputs)
    other = np.random.default_rng(1).integers(0, 2**64, whole.shape, dtype=np.uint64)
    token = three.provider.deposits.put(other.tobytes(), "ada")
    with three.agent() as agent:
        agent.prepare()
        found = agent.predict(whole - other, token).chances
        assert np.abs(found - Predictor(model).chances(inputs[None])[0]).max() < 1e-3
        agent.prepare()
        with pytest.raises(Refusal, match="used, or is too old"):
            agent.predict(whole - other, token)
    with pytest.raises(Exception, match="expected 384"):
        three.provider.deposits.put(b"short")


def test_a_packet_is_used_once_whoever_asks_again(three, model):
    with three.agent() as agent:
        list(agent.fetch(1))
        (file,) = agent.packets._folder.glob("*.packet")
        copy = file.read_bytes()
        predicted(agent, model, picture())
        assert not list(agent.packets._folder.iterdir()), "removed before it was used"
        name = file.name.partition(".")[0]
        agent.packets.put(name, [copy])
        other, _ = agent.supply.opened()
        assert other.name != name
        with pytest.raises(Refusal, match="used here before"):
            agent._provider.ask({"ask": "prepare", "model": agent.model, "packet": name})
    with three.agent() as agent, agent.supply.dealer() as dealer:
        half = {"ask": "half", "model": agent.model, "packet": name}
        assert dealer.ask(half) == {"ok": False}


def test_of_many_who_take_a_packet_at_once_one_gets_it(tmp_path):
    packets, seeds = Packets(tmp_path / "a"), PacketSeeds(tmp_path / "b", keep_seconds=9.0)
    for round_ in range(10):
        packets.put(f"{round_:032x}", [bytes(64)])
        seeds.put(f"{round_:032x}", bytes(32))
        got = []

        def take(name=f"{round_:032x}", got=got):
            got.append(packets.take())
            try:
                got.append(seeds.take(name))
            except Exception as error:
                assert "used before" in str(error)

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one is not None for one in got) == 2, "one packet, one seed"


def test_answers_are_limited_and_the_count_outlives_the_provider(tmp_path, model):
    three = Parties(tmp_path, model, per_day=2, in_all=3)
    try:
        three.start_dealer()
        three.start_provider()
        with three.agent() as agent:
            assert agent.left == 2
            predicted(agent, model, picture())
            agent.prepare()  # begun is counted
        three.provider.close()
        three.start_provider()
        with three.agent() as agent:
            with pytest.raises(DeploymentError, match="no packet was used"):
                agent.prepare()
            agent.left = 1  # a patient who insists
            with pytest.raises(Refusal, match="2 predictions a day") as error:
                agent.prepare()
        assert error.value.reason == "limit"
        with three.agent() as agent:
            assert agent.left == 0
    finally:
        three.close()


def test_a_dealer_without_packets_says_so(tmp_path, model, monkeypatch):
    def full(self, model):
        raise OSError(errno.ENOSPC, "No space left on device")

    three = Parties(tmp_path, model)
    monkeypatch.setattr("deployment.inference.dealers.Dealer._make_one", full)
    try:
        three.start_dealer(wait=0.3)
        three.start_provider()
        with three.agent() as agent, pytest.raises(Refusal, match="no packet is ready") as error:
            agent.prepare()
        assert error.value.reason == "dry"
        assert three.provider.allowances.left("ada") == 20, "nothing was used up"
    finally:
        three.close()


def test_a_dealer_that_is_gone_is_named_and_no_packet_is_lost(three, model):
    with three.agent() as agent:
        list(agent.fetch(1))
        three.dealer.close()
        with pytest.raises(LinkError, match="the dealer cannot be reached"):
            agent.prepare()
        assert len(agent.packets) == 1
    with three.agent() as agent, pytest.raises(Refusal, match="dealer cannot be reached"):
        agent._provider.ask({"ask": "prepare", "model": agent.model, "packet": "0" * 32})


def test_a_patient_who_disappears_ends_one_prediction_and_no_other(three, model, monkeypatch):
    with three.agent() as gone:
        gone.prepare()
        # Half of the way: the provider waits for what never comes.
        gone._provider.ask({"ask": "predict", "deposit": ""})
    with three.agent() as agent:
        assert np.isfinite(predicted(agent, model, picture())).all()
    deadline = time.monotonic() + 5
    while threading.active_count() > 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list((three.folder / "dealer" / "seeds").glob("*.taken"))
    with pytest.raises(DeploymentError, match="nothing is prepared"):
        gone.predict(shared(model, picture()))


def test_a_connection_that_is_cut_half_way_names_the_provider(three, model, monkeypatch):
    def cut(self, share, shape):
        self._link._connection.close()
        raise LinkError("cut")

    with three.agent(patience=5.0) as agent:
        agent.prepare()
        with monkeypatch.context() as patch:
            patch.setattr(Party, "to_patient", lambda self, share: cut(self, share, None))
            with pytest.raises(LinkError):
                agent.predict(shared(model, picture()))
        with pytest.raises(DeploymentError, match="a packet of its own"):
            agent.predict(shared(model, picture()))
    with three.agent() as agent:
        assert np.isfinite(predicted(agent, model, picture())).all()


def test_a_provider_that_is_busy_says_so_before_it_counts(three, model):
    three.provider._patience = 0.2
    for _ in range(MOST_AT_ONCE):
        three.provider._places.acquire()
    with three.agent() as agent, pytest.raises(Refusal, match="under way") as error:
        agent.prepare()
    assert error.value.reason == "busy"
    assert three.provider.allowances.left("ada") == 20
    for _ in range(MOST_AT_ONCE):
        three.provider._places.release()
    with three.agent() as agent:
        assert np.isfinite(predicted(agent, model, picture())).all()


def test_a_patient_who_connects_without_end_keeps_no_other_out(tmp_path, model):
    with parties(tmp_path, model, patients=("ada", "ben")) as three, ExitStack() as held:
        for _ in range(MOST_OF_A_PATIENT):
            held.enter_context(three.agent())
        for _ in range(MOST_GUESTS):
            with suppress(LinkError, Refusal):
                held.enter_context(three.agent(patience=2.0))
        with three.agent("ben", patience=5.0) as agent:
            assert np.isfinite(predicted(agent, model, picture())).all()
        held.pop_all().close()
        deadline = time.monotonic() + 5
        while three.provider.server._guests["ada"] and time.monotonic() < deadline:
            time.sleep(0.01)
        with three.agent() as agent:
            assert np.isfinite(predicted(agent, model, picture())).all()


def test_a_patient_who_has_too_many_connections_is_told_so(three):
    with ExitStack() as held:
        for _ in range(MOST_OF_A_PATIENT):
            held.enter_context(three.agent())
        with pytest.raises(Refusal, match="ada has 4 connections already, by other commands or p"):
            three.agent(patience=5.0)


def test_no_more_packets_are_fetched_than_can_be_used(tmp_path, model):
    with parties(tmp_path, model, per_day=1, in_all=6) as three, three.agent() as agent:
        with pytest.raises(DeploymentError, match="answers 6 predictions within 7 days"):
            list(agent.fetch(7))
        assert list(agent.fetch(2)) == [1, 2]
        with pytest.raises(DeploymentError, match="at most 4 more are"):
            list(agent.fetch(5))
        (old, _) = sorted(agent.packets._folder.iterdir())
        os.utime(old, (0, 0))
        assert list(agent.fetch(1)) == [2]  # the dealer has forgotten the seed of the old one
        assert not old.exists()


def test_a_patient_has_time_to_choose_a_picture(tmp_path, model):
    three = Parties(tmp_path, model)
    try:
        three.start_dealer()
        three.start_provider(patience=0.3)
        with three.agent() as agent:
            agent.prepare()
            time.sleep(0.6)
            assert np.isfinite(agent.predict(shared(model, picture())).chances).all()
    finally:
        three.close()


def test_strangers_are_let_in_nowhere(three, tmp_path, model):
    stranger = three.folder / "patients" / "ada"
    for name in ("key.pem", "certificate.pem"):
        (stranger / name).unlink()
    make_identity(stranger, "ada")
    with pytest.raises(LinkError):
        three.agent(patience=3.0)


def test_a_provider_with_another_certificate_is_not_asked(three, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make_identity(other, "provider")
    pin = three.folder / "patients" / "ada" / "peers" / "provider.pem"
    pin.write_bytes((other / "certificate.pem").read_bytes())
    with pytest.raises(LinkError, match="not the pinned provider"):
        three.agent()
    pin.write_text("no certificate")
    with pytest.raises(IdentityError, match=r"provider\.pem is missing or no certificate"):
        three.agent()


@pytest.mark.parametrize(("says", "told"), [(b"", "says nothing"), (b"HTTP/1.1 400\r\n", "speak")])
def test_who_is_silent_or_speaks_otherwise_is_not_called_an_impostor(
    three, monkeypatch, says, told
):
    monkeypatch.setattr(identities, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer, args=(server, says))
        thread.start()
        three.tell_patients(server.getsockname()[1])
        with pytest.raises(LinkError, match=told):
            three.agent()
        thread.join()


def _answer(server, says):
    connection, _ = server.accept()
    with connection:
        connection.sendall(says)
        connection.settimeout(5)
        with suppress(OSError):
            while connection.recv(4096):
                pass


def test_a_patient_may_not_ask_what_the_provider_asks(three):
    with three.agent() as agent:
        for words in ({"ask": "seed", "packet": "0" * 32}, {"ask": "register"}, {"ask": 7}):
            with agent.supply.dealer() as dealer, pytest.raises(Refusal, match="may not ask"):
                dealer.ask(words)
        with pytest.raises(Refusal, match="another model"):
            agent._provider.ask({"ask": "weights", "model": "0" * 32})


def test_a_folder_says_what_is_wrong_with_it(tmp_path, model):
    three = Parties(tmp_path, model)
    path = three.folder / "provider"
    change(path, per_day=0)
    with pytest.raises(DeploymentError, match="per-day is 0"):
        read_folder(path, "provider")
    with pytest.raises(DeploymentError, match="role is 'provider'"):
        read_folder(path, "dealer")
    with pytest.raises(DeploymentError, match="infer init"):
        read_folder(tmp_path, "dealer")
    (path / "key.pem").unlink()
    change(path, per_day=1)
    with pytest.raises(DeploymentError, match="infer key"):
        read_folder(path, "provider")
