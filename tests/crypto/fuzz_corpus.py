"""Hostile bytes by the thousand, run in a child process by `test_fuzz`: a crash is then seen.

Every case must end in a `SealingError`, or leave the opened sum bit for bit as it was (a flipped
low bit of a residue drowns in the encryption noise). Anything else is reported.
"""

import faulthandler
import json
import random
import struct
import sys
from collections import Counter

import numpy as np
from pairing import opener_of, pair_keys, sealer_of

from crypto.ceremony import BundlePublic, Offer, check_offers, make_bundle, make_offer, open_bundle
from crypto.envelope import unwrap, wrap
from crypto.errors import SealingError
from crypto.headers import (
    Header,
    HeaderKind,
    SignedHeader,
    payload_digest,
    sign_header,
    verify_header,
)
from crypto.identity import Identity
from crypto.keys import Keys
from crypto.pairs import PairKeys
from crypto.parameters import HEAD_BYTES
from crypto.planning import plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder, make_keys

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)
PLACE = Place(training="t", round=2, attempt=0)
EARLIER = Place(training="t", round=1, attempt=0)
NAMES = ("a", "b")
BIND = bytes(range(32, 64))
VALUES = 12_300  # two ciphertexts of three values per slot
HEAD_FIELDS = (  # offset and size
    *((0, 4), (4, 1), (5, 1), (6, 1), (7, 1), (8, 32)),
    *((40, 16), (56, 4), (60, 8), (68, 4), (72, 8)),
)
VARIANTS = (
    ("bfv", "symmetric"),
    ("bfv", "public"),
    ("modular", "auto"),
    ("ckks", "auto"),
    ("one-time", "auto"),
)


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def tenseal_message(sizes, ciphertexts):
    """A BFVVectorProto: packed sizes = 1, ciphertexts = 2."""
    packed = b"".join(varint(size) for size in sizes)
    message = b"\x0a" + varint(len(packed)) + packed if sizes else b""
    for one in ciphertexts:
        message += b"\x12" + varint(len(one)) + one
    return message


def tenseal_crashers():
    """What crashes a process that hands it to TenSEAL, or is silently taken for a vector."""
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 40961, [60, 49])
    genuine = tenseal.bfv_vector(context, [1, 2, 3])
    one = genuine.ciphertext()[0]
    saved = genuine.serialize()
    inner = saved[saved.index(b"\x5e\xa1\x10") :]
    wide = bytearray(inner)
    crashers = [
        b"",
        saved,
        tenseal_message([4096, 4096], []),
        tenseal_message([], [inner]),
        tenseal_message([2**32 - 1], [inner]),
        tenseal_message([2**20], [inner]),
        tenseal_message([4097], [inner]),
        tenseal_message([3], [b""]),
        tenseal_message([3], [inner[:100]]),
        tenseal_message([3] * 1000, [inner]),
    ]
    for polynomials in (0, 1, 3, 16, 2**31, 2**63):
        wide[67:75] = struct.pack("<Q", polynomials)  # behind header, parms id and NTT flag
        crashers.append(tenseal_message([3], [bytes(wide)]))
    assert one.size() == 2
    return crashers


class Federation:
    """Two hospitals' honest bytes of one scheme, and the sum they open to."""

    def __init__(self, scheme, mode):
        self.plan = plan_sealing(
            values=VALUES, hospitals=2, grid=GRID, scheme=scheme, key_mode=mode
        )
        self.keys = make_keys(self.plan)
        self.opener = opener_of(self.plan, self.keys, NAMES)
        generator = np.random.default_rng(1)
        self.vectors = [generator.normal(scale=0.3, size=VALUES) for _ in NAMES]
        self.sealers = [sealer_of(self.plan, self.keys, name, NAMES) for name in NAMES]
        sealed = [
            sealer.seal(vector, PLACE)
            for sealer, vector in zip(self.sealers, self.vectors, strict=True)
        ]
        self.sealed = [one.payload for one in sealed]
        self.nonces = {name: one.nonce for name, one in zip(NAMES, sealed, strict=True)}
        self.stale = self.sealers[0].seal(self.vectors[0], EARLIER).payload
        others = make_keys(self.plan)
        self.other_key = (
            sealer_of(self.plan, others, "a", NAMES).seal(self.vectors[0], PLACE).payload
        )
        adder = self.adder()
        adder.add(Sealed(payload=self.sealed[0]))
        adder.add(Sealed(payload=self.sealed[1]))
        self.total = adder.total().payload
        self.expected = self.opener.open(Sealed(payload=self.total), self.nonces, PLACE)

    def adder(self):
        return make_adder(self.plan, self.keys.key_id)

    def through_adder(self, payload):
        """The hostile bytes stand in for hospital a's."""
        adder = self.adder()
        adder.add(Sealed(payload=self.sealed[1]))
        try:
            adder.add(Sealed(payload=payload))
        except SealingError:
            # A refused vector must leave the sum as it was.
            adder.add(Sealed(payload=self.sealed[0]))
            self.same(self.opener.open(adder.total(), self.nonces, PLACE))
            raise
        return self.opener.open(adder.total(), self.nonces, PLACE)

    def through_opener(self, payload):
        return self.opener.open(Sealed(payload=payload), self.nonces, PLACE)

    def same(self, opened):
        if self.plan.scheme == "ckks":
            # Approximate by nature: a change too small to move the tag's slot passes.
            return bool(np.allclose(opened, self.expected, rtol=0, atol=1e-3))
        return bool(np.array_equal(opened, self.expected))


def flipped(data, dice, most=8):
    changed = bytearray(data)
    for _ in range(dice.randint(1, most)):
        bit = dice.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def cut(data, dice):
    return data[: dice.randrange(len(data))]


def head_changed(data, dice):
    """One field of the head set to something extreme."""
    at, size = dice.choice(HEAD_FIELDS)
    value = dice.choice([bytes(size), b"\xff" * size, dice.randbytes(size), b"\x01" * size])
    return data[:at] + value + data[at + size :]


def body_changed(data, dice):
    """Runs of zeros, ones or noise within the body: residues at and above q, foreign seeds."""
    start = dice.randrange(HEAD_BYTES, len(data))
    length = dice.choice([1, 8, 64, 4096, len(data)])
    length = min(length, len(data) - start)
    value = dice.choice([bytes(length), b"\xff" * length, dice.randbytes(length)])
    return data[:start] + value + data[start + length :]


def ciphertexts_swapped(data, dice):
    size = (len(data) - HEAD_BYTES) // 2
    head, first, second = data[:HEAD_BYTES], data[HEAD_BYTES : HEAD_BYTES + size], data[-size:]
    return head + dice.choice([second + first, first + first, second + second])


MUTATIONS = (flipped, flipped, cut, head_changed, body_changed, ciphertexts_swapped)


class Documents:
    """Signed and wrapped documents; changed bytes must not verify or open."""

    def __init__(self):
        self.identity = Identity.generate()
        self.public = {"a": self.identity.public}
        plan = plan_sealing(values=10, hospitals=2, grid=GRID, scheme="modular")
        self.plan, self.payload = plan, b"sealed"
        header = Header(
            kind=HeaderKind.SUM,
            training="t",
            round=2,
            attempt=0,
            sender="a",
            parameter_id=plan.parameter_id,
            previous="",
            payload=payload_digest(self.payload),
            bind=BIND,
            nonce=bytes(range(32)),
        )
        signed = sign_header(header, self.identity)
        other = Identity.generate()
        self.offers = [make_offer("t", "a", self.identity), make_offer("t", "b", other)]
        public_offers = [offer for offer, _ in self.offers]
        self.made, self.bundle = make_bundle(public_offers, self.identity, "a", plan, {})
        self.key = bytes(range(32))
        self.doors = {
            "header": (signed.to_bytes(), self.header),
            "roster": (Roster.of([signed]).to_bytes(), self.roster),
            "offer": (public_offers[0].to_bytes(), self.offer),
            "bundle": (self.bundle.public.to_bytes(), self.public_part),
            "wrapped": (self.bundle.wrapped["b"], self.wrapped),
            "keys": (self.made.to_bytes(), Keys.from_bytes),
            "pair keys": (pair_keys(NAMES)["a"].to_bytes(), PairKeys.from_bytes),
            "plan": (plan.to_json().encode(), self.plan_text),
            "envelope": (wrap(self.key, b"data", b"c"), self.envelope),
        }

    def header(self, data):
        verify_header(
            SignedHeader.from_bytes(data), self.public, kind=HeaderKind.SUM, payload=self.payload
        )

    def roster(self, data):
        Roster.from_bytes(data).verify(
            self.public, PLACE, least=1, parameter_id=self.plan.parameter_id, bind=BIND
        )

    def offer(self, data):
        check_offers([Offer.from_bytes(data)], {})

    def _open(self, public, wrapped):
        offers = [offer for offer, _ in self.offers]
        open_bundle(public, wrapped, offers, self.offers[1][1], "b", {})

    def public_part(self, data):
        self._open(BundlePublic.from_bytes(data), self.bundle.wrapped["b"])

    def wrapped(self, data):
        self._open(self.bundle.public, data)

    def plan_text(self, data):
        # A plan is no secret and not signed: another valid plan is another parameter id.
        plan = SealingPlan.from_json(data.decode("latin-1"))
        if plan.parameter_id != self.plan.parameter_id:
            self.plan_differs(plan)

    @staticmethod
    def plan_differs(plan):
        raise SealingError(f"another plan: {plan.parameter_id}")

    def envelope(self, data):
        unwrap(self.key, data, b"c")


class Report:
    """What became of the cases."""

    def __init__(self):
        self.cases, self.absorbed = 0, 0
        self.refused, self.silent, self.unexpected = Counter(), [], []

    def run(self, what, door, data, same):
        self.cases += 1
        try:
            result = door(data)
        except SealingError as refusal:
            self.refused[refusal.code] += 1
            return
        except Exception as fault:
            self.unexpected.append(f"{what}: {type(fault).__name__}: {fault}")
            return
        if same(result):
            self.absorbed += 1
        else:
            self.silent.append(what)


def fuzz_federation(federation, report, dice, count, crashers):
    label = f"{federation.plan.scheme} {federation.plan.key_mode}"

    def both(what, payload):
        for door in (federation.through_adder, federation.through_opener):
            report.run(f"{label}: {what}, {door.__name__}", door, payload, federation.same)

    honest = federation.sealed[0]
    for index, crasher in enumerate(crashers):
        both(f"tenseal message {index}", crasher)
        both(f"tenseal message {index} as body", honest[:HEAD_BYTES] + crasher)
        padded = (crasher + bytes(len(honest)))[: len(honest) - HEAD_BYTES]
        both(f"tenseal message {index} in place of a body", honest[:HEAD_BYTES] + padded)
    both("other key", federation.other_key)
    both("earlier round", federation.stale)
    both("the other hospital twice", federation.sealed[1])
    both("huge", honest + bytes(10**7))
    both("nothing", b"")
    for index in range(count):
        mutate = MUTATIONS[index % len(MUTATIONS)]
        of_total = index % 3 == 0
        original = federation.total if of_total else honest
        changed = mutate(original, dice)
        door = federation.through_opener if of_total else federation.through_adder
        report.run(f"{label}: {mutate.__name__} {index}", door, changed, federation.same)


def fuzz_documents(report, dice, count):
    documents = Documents()
    names = sorted(documents.doors)
    for index in range(count):
        name = names[index % len(names)]
        original, door = documents.doors[name]
        changed = (flipped, cut, flipped)[index % 3](original, dice)
        if changed != original:
            report.run(f"{name} {index}", door, changed, lambda _: False)


def main(count, seed):
    faulthandler.enable()
    dice, report = random.Random(seed), Report()
    crashers = tenseal_crashers()
    fuzz_documents(report, dice, count // 5)
    share = (count - report.cases) // len(VARIANTS)
    for variant in VARIANTS:
        fuzz_federation(Federation(*variant), report, dice, share, crashers)
    json.dump(
        {
            "cases": report.cases,
            "absorbed": report.absorbed,
            "refused": dict(report.refused),
            "silent": report.silent,
            "unexpected": report.unexpected,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
