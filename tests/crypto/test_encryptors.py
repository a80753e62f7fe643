"""What encrypts is made of its keys once for all who hold them, and is gone when they are."""

import gc

import numpy as np
import pytest

from crypto import bfv
from crypto.bfv import encryptor_of
from crypto.keys import Keys
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)


def plan_of(scheme: str, mode: str):
    return plan_sealing(values=60, hospitals=2, grid=GRID, scheme=scheme, key_mode=mode)


@pytest.mark.parametrize("scheme", ["bfv", "ckks"])
@pytest.mark.parametrize("mode", ["symmetric", "public"])
def test_holders_of_the_same_keys_share_one_encryptor_and_others_do_not(scheme: str, mode: str):
    plan = plan_of(scheme, mode)
    keys = make_keys(plan)
    same = Keys.from_bytes(keys.to_bytes())
    assert encryptor_of(plan, keys) is encryptor_of(plan, same)
    assert encryptor_of(plan, make_keys(plan)) is not encryptor_of(plan, keys)


def test_nothing_that_encrypts_outlives_its_keys():
    plan = plan_of("bfv", "symmetric")
    keys = make_keys(plan)
    same, digest = Keys.from_bytes(keys.to_bytes()), keys.digest
    encryptor_of(plan, keys)
    encryptor_of(plan, same)
    del keys
    gc.collect()
    assert digest in bfv._ENCRYPTORS
    del same
    gc.collect()
    assert digest not in bfv._ENCRYPTORS


def test_what_one_seals_another_opens_with_keys_of_its_own():
    plan = plan_of("bfv", "symmetric")
    keys = make_keys(plan)
    other = Keys.from_bytes(keys.to_bytes())
    place, values = Place(training="t", round=1, attempt=1), np.linspace(-1, 1, 60)
    adder, nonces = make_adder(plan, keys.key_id), {}
    for name, held in (("a", keys), ("b", other)):
        sealed = make_sealer(plan, held, name).seal(values, place)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    opened = make_opener(plan, other).open(adder.total(), nonces, place)
    np.testing.assert_allclose(opened, 2 * values, atol=2 * GRID.step)


def test_every_part_of_the_keys_is_in_their_digest():
    plan = plan_of("bfv", "public")
    keys, other = make_keys(plan), make_keys(plan)
    assert len(keys.digest) == 32
    parts = {n: getattr(keys, n) for n in ("parameter_id", "group_key", "secret", "public")}
    others = {n: getattr(other, n) for n in parts} | {"parameter_id": "ab" * 32}
    for name, value in others.items():
        assert Keys(**{**parts, name: value}).digest != keys.digest, name
