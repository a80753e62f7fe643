"""Hospitals that have been through a ceremony: their pair keys, sealers and openers."""

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


def sealer_of(plan, keys, name, names):
    """A hospital's sealer; where the scheme needs them, with its pair keys among `names`."""
    if plan.scheme == "one-time":
        keys = keys.with_pairs(pair_keys(tuple(names[: plan.hospitals]))[name])
    return make_sealer(plan, keys, name)


def opener_of(plan, keys, names):
    """An opener of the first hospital."""
    if plan.scheme == "one-time":
        keys = keys.with_pairs(pair_keys(tuple(names[: plan.hospitals]))[names[0]])
    return make_opener(plan, keys)
