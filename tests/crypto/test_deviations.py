"""A server that deviates from adding what it was sent: each deviation is refused and named."""

import numpy as np
import pytest

from crypto.bfv import lattice_of, read_blocks, write_block
from crypto.errors import (
    ContributionError,
    PayloadMismatchError,
    PreviousMismatchError,
    StaleHeaderError,
    TagMismatchError,
)
from crypto.frames import Content, read_frame, write_frame
from crypto.headers import Header, HeaderKind, payload_digest, sign_header, verify_header
from crypto.identity import Identity
from crypto.lattice import scratch
from crypto.packing import from_planes, to_planes
from crypto.parameters import COEFFICIENT_PRIME, HEAD_BYTES
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser, Sealed
from crypto.rosters import Roster
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer
from crypto.tags import weights

GRID = Quantiser(step=2.0**-12, bound=4095 * 2.0**-12)
PLACE = Place(training="t", round=5, attempt=0)
BIND = bytes(range(32))
NAMES = ("a", "b", "c")
VALUES = 13_000
VARIANTS = [("bfv", "symmetric"), ("bfv", "public"), ("modular", "auto")]


class Federation:
    def __init__(self, variant):
        self.plan = plan_sealing(
            values=VALUES, hospitals=3, grid=GRID, scheme=variant[0], key_mode=variant[1]
        )
        self.keys = make_keys(self.plan)
        random = np.random.default_rng(0)
        self.vectors = {name: random.normal(scale=0.2, size=VALUES) for name in NAMES}
        self.sealed = {name: self.seal(name) for name in NAMES}

    def seal(self, name, place=PLACE):
        return make_sealer(self.plan, self.keys, name).seal(self.vectors[name], place)

    def total(self, *sealed):
        adder = make_adder(self.plan)
        for one in sealed or self.sealed.values():
            adder.add(one)
        return adder.total()

    def open(self, total, names=NAMES, place=PLACE):
        nonces = {name: self.sealed[name].nonce for name in names}
        return make_opener(self.plan, self.keys).open(total, nonces, place)

    def slots(self, row, slot, amount):
        """What `amount` in one data slot of one ciphertext encodes to."""
        slots = np.zeros((self.plan.ciphertexts, self.plan.slots), dtype=np.uint64)
        slots[row, slot] = amount
        return slots

    def with_plaintext(self, total, slots):
        """Add chosen plaintext to a sealed sum, as anyone with the public parameters can."""
        plan = self.plan
        frame = read_frame(total, plan, content=Content.TOTAL, key_id=None)
        if plan.scheme == "modular":
            present = np.empty_like(slots)
            width = 8 * frame.body.size // present.size
            from_planes(frame.blocks(plan.ciphertexts), width, present)
            changed = (present + slots) % np.uint64(plan.plain_modulus)
            body = [to_planes(row, width) for row in changed]
        else:
            residues = np.empty((2, plan.ciphertexts, plan.degree), dtype=np.uint64)
            read_blocks(frame, plan, residues)
            residues[0] = (residues[0] + self._scaled(slots)) % np.uint64(COEFFICIENT_PRIME)
            body = []
            for first, second in zip(*residues, strict=True):
                body += write_block(first, second, plan, Content.TOTAL)
        return write_frame(
            plan,
            content=Content.TOTAL,
            key_id=frame.key_id,
            contributions=frame.contributions,
            body=body,
        )

    def _scaled(self, slots):
        """q/t times the encoding: what SEAL's add_plain adds to the first polynomial."""
        lattice, seal = lattice_of(self.plan), lattice_of(self.plan).seal
        added = []
        zero = np.zeros(lattice.degree, dtype=np.uint64)
        nonzero = np.ones(lattice.degree, dtype=np.uint64)
        with scratch() as file:
            for row in slots:
                plaintext, ciphertext = seal.Plaintext(), seal.Ciphertext()
                lattice.encode(row, plaintext)
                ciphertext.load(lattice.context, file.holding(lattice.full(zero, nonzero)))
                seal.Evaluator(lattice.context).add_plain_inplace(ciphertext, plaintext)
                # A coefficient at a time: SEAL would compress this sparse ciphertext in a file.
                array = ciphertext.dyn_array()
                added.append([array[index] for index in range(lattice.degree)])
        return np.array(added, dtype=np.uint64)


@pytest.fixture(
    name="federation", scope="module", params=VARIANTS, ids=["-".join(v) for v in VARIANTS]
)
def make_federation(request):
    return Federation(request.param)


def test_the_honest_sum_opens(federation):
    opened = federation.open(federation.total())
    exact = sum(np.clip(vector, -1, 1) for vector in federation.vectors.values())
    assert np.abs(opened - exact).max() <= 3 * GRID.step


def test_a_plaintext_addition_to_data_alone_is_refused(federation):
    """A tag that did not cover the data would accept this: the tag's slot is untouched."""
    total = federation.total()
    unchanged = federation.with_plaintext(total, federation.slots(0, 5, 0))
    assert np.array_equal(federation.open(unchanged), federation.open(total))
    for row, slot, amount in ((0, 5, 1), (1, 1, 3), (0, 4095, 8191)):
        forged = federation.with_plaintext(total, federation.slots(row, slot, amount))
        with pytest.raises(TagMismatchError, match=f"1 of 2 ciphertexts .* first is {row}"):
            federation.open(forged)


def test_only_one_who_knows_the_secret_weights_could_forge_an_addition(federation):
    """The control of the test above: the forgery is well made, and lacks nothing but the key."""
    plan, total = federation.plan, federation.total()
    alpha = weights(federation.keys.group_key, PLACE, plan.parameter_id, plan.data_slots)
    weight = sum(int(limb) << (12 * index) for index, limb in enumerate(alpha[4]))
    slots = federation.slots(0, 5, 1)
    slots[0, 0] = weight % plan.plain_modulus
    opened = federation.open(federation.with_plaintext(total, slots))
    difference = opened - federation.open(total)
    assert difference[4] == GRID.step
    assert np.count_nonzero(difference) == 1


def test_a_dropped_contribution_is_refused_and_named(federation):
    total = federation.total(federation.sealed["a"], federation.sealed["c"])
    with pytest.raises(ContributionError, match="holds 2 contributions, the roster 3"):
        federation.open(total)
    with pytest.raises(TagMismatchError, match="lacks 'b'"):
        federation.open(claiming(total, 3))


def test_a_doubled_contribution_is_refused_and_named(federation):
    sealed = federation.sealed
    total = federation.total(sealed["a"], sealed["a"], sealed["b"])
    with pytest.raises(ContributionError, match="holds 3 contributions, the roster 2"):
        federation.open(total, ("a", "b"))
    with pytest.raises(TagMismatchError, match="counts 'a' twice"):
        federation.open(claiming(total, 2), ("a", "b"))


def test_dropping_one_and_doubling_another_is_refused_and_named(federation):
    """A counter alone is fooled by this."""
    sealed = federation.sealed
    total = federation.total(sealed["a"], sealed["a"], sealed["c"])
    with pytest.raises(TagMismatchError, match="lacks 'b' and counts 'a' twice"):
        federation.open(total)


def test_a_single_hospitals_update_cannot_be_opened_as_a_sum_of_all(federation):
    alone = federation.total(federation.sealed["a"])
    with pytest.raises(TagMismatchError):
        federation.open(claiming(alone, 3))


def test_an_edit_of_only_the_last_ciphertext_is_refused_and_located(federation):
    stale = federation.total(*(federation.seal(name, place_before()) for name in NAMES))
    total = federation.total()
    half = (len(total.payload) - HEAD_BYTES) // 2
    mixed = Sealed(payload=total.payload[:-half] + stale.payload[-half:])
    with pytest.raises(TagMismatchError, match="1 of 2 ciphertexts were changed, the first is 1"):
        federation.open(mixed)


def test_exchanged_ciphertexts_are_refused(federation):
    payload = federation.total().payload
    half = (len(payload) - HEAD_BYTES) // 2
    swapped = payload[:HEAD_BYTES] + payload[-half:] + payload[HEAD_BYTES:-half]
    with pytest.raises(TagMismatchError):
        federation.open(Sealed(payload=swapped))


def place_before():
    return Place(training=PLACE.training, round=PLACE.round - 1, attempt=0)


def test_a_replayed_round_is_refused(federation):
    replayed = federation.total(*(federation.seal(name, place_before()) for name in NAMES))
    with pytest.raises(TagMismatchError, match="another round"):
        federation.open(replayed)


def test_one_replayed_contribution_is_refused(federation):
    sealed = federation.sealed
    total = federation.total(sealed["a"], sealed["b"], federation.seal("c", place_before()))
    with pytest.raises(TagMismatchError):
        federation.open(total)


def claiming(total, contributions):
    """The same sum with another number of contributions in its head."""
    payload = bytearray(total.payload)
    payload[56:60] = contributions.to_bytes(4, "little")
    return Sealed(payload=bytes(payload))


def test_two_rosters_of_one_round_are_found_out_in_the_next(federation):
    identities = {name: Identity.generate() for name in NAMES}
    public = {name: identity.public for name, identity in identities.items()}

    def headers(place, sealed, previous):
        return {
            name: sign_header(
                Header(
                    kind=HeaderKind.SUM,
                    training=place.training,
                    round=place.round,
                    attempt=place.attempt,
                    sender=name,
                    parameter_id=federation.plan.parameter_id,
                    previous=previous[name],
                    payload=payload_digest(sealed[name].payload),
                    bind=BIND,
                    nonce=sealed[name].nonce,
                ),
                identities[name],
            )
            for name in NAMES
        }

    plan_id, sealed = federation.plan.parameter_id, federation.sealed
    first = headers(PLACE, sealed, dict.fromkeys(NAMES, ""))
    all_three, only_two = Roster.of(first.values()), Roster.of([first["a"], first["b"]])
    sum_of_three = federation.total()
    sum_of_two = federation.total(sealed["a"], sealed["b"])
    # Both sums are honest, and both open; their difference would be hospital c's update alone.
    expected = {"least": 2, "parameter_id": plan_id, "bind": BIND}
    federation.open(sum_of_three, all_three.verify(public, PLACE, **expected))
    federation.open(sum_of_two, only_two.verify(public, PLACE, **expected))
    seen = {
        "a": all_three.digest(sum_of_three.payload),
        "b": only_two.digest(sum_of_two.payload),
        "c": all_three.digest(sum_of_three.payload),
    }
    following = Place(training=PLACE.training, round=PLACE.round + 1, attempt=0)
    roster = Roster.of(headers(following, sealed, seen).values())
    for name in NAMES:
        with pytest.raises(PreviousMismatchError):
            roster.verify(public, following, **expected, previous=seen[name])
    with pytest.raises(PreviousMismatchError, match=r"^b opened"):
        roster.verify(public, following, **expected)


def test_bit_flips_replays_and_swaps_stop_at_the_door(federation):
    identity = Identity.generate()
    payload = federation.sealed["a"].payload
    signed = sign_header(
        Header(
            kind=HeaderKind.SUM,
            training=PLACE.training,
            round=PLACE.round,
            attempt=PLACE.attempt,
            sender="a",
            parameter_id=federation.plan.parameter_id,
            previous="",
            payload=payload_digest(payload),
            bind=BIND,
            nonce=federation.sealed["a"].nonce,
        ),
        identity,
    )
    public = {"a": identity.public}
    verify_header(signed, public, kind=HeaderKind.SUM, place=PLACE, payload=payload)
    with pytest.raises(PayloadMismatchError):
        verify_header(
            signed, public, kind=HeaderKind.SUM, payload=payload[:-1] + bytes([payload[-1] ^ 1])
        )
    with pytest.raises(PayloadMismatchError):
        verify_header(signed, public, kind=HeaderKind.SUM, payload=federation.sealed["b"].payload)
    with pytest.raises(StaleHeaderError):
        verify_header(signed, public, kind=HeaderKind.SUM, place=place_before())
