"""Hospitals whose one-time keys are in shares, without server and book: what shares can do."""

import numpy as np
from pairing import pair_keys

from crypto.key_shares import Answers, ShareRequest, answer
from crypto.parcels import Parcel
from crypto.planning import Absent, plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer
from crypto.seeds import parts_of, recovered
from crypto.sharing import PRIME

PLACE = Place(training="t", round=3, attempt=1)
ROSTER, OTHER_ROSTER = b"r" * 32, b"s" * 32


def grid_of(bits):
    return Quantiser(step=1.0 / (2 ** (bits - 1) - 1), bound=1.0)


class Federation:
    """Hospitals of one training in which some may be missing, and what each sealed.

    With `noise_seeds`, one number a part as in a plan, each shares seeds of its noise as well.
    """

    def __init__(
        self,
        hospitals=6,
        dropouts=1,
        values=2_000,
        bits=13,
        seed=0,
        committee=0,
        noise_seeds=(),
        extreme=False,
    ):
        self.names = tuple(f"hospital-{index:02}" for index in range(hospitals))
        chosen = self.names[1 : 2 * committee : 2]
        self.plan = plan_sealing(
            values=values,
            hospitals=hospitals,
            grid=grid_of(bits),
            scheme="one-time",
            absent=Absent(
                dropouts=dropouts,
                committee=chosen,
                silent=4 if committee else None,
                seeds=tuple(noise_seeds),
            ),
        )
        self.holders = chosen or self.names
        self.keys, self.pairs = make_keys(self.plan), pair_keys(self.names)
        dice = np.random.default_rng(seed)
        self.vectors = {name: dice.normal(scale=0.4, size=values) for name in self.names}
        if extreme:
            self.vectors = {name: 1e300 * np.sign(one) for name, one in self.vectors.items()}
        drawn = {name: dice.integers(0, PRIME, (len(noise_seeds), 16)) for name in self.names}
        self.seeds = {
            name: [one.astype("<u2").tobytes() for one in each] for name, each in drawn.items()
        }
        self.sealed = {name: self.seal(name) for name in self.names}

    def of(self, name):
        return self.keys.with_pairs(self.pairs[name])

    def seal(self, name, place=PLACE):
        sealer = make_sealer(self.plan, self.of(name), name)
        return sealer.seal(self.vectors[name], place, self.seeds[name])

    def request(self, holder, members, roster=ROSTER, **changes):
        fields = {
            "place": PLACE,
            "roster": roster,
            "contributors": {name: self.sealed[name].nonce for name in members},
            "parcels": {name: self.parcel(name) for name in members},
            "envelopes": {
                name: self.sealed[name].envelopes[holder]
                for name in members
                if holder in self.sealed[name].envelopes
            },
        }
        return ShareRequest(**(fields | changes))

    def parcel(self, name):
        return Parcel.of(self.sealed[name].payload, self.sealed[name].envelopes)

    def answer(self, holder, members, roster=ROSTER, **changes):
        return answer(self.request(holder, members, roster, **changes), self.plan, self.of(holder))

    def answers(self, members, holders=None, roster=ROSTER):
        return Answers(
            roster=roster,
            by_holder={
                holder: self.answer(holder, members, roster).answer
                for holder in holders or self.holders
            },
        )

    def opened_seeds(self, shown, wanted=None):
        """Seeds that the server opens which shows each holder a roster: {holder: members}."""
        given = {holder: self.answer(holder, members).seeds for holder, members in shown.items()}
        points = {name: point for point, name in enumerate(self.holders, start=1)}
        signed = {name: one.seeds for name, one in self.sealed.items()}
        sharing, hospitals = self.plan.sharing, self.plan.hospitals
        found = {}
        # A roster says which shares come of whom: those of one seed are gathered by hand.
        goes = {
            holder: parts_of(sharing, hospitals, dict.fromkeys(members))
            for holder, members in shown.items()
        }
        for part in wanted or sorted({part for each in goes.values() for part in each}):
            shares = {
                points[holder]: given[holder][32 * at : 32 * (at + 1)]
                for holder, each in goes.items()
                if part in each
                for at in (each.index(part),)
            }
            found |= recovered(shares, [part], signed, sharing.threshold)
        return found

    def total(self, members):
        adder = make_adder(self.plan)
        for name in members:
            adder.add(self.sealed[name])
        return adder.total(), {name: self.sealed[name].nonce for name in members}

    def opener(self, name=None):
        return make_opener(self.plan, self.of(name or self.names[0]))

    def expected(self, members):
        grid = self.plan.grid
        fields = sum(
            np.rint((np.clip(self.vectors[name], -1, 1) + grid.bound) / grid.step)
            for name in members
        )
        return (fields - len(members) * grid.half) * grid.step


def opens(federation, members, holders, opener=None):
    answers = federation.answers(members, holders)
    opened = federation.opener(opener).open(*federation.total(members), PLACE, answers)
    return np.array_equal(opened, federation.expected(members))


def modular_sum(federation, members):
    plan = plan_sealing(
        values=federation.plan.values,
        hospitals=federation.plan.hospitals,
        grid=federation.plan.grid,
        scheme="modular",
    )
    keys, adder, nonces = make_keys(plan), make_adder(plan), {}
    for name in members:
        sealed = make_sealer(plan, keys, name).seal(federation.vectors[name], PLACE)
        adder.add(sealed)
        nonces[name] = sealed.nonce
    return make_opener(plan, keys).open(adder.total(), nonces, PLACE)
