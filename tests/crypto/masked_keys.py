"""Hospitals that seal under one-time keys, masked pairwise: what they sent, and what opens it."""

import numpy as np
from pairing import opener_of, sealer_of

from crypto import one_time
from crypto.frames import Content, read_frame, write_frame
from crypto.packing import from_planes, write_planes
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys

PLACE = Place(training="t", round=3, attempt=1)
NAMES = tuple(f"hospital-{index}" for index in range(12))


def grid_of(bits):
    return Quantiser(step=1.0 / (2 ** (bits - 1) - 1), bound=1.0)


class Federation:
    """Hospitals' sealed vectors, their sum, and what opens it."""

    def __init__(self, hospitals=3, values=13_000, bits=13, place=PLACE, seed=0):
        self.names, self.place = NAMES[:hospitals], place
        self.plan = plan_sealing(
            values=values, hospitals=hospitals, grid=grid_of(bits), scheme="one-time"
        )
        self.layout, self.keys = self.plan.layout, make_keys(self.plan)
        random = np.random.default_rng(seed)
        self.vectors = {name: random.normal(scale=0.4, size=values) for name in self.names}
        self.sealed = {name: self.seal(name) for name in self.names}

    def seal(self, name, place=None):
        sealer = sealer_of(self.plan, self.keys, name, NAMES)
        return sealer.seal(self.vectors[name], place or self.place)

    @property
    def nonces(self):
        return {name: one.nonce for name, one in self.sealed.items()}

    @property
    def opener(self):
        return opener_of(self.plan, self.keys, NAMES)

    @property
    def expected(self):
        grid = self.plan.grid
        fields = sum(
            np.rint((np.clip(one, -1, 1) + grid.bound) / grid.step) for one in self.vectors.values()
        )
        return (fields - len(self.vectors) * grid.half) * grid.step

    def total(self, names=None):
        adder = make_adder(self.plan)
        for name in names or self.names:
            adder.add(self.sealed[name])
        return adder.total()

    def parts(self, sealed, content=Content.SINGLE):
        """Words of the blocks, uint64 `[blocks, n]`, and the masked key, uint16 `[n]`."""
        frame = read_frame(sealed, self.plan, content=content, key_id=None)
        blocks, masked = one_time._parts(frame, self.layout)
        words = np.empty((self.layout.blocks, self.layout.degree), dtype=np.uint64)
        from_planes(blocks, self.layout.wire_bits, words)
        return words, masked.copy()

    def total_of(self, words, masked, contributions=None):
        body = np.empty((self.layout.blocks, self.layout.block_bytes), dtype=np.uint8)
        write_planes(words & np.uint64(2**self.layout.wire_bits - 1), self.layout.wire_bits, body)
        return write_frame(
            self.plan,
            content=Content.TOTAL,
            key_id=self.keys.key_id,
            contributions=contributions or self.plan.hospitals,
            body=[body.tobytes(), masked.tobytes()],
        )

    def pad(self, name, nonce):
        return one_time._key_pads(self.keys, self.place, {name: nonce}, self.layout.degree)

    def key_sum(self, names=None):
        """What server and a hospital make of the masked keys of `names`: int64 `[n]`."""
        total = np.zeros(self.layout.degree, dtype=np.uint16)
        for name in names or self.names:
            total += self.parts(self.sealed[name])[1]
            total -= self.pad(name, self.nonces[name])
        return total.view(np.int16).astype(np.int64)
