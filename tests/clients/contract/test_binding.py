import dataclasses
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from clients.contract import binding
from clients.contract.binding import (
    BoundTerms,
    Parameter,
    PublicFacts,
    bind_digest,
    bound_settings,
    check_training_id,
    differing,
    members_digest,
    own_digest,
    own_text,
    terms_digest,
    training_id,
)
from clients.contract.faults import Fault
from clients.contract.setting_group import since
from clients.contract.setting_tree import SettingTree
from clients.contract.settings import DEFAULTS, Settings
from clients.contract.terms import agree_terms
from clients.contract.training_settings import Training
from crypto.ceremony import make_offer
from crypto.identity import Identity

FACTS = PublicFacts(
    task="binary",
    unit="patient",
    shape=(30,),
    classes=("benign", "malignant"),
    ranges=((0.0, 1.0), (-1.5, 2.25)),
    declared=(("classes", '["benign", "malignant"]'), ("ranges: radius", "[0, 1]")),
)
PARAMETERS = (
    Parameter(name="linear.weight", shape=(2, 30), dtype="float32"),
    Parameter(name="linear.bias", shape=(2,), dtype="float32"),
)
NONCE = bytes(range(16))


def bound(sigma=1.5, **config):
    settings = Settings.from_config(
        {key.replace("__", ".").replace("_", "-"): value for key, value in config.items()}
    )
    terms = agree_terms(
        settings,
        training="t",
        dimensions=62,
        patients=455,
        largest_hospital=90,
        noise_multiplier=sigma,
    )
    return BoundTerms.of(
        settings,
        terms,
        noise_multiplier=sigma,
        largest_hospital=90,
        facts=FACTS,
        parameters=PARAMETERS,
        spare_attempts=6,
        failed_openings=6,
    )


def own(settings=None, **changes):
    fields = {
        "cohort": "breast-cancer",
        "patients": 90,
        "partition": None,
        "ledger": bytes(8),
        "test_mode": False,
    } | changes
    return own_text(settings or Settings(), **fields)


def document(text):
    return json.loads(text.partition("\n")[2])


def test_the_text_is_canonical_and_holds_no_rounded_number():
    text = bound().text()
    prefix, _, body = text.partition("\n")
    assert prefix == "asclepias terms 1"
    assert text.isascii()
    assert json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")) == body
    read = document(text)
    assert list(read) == sorted(read)
    assert json.dumps(read, sort_keys=True, separators=(",", ":")) == body
    assert float.fromhex(read["settings.training.learning-rate"]) == 0.3
    assert not [value for value in read.values() if isinstance(value, float | dict)]


def test_the_text_holds_everything_that_hospitals_agree_on():
    groups = {key.partition(".")[0] for key in document(bound().text())}
    assert groups == {
        "settings",
        "noise-multiplier",
        "hospitals",
        "patients",
        "largest-hospital",
        "invited",
        "schedule",
        "noise",
        "grid",
        "sealing",
        "spare-attempts",
        "failed-openings",
        "facts",
        "parameters",
        "weights",
        "groups",
    }
    for field in dataclasses.fields(BoundTerms):
        assert field.name.replace("_", "-") in groups


def test_two_hospitals_derive_the_same_bits():
    assert bound().text() == bound().text()


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": math.nextafter(1.5, 2)},
        {"patients": 456},
        {"largest_hospital": 91},
        {"invited": ("lyon",)},
        {"spare_attempts": 5},
        {"failed_openings": 3},
        {"facts": dataclasses.replace(FACTS, classes=("malignant", "benign"))},
        {"facts": dataclasses.replace(FACTS, ranges=((0.0, 1.0), (-1.5, 2.5)))},
        {"facts": dataclasses.replace(FACTS, declared=())},
        {"parameters": PARAMETERS[::-1]},
        {"parameters": (dataclasses.replace(PARAMETERS[0], dtype="float64"), PARAMETERS[1])},
        {"weights": "ab" * 32},
        {"groups": (("linear.weight",),)},
    ],
)
def test_a_change_of_any_term_changes_digest_and_id(changes):
    old, new = bound(), dataclasses.replace(bound(), **changes)
    digests = terms_digest(old.text()), terms_digest(new.text())
    assert digests[0] != digests[1]
    assert training_id(digests[0], NONCE) != training_id(digests[1], NONCE)
    (key,) = differing(old.text(), new.text())
    (name,) = changes
    assert key.startswith(name.replace("_", "-"))


@pytest.mark.parametrize(
    ("key", "value", "binds"),
    [
        ("training.rounds", 61, True),
        ("training.momentum", 0.5, True),
        ("sealing.scheme", "modular", True),
        ("model.weights", "other.safetensors", True),
        ("run.snapshot-every", 10, True),
        ("run.seed", 3, True),
        ("run.timeout", 5.0, False),
        ("run.log-level", "debug", False),
        ("run.attempts", 9, False),
        ("tracking.wandb", "disabled", False),
        ("data.dir", "/elsewhere", False),
        ("data.public", True, False),
    ],
)
def test_settings_bind_as_their_field_says(key, value, binds):
    plain = {"privacy.regime": "FPDP"}
    old = bound_settings(Settings.from_config(plain))
    new = bound_settings(Settings.from_config({**plain, key: value}))
    assert (old != new) == binds
    assert (key in old) == binds


def test_every_setting_that_binds_is_in_the_text():
    kept = bound_settings(Settings())
    assert kept.keys() < DEFAULTS.keys()
    assert all(f"settings.{key}" in document(bound().text()) for key in kept)


def test_a_whole_number_given_for_a_fraction_is_the_same_term():
    one = bound(privacy__target_epsilon=2, training__learning_rate=1)
    assert one.text() == bound(privacy__target_epsilon=2.0, training__learning_rate=1.0).text()


def test_a_setting_of_a_later_version_stays_out_while_it_has_its_default():
    class LaterTraining(Training):
        added: int = Field(default=0, json_schema_extra=since("0.3"))

    class LaterTree(SettingTree):
        training: LaterTraining = LaterTraining()

    now = bound_settings(SettingTree())
    assert bound_settings(LaterTree()) == now
    used = bound_settings(LaterTree(training=LaterTraining(added=1)))
    assert used == now | {"training.added": 1}


def test_what_is_a_hospitals_own_is_not_in_the_terms_but_in_its_own_text():
    public = Settings.from_config({"data.public": True})
    assert bound_settings(public) == bound_settings(Settings())
    for changed in (
        own(public),
        own(cohort="other"),
        own(patients=91),
        own(partition=0),
        own(ledger=bytes(7) + b"1"),
        own(test_mode=True),
    ):
        assert own_digest(changed) != own_digest(own())
        assert len(differing(own(), changed)) == 1


def test_texts_of_one_kind_have_no_digest_of_another():
    with pytest.raises(ValueError, match="begin"):
        terms_digest(own())
    with pytest.raises(ValueError, match="begin"):
        own_digest(bound().text())


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, object(), b"bytes"])
def test_what_has_no_exact_text_is_refused(wrong):
    changed = dataclasses.replace(bound(), grid={"step": wrong})
    with pytest.raises(ValueError, match="no canonical text"):
        changed.text()


def test_an_id_is_forty_small_letters_and_digits_of_terms_and_nonce():
    terms = terms_digest(bound().text())
    one = training_id(terms, NONCE)
    assert re.fullmatch("[a-z2-7]{40}", one)
    check_training_id(one, terms, NONCE)
    for training, digest, nonce in (
        (training_id(terms, bytes(16)), terms, NONCE),
        (one, bytes(32), NONCE),
        (one, terms, bytes(16)),
        (one.upper(), terms, NONCE),
        (one[:39], terms, NONCE),
        ("resumed", terms, NONCE),
        (one, terms, b""),
        (one, b"", NONCE),
    ):
        with pytest.raises(Fault) as caught:
            check_training_id(training, digest, nonce)
        assert caught.value.code == "training-bound"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16), st.data())
def test_any_flipped_byte_of_terms_or_nonce_is_another_training(terms, nonce, data):
    both = bytearray(terms + nonce)
    both[data.draw(st.integers(0, 47))] ^= data.draw(st.integers(1, 255))
    assert training_id(bytes(both[:32]), bytes(both[32:])) != training_id(terms, nonce)


def test_members_are_all_offers_in_any_order_and_headers_bind_both():
    offers = [make_offer("t", name, Identity.generate())[0] for name in ("a", "b")]
    members = members_digest(offers)
    assert members == members_digest(reversed(offers))
    assert len({members, members_digest(offers[:1]), members_digest(offers[1:])}) == 3
    terms = terms_digest(bound().text())
    assert bind_digest(terms, members) != bind_digest(members, terms)
    assert len(bind_digest(terms, members)) == len(binding.UNBOUND) == 32
    for wrong in ((b"", members), (terms, bytes(31))):
        with pytest.raises(ValueError, match="32 bytes"):
            bind_digest(*wrong)


@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers()),
    st.dictionaries(st.text("abc", min_size=1), st.integers()),
)
def test_differing_keys_are_exactly_those_that_changed(old, new):
    texts = [dataclasses.replace(BASE, settings=one).text() for one in (old, new)]
    changed = {k for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
    assert differing(*texts) == sorted(f"settings.{key}" for key in changed)
    assert (texts[0] == texts[1]) == (not changed)


BASE = bound()
