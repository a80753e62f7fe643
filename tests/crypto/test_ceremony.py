import copy
import dataclasses
import logging
import os
import pickle
import stat

import pytest

from crypto.ceremony import (
    BundlePublic,
    EphemeralSecret,
    Offer,
    make_bundle,
    make_offer,
    open_bundle,
)
from crypto.errors import (
    CeremonyError,
    EnvelopeError,
    IdentityError,
    KeysError,
    PinMismatchError,
    SealingError,
    SignatureError,
)
from crypto.identity import Identity, fingerprint
from crypto.keys import Keys
from crypto.planning import plan_sealing
from crypto.roles import Quantiser
from crypto.schemes import make_keys

PLAN = plan_sealing(values=10, hospitals=3, grid=Quantiser(step=0.5, bound=8.0), scheme="bfv")
NAMES = ("a", "b", "c")


class Party:
    def __init__(self, name, training="t"):
        self.name = name
        self.signing_secret = os.urandom(32)
        self.identity = Identity(self.signing_secret)
        self.offer, self.secret = make_offer(training, name, self.identity)


@pytest.fixture(name="parties")
def make_parties():
    return {name: Party(name) for name in NAMES}


def pins_of(parties):
    return {name: fingerprint(party.identity.public) for name, party in parties.items()}


def offers_of(parties):
    return [party.offer for party in parties.values()]


def lead(parties, leader="a", pins=None):
    return make_bundle(offers_of(parties), parties[leader].identity, leader, PLAN, pins or {})


def receive(parties, bundle, name, *, offers=None, public=None, wrapped=None, pins=None):
    return open_bundle(
        public or bundle.public,
        bundle.wrapped[name] if wrapped is None else wrapped,
        offers or offers_of(parties),
        parties[name].secret,
        name,
        pins or {},
        PLAN,
    )


def test_every_hospital_comes_to_the_same_keys(parties):
    keys, bundle = lead(parties, pins=pins_of(parties))
    assert set(bundle.wrapped) == {"b", "c"}
    for name in ("b", "c"):
        assert receive(parties, bundle, name, pins=pins_of(parties)) == keys
    assert bundle.public.key_id == keys.key_id.hex()


def test_messages_survive_their_encodings(parties):
    keys, bundle = lead(parties)
    offers = [Offer.from_bytes(offer.to_bytes()) for offer in offers_of(parties)]
    public = BundlePublic.from_bytes(bundle.public.to_bytes())
    parties["b"].secret = EphemeralSecret.from_bytes(parties["b"].secret.to_bytes())
    assert receive(parties, bundle, "b", offers=offers, public=public) == keys


def test_offers_may_arrive_in_any_order(parties):
    keys, bundle = lead(parties)
    assert receive(parties, bundle, "c", offers=offers_of(parties)[::-1]) == keys


def test_another_leader_takes_the_place_of_a_dead_one(parties):
    _, first = lead(parties, "a")
    keys, second = lead(parties, "b")
    assert receive(parties, second, "c") == keys
    assert receive(parties, second, "a") == keys
    assert receive(parties, first, "c") != keys


def test_a_new_ceremony_without_the_dead_hospital_works(parties):
    del parties["a"]
    keys, bundle = lead(parties, "b")
    assert receive(parties, bundle, "c") == keys


def test_a_fingerprint_that_is_not_pinned_is_refused(parties):
    pins = pins_of(parties)
    _, bundle = lead(parties)
    for wrong in ({**pins, "c": pins["b"]}, {name: pins[name] for name in ("a", "b")}):
        with pytest.raises(PinMismatchError, match="'c'"):
            lead(parties, pins=wrong)
        with pytest.raises(PinMismatchError, match="'c'"):
            receive(parties, bundle, "b", pins=wrong)
    impostor = Party("a")
    forged = [impostor.offer, parties["b"].offer, parties["c"].offer]
    _, theirs = make_bundle(forged, impostor.identity, "a", PLAN, {})
    with pytest.raises(PinMismatchError, match="'a'"):
        receive(parties, theirs, "b", offers=forged, pins=pins)


def test_changed_offers_are_refused(parties):
    _, bundle = lead(parties)
    swapped = Party("c")
    offers = [parties["a"].offer, parties["b"].offer, swapped.offer]
    with pytest.raises(CeremonyError, match="other offers"):
        receive(parties, bundle, "b", offers=offers)
    with pytest.raises(CeremonyError, match="other offers"):
        receive(parties, bundle, "b", offers=offers[:2])
    unsigned = dataclasses.replace(parties["c"].offer, ephemeral=swapped.offer.ephemeral)
    with pytest.raises(SignatureError, match="'c'"):
        receive(parties, bundle, "b", offers=[*offers[:2], unsigned])
    with pytest.raises(CeremonyError, match="one name"):
        lead({**parties, "d": Party("c")})
    with pytest.raises(CeremonyError, match="one training"):
        lead({**parties, "d": Party("d", training="other")})


def test_a_server_in_the_middle_cannot_replace_a_hospitals_offer(parties):
    replaced = dict(parties)
    replaced["b"] = Party("b")
    _, bundle = lead(replaced)
    with pytest.raises(CeremonyError, match="replaced"):
        receive(parties, bundle, "b", offers=offers_of(replaced))


def test_a_bundle_not_signed_by_its_leader_is_refused(parties):
    _, bundle = lead(parties)
    for change in ({"leader": "c"}, {"key_id": "00" * 16}, {"training": "t"}, {"wrapped": {}}):
        public = dataclasses.replace(bundle.public, **change)
        if public == bundle.public:
            public = dataclasses.replace(public, signature=bytes(64))
        with pytest.raises(SignatureError):
            receive(parties, bundle, "b", public=public)


def test_wrapped_keys_open_for_their_hospital_alone(parties):
    _, bundle = lead(parties)
    with pytest.raises(EnvelopeError):
        receive(parties, bundle, "b", wrapped=bundle.wrapped["c"])
    changed = bytearray(bundle.wrapped["b"])
    changed[50] ^= 1
    with pytest.raises(EnvelopeError):
        receive(parties, bundle, "b", wrapped=bytes(changed))


def test_another_plan_than_ones_own_is_refused(parties):
    _, bundle = lead(parties)
    other = plan_sealing(values=11, hospitals=3, grid=Quantiser(step=0.5, bound=8.0), scheme="bfv")
    with pytest.raises(CeremonyError, match="another plan"):
        open_bundle(
            bundle.public,
            bundle.wrapped["b"],
            offers_of(parties),
            parties["b"].secret,
            "b",
            {},
            other,
        )


def test_a_leader_without_an_offer_of_its_own_is_refused(parties):
    with pytest.raises(CeremonyError, match="not among"):
        make_bundle(offers_of(parties), Identity.generate(), "a", PLAN, {})
    with pytest.raises(CeremonyError, match="not among"):
        make_bundle(offers_of(parties), parties["a"].identity, "d", PLAN, {})


def test_secrets_are_in_no_message_unwrapped_nor_in_any_repr_or_log(parties, caplog):
    with caplog.at_level(logging.DEBUG):
        keys, bundle = lead(parties)
        receive(parties, bundle, "b")
    secrets = [
        keys.group_key,
        keys.secret[200:232],
        parties["b"].secret.to_bytes(),
        *(party.signing_secret for party in parties.values()),
    ]
    messages = [
        bundle.public.to_bytes(),
        *bundle.wrapped.values(),
        *(offer.to_bytes() for offer in offers_of(parties)),
    ]
    shown = " ".join(
        [
            repr(keys),
            str(keys),
            repr(bundle),
            repr(parties["b"].secret),
            repr(parties["b"].identity),
            caplog.text,
        ]
    )
    for secret in secrets:
        assert not any(secret in message for message in messages)
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_secrets_are_neither_pickled_nor_copied(parties):
    for secret in (make_keys(PLAN), parties["a"].secret, parties["a"].identity):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(SealingError):
                attempt(secret)


def test_keys_survive_their_explicit_bytes_and_refuse_changed_ones():
    keys = make_keys(PLAN)
    data = keys.to_bytes()
    assert Keys.from_bytes(data) == keys
    flipped = data[:90] + bytes([data[90] ^ 1]) + data[91:]
    for wrong in (b"", data[:-1], data + b"0", b"X" + data[1:], flipped):
        with pytest.raises(KeysError):
            Keys.from_bytes(wrong)


def test_an_identity_file_is_private_and_stable(tmp_path):
    path = tmp_path / "keys" / "identity"
    identity = Identity.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load_or_create(path).public == identity.public
    assert [entry.name for entry in path.parent.iterdir()] == ["identity"]
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="0600"):
        Identity.load_or_create(path)
    path.write_text("nonsense")
    path.chmod(0o600)
    with pytest.raises(IdentityError):
        Identity.load_or_create(path)
