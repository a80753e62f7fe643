"""Hospitals that have been through a ceremony: their pair keys, sealers and openers."""

import hmac
from functools import lru_cache

from crypto.ceremony import make_offer
from crypto.identity import Identity
from crypto.pairs import PairKeys
from crypto.schemes import make_opener, make_sealer

BIND = bytes(range(32))


@lru_cache(maxsize=32)
def pair_keys(names, bind=BIND, training="t"):
    """Each hospital's pair keys by name, from real offers."""
    made = [make_offer(training, name, Identity.generate()) for name in names]
    offers = [offer for offer, _ in made]
    return {
        name: PairKeys.derive(offers, secret, name, bind)
        for name, (_, secret) in zip(names, made, strict=True)
    }


@lru_cache(maxsize=4)
def drawn_pair_keys(names):
    """Pair keys as if a ceremony of very many had made them, which would take minutes."""
    seed = bytes(32)
    return {
        own: PairKeys(
            hospital=own,
            bind=BIND,
            round=0,
            roots={
                other: hmac.digest(seed, "|".join(sorted((own, other))).encode(), "sha256")
                for other in names
            },
        )
        for own in names
    }


def pairs_of(names):
    """Pair keys of the ceremony that these hospitals had."""
    return pair_keys(names) if len(names) <= 50 else drawn_pair_keys(names)


def sealer_of(plan, keys, name, names):
    """A hospital's sealer; where the scheme needs them, with its pair keys among `names`."""
    if plan.scheme == "one-time":
        keys = keys.with_pairs(pairs_of(tuple(names[: plan.hospitals]))[name])
    return make_sealer(plan, keys, name)


def opener_of(plan, keys, names):
    """An opener of the first hospital."""
    if plan.scheme == "one-time":
        keys = keys.with_pairs(pairs_of(tuple(names[: plan.hospitals]))[names[0]])
    return make_opener(plan, keys)
