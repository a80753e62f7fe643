"""Linear models on encrypted rows: right answers, drowned noise, and bytes that are none."""

from __future__ import annotations

import resource
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from some_models import artefact
from three_parties import heard, needles, parties, written

from clients.prediction.predictor import Predictor
from clients.prediction.private_program import compile_model
from crypto.inference import encrypted
from crypto.inference.encrypted import (
    ANSWER_BYTES,
    FLOOD,
    SLOTS,
    EncryptedError,
    RowKeys,
    answer_row,
)
from crypto.inference.links import Refusal
from crypto.inference.words import encode
from deployment.errors import DeploymentError
from deployment.inference import encrypted_rows
from deployment.inference.encrypted_rows import EncryptedRows, linear_of


@pytest.fixture(scope="module")
def keys():
    return RowKeys.make()


def model(terms, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(2, terms)) / np.sqrt(terms), draw.normal(size=2)


@pytest.mark.parametrize("terms", [1, SLOTS, SLOTS + 1])
def test_answers_are_the_products_within_the_flood(keys, terms):
    weights, bias = model(terms)
    row = np.random.default_rng(1).normal(size=terms)
    found = keys.decrypt(answer_row(keys.public, keys.encrypt(row), weights, bias))
    assert np.abs(found - (weights @ row + bias)).max() < 2 * FLOOD


def slots_of(keys, answer):
    """Return the complex numbers in all slots of an answer, as its patient can read them."""
    seal, context = encrypted._context()
    plain = seal.Plaintext()
    cipher = encrypted._read(answer)
    seal.Decryptor(context, keys._secret).decrypt(cipher, plain)
    return np.asarray(seal.CKKSEncoder(context).decode_complex(plain))


def test_the_flood_drowns_what_the_noise_says_of_the_weights(keys, monkeypatch):
    weights, bias = model(300)
    row = np.random.default_rng(2).normal(size=300)
    sent = keys.encrypt(row)
    flooded = slots_of(keys, answer_row(keys.public, sent, weights, bias)[0])
    centre = flooded - (weights[0] @ row + bias[0])
    for part in (centre.real, centre.imag):
        assert np.abs(part).max() < 1.1 * FLOOD
        assert np.abs(part).mean() == pytest.approx(FLOOD / 2, rel=0.05), "uniform"
    # Control: without it, slots differ by the noise alone, far below the flood.
    zeros = np.zeros(SLOTS, np.complex128)
    monkeypatch.setattr(encrypted, "_floods", lambda: (zeros, zeros))
    bare = slots_of(keys, answer_row(keys.public, sent, weights, bias)[0])
    noise = bare - bare.mean()
    assert max(np.abs(noise.real).max(), np.abs(noise.imag).max()) < 2.0**-38 * FLOOD


def test_answers_to_the_same_row_share_no_polynomial(keys):
    weights, bias = model(5)
    sent = keys.encrypt(np.ones(5))
    one, other = (answer_row(keys.public, sent, weights, bias)[0] for _ in range(2))
    halves = [np.frombuffer(answer[-len(answer) // 2 :], np.uint8) for answer in (one, other)]
    same = (halves[0] == halves[1]).mean()
    assert same < 0.05, "1 of 256 bytes by chance, and the upper bits of residues below 2**60"


def test_what_is_no_row_or_too_large_is_refused(keys):
    weights, bias = model(5)
    for row in (np.array([np.nan]), np.array([2.0**11]), np.zeros(0)):
        with pytest.raises(EncryptedError):
            keys.encrypt(row)
    good = keys.encrypt(np.ones(5))
    with pytest.raises(EncryptedError, match="expected 1"):
        answer_row(keys.public, good * 2, weights, bias)
    with pytest.raises(EncryptedError, match="too large"):
        answer_row(keys.public, good, weights * np.inf, bias)
    for place in (0, 1, 2):
        pieces = [*keys.public, good[0]]
        pieces[place] = b"none" * 100
        with pytest.raises(EncryptedError, match="is none"):
            answer_row((pieces[0], pieces[1]), [pieces[2]], weights, bias)


def test_an_agent_gets_the_plain_answer_and_nobody_picture_or_model(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    made = artefact("logistic", (3, 4, 4))
    inputs = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    row = encode(compile_model(made).prepared(inputs))
    with parties(tmp_path, made, per_day=3, encrypted=True) as three, three.agent() as agent:
        sent = heard(monkeypatch)
        found = agent.predict_encrypted(row).chances
        assert agent.left == 2
        assert np.abs(found - Predictor(made).chances(inputs[None])[0]).max() < 1e-3
        assert set(sent) == {"the provider", "ada"}, "no dealer takes part"
        places = [*map(bytes, sent.values()), *written(three), caplog.text.encode()]
        assert not [one for one in needles(made, inputs) if any(one in place for place in places)]
        # The control: a row that is sent as it is.
        plain = compile_model(made).prepared(inputs).tobytes()
        with monkeypatch.context() as patch, three.agent() as careless:
            patch.setattr(RowKeys, "encrypt", lambda self, values: [plain])
            with pytest.raises(Refusal):
                careless.predict_encrypted(row)
        with pytest.raises(Refusal, match="comes as two keys"):
            agent._provider.ask({"ask": "encrypted", "model": agent.model, "sizes": [1, 2]})
    assert any(one in sent["the provider"] for one in needles(made, inputs))


def test_seal_is_handed_nothing_that_a_provider_wrote(keys, monkeypatch):
    weights, bias = model(5)
    (first, _) = answer_row(keys.public, keys.encrypt(np.ones(5)), weights, bias)
    assert len(first) == ANSWER_BYTES
    handed = []
    laid_out = encrypted.laid_out
    monkeypatch.setattr(
        encrypted, "laid_out", lambda *said: handed.append(said[1].shape) or laid_out(*said)
    )
    hostile = np.frombuffer(first, dtype="<u8").copy()
    hostile[-1] = encrypted._primes()[-1]
    for wrong in (first[:-8], first + bytes(8), b"", b"\x5e\xa1\x10" * 64, hostile.tobytes()):
        with pytest.raises(EncryptedError, match="an answer"):
            keys.decrypt([wrong])
    assert not handed
    hostile[-1] -= 1
    # Any residues are a ciphertext: of nothing, but finite.
    for numbers in (hostile, np.zeros_like(hostile), np.full_like(hostile, 1 << 59)):
        assert np.isfinite(keys.decrypt([numbers.tobytes()])).all()
    assert handed == [(2, 2, 8192)] * 3


def test_a_child_that_ends_over_hostile_bytes_is_replaced(keys, monkeypatch):
    weights, bias = model(5)
    rows = EncryptedRows(weights, bias)
    try:
        good = keys.encrypt(np.ones(5))
        with pytest.raises(EncryptedError):
            rows.answer((b"x" * 64, keys.public[1]), good)
        rows.answer(keys.public, good)
        rows._pool.submit(__import__("os")._exit, 1)
        with pytest.raises(Exception, match="could not be read"):
            rows.answer(keys.public, good)
        found = keys.decrypt(rows.answer(keys.public, good))
        assert np.abs(found - (weights.sum(axis=1) + bias)).max() < 2 * FLOOD
    finally:
        rows.close()


@pytest.mark.exhaustive
def test_a_row_that_takes_too_long_ends_its_child_and_no_other_row(keys):
    weights, bias = model(5)
    rows = EncryptedRows(weights, bias)
    try:
        good = keys.encrypt(np.ones(5))
        rows.answer(keys.public, good)
        limit = rows._pool.submit(resource.getrlimit, resource.RLIMIT_CPU).result()[0]
        assert 0 < limit <= encrypted_rows.MOST_SECONDS + 60
        rows._pool.submit(resource.setrlimit, resource.RLIMIT_CPU, (1, -1)).result()
        with pytest.raises(BrokenProcessPool):
            rows._pool.submit(eval, "sum(range(10**11))").result()
        with pytest.raises(Exception, match="could not be read"):
            rows.answer(keys.public, good)
        assert len(rows.answer(keys.public, good)) == 2
    finally:
        rows.close()


def test_only_linear_models_take_encrypted_rows(tmp_path):
    assert linear_of(compile_model(artefact("mlp", (5,)))) is None
    assert linear_of(compile_model(artefact("logistic", (5,)), "class")) is None
    matrix, bias = linear_of(compile_model(artefact("scattering", (1, 16, 16))))
    assert matrix.shape[0] == len(bias) == 4
    with (
        parties(tmp_path, artefact("mlp", (5,)), encrypted=True) as three,
        three.agent() as agent,
        pytest.raises(DeploymentError, match="not linear"),
    ):
        agent.predict_encrypted(encode(np.zeros(5)))


def test_a_patient_who_makes_other_keys_reads_all_weights_so_a_provider_has_to_allow_it(
    tmp_path, keys, monkeypatch
):
    """Rotation keys for another secret add garbage; ones that turn to nothing leave the products.

    Here the sum is left out instead, which is what such keys come to: each slot is one weight.
    """
    weights, bias = model(300)
    monkeypatch.setattr(encrypted, "_STEPS", ())
    answers = answer_row(keys.public, keys.encrypt(np.ones(300)), weights, bias)
    read = [slots_of(keys, answer).real[:300] for answer in answers]
    assert np.abs(np.array(read) - bias[:, None] - weights).max() < 2 * FLOOD
    monkeypatch.undo()
    with parties(tmp_path, artefact("logistic", (5,))) as three, three.agent() as agent:
        assert not agent.about.encrypted, "off, unless the provider's file says so"
        with pytest.raises(DeploymentError, match="encrypted = true"):
            agent.predict_encrypted(encode(np.zeros(5)))
        with pytest.raises(Refusal, match="nothing to ask this provider"):
            agent._provider.ask({"ask": "encrypted", "model": agent.model, "sizes": []})
