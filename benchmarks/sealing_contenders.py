"""The ways of sealing that `sealing_cost.py` times: ours, and its peers."""

# ruff: noqa: D102  (what the methods do is said once, at `Contender`)

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from accounting.parts import SEED_NUMBERS, SEED_PRIME, plan_parts
from crypto.bfv import lattice_of
from crypto.key_shares import Answers, Given, ShareRequest, answer
from crypto.keys import Keys
from crypto.lattice import scratch
from crypto.pairs import PairKeys
from crypto.parcels import Parcel
from crypto.planning import Absent, plan_sealing
from crypto.roles import Place, Quantiser, Sealed
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer
from crypto.thresholds import MOST_HOLDERS

BOUND = 1.0
PLACE = Place(training="benchmark", round=1, attempt=1)


class Contender:
    """A way of sealing: `seal(x)`, `add(list) -> total`, `open(total) -> sum`, `size(sealed)`."""

    name: str
    passes = 1_000
    senders = 1_000  # how many seal; a slow peer's sealed vectors are added again and again

    def seal(self, vector: np.ndarray) -> Any:
        raise NotImplementedError

    def add(self, sealed: list[Any]) -> Any:
        raise NotImplementedError

    def answer(self) -> float:
        """What comes between adding and opening, untimed but for what it says itself."""
        return 0.0

    def open(self, total: Any) -> np.ndarray:
        raise NotImplementedError

    def size(self, sealed: Any) -> int:
        return len(sealed)


class Ours(Contender):
    """This repository's schemes; keys in shares where `dropouts` hospitals may be missing."""

    def __init__(
        self, scheme: str, mode: str, bits: int, values: int, hospitals: int, dropouts: int = 0
    ) -> None:
        half = 2 ** (bits - 1) - 1
        names = tuple(f"hospital-{index:04}" for index in range(hospitals))
        committee = names[:MOST_HOLDERS] if hospitals > MOST_HOLDERS and dropouts else ()
        self.plan = plan_sealing(
            values=values,
            hospitals=hospitals,
            grid=Quantiser(step=BOUND / half, bound=BOUND),
            scheme=scheme,
            key_mode=mode,
            absent=Absent(
                dropouts=dropouts,
                committee=committee,
                silent=4 if committee else None,
                seeds=_seeds_shared(hospitals, dropouts),
            ),
        )
        named = (f" {self.plan.key_mode}, {bits} bit") if scheme in ("bfv", "one-time") else ""
        self.name = f"ours: {scheme}{named}"
        self.names, self.keys = names, make_keys(self.plan)
        self._seed = os.urandom(32)
        self.opener = make_opener(self.plan, self._held(names[0]))
        self._sealers: dict[str, Any] = {}
        self._turn, self._sealed = 0, dict[str, Any]()
        self._answers: Answers | None = None
        self._answered, self.received = 0, 0.0

    def _held(self, name: str) -> Keys:
        if self.plan.scheme != "one-time":
            return self.keys
        return self.keys.with_pairs(_pair_keys(self._seed, name, self.names))

    def ready(self) -> None:
        """Make the next sealer, which a hospital does once per training."""
        name = self.names[self._turn % len(self.names)]
        if name not in self._sealers:
            if len(self._sealers) >= _MOST_SEALERS:
                self._sealers.clear()
            self._sealers[name] = make_sealer(self.plan, self._held(name), name)

    def seal(self, vector: np.ndarray) -> Any:
        self.ready()
        name = self.names[self._turn % len(self.names)]
        self._turn += 1
        sealed = self._sealers[name].seal(vector, PLACE, self._seeds())
        self._sealed[name] = Sealed(payload=b"", nonce=sealed.nonce, envelopes=sealed.envelopes)
        return sealed

    def _seeds(self) -> list[bytes]:
        """Seeds of the noise in a vector, as many as are shared with its key."""
        count = len(self.plan.sharing.seeds) if self.plan.sharing else 0
        numbers = np.random.default_rng().integers(SEED_PRIME, size=(count, SEED_NUMBERS))
        return [one.astype("<u2").tobytes() for one in numbers]

    def in_two(self, vector: np.ndarray, clock: Callable[[], float]) -> tuple[float, float]:
        """Seal in two parts; returns the seconds of what was made ahead, and of what was left."""
        self.ready()
        sealer = self._sealers[self.names[self._turn % len(self.names)]]
        self._turn += 1
        start = clock()
        prepared = sealer.prepare(PLACE, ahead=True)
        between = clock()
        prepared.seal(vector)
        return between - start, clock() - between

    def adder(self) -> Any:
        return make_adder(self.plan)

    def add(self, sealed: list[Any]) -> Any:
        adder = self.adder()
        for one in sealed:
            adder.add(one)
        return adder.total()

    def answer(self) -> float:
        """Have enough holders answer the roster, where keys are shared; returns one's seconds."""
        if self.plan.sharing is None:
            return 0.0
        held = [self._held(name) for name in self.plan.sharing.committee or self.names]
        held = held[: self.plan.sharing.threshold]
        nonces = {name: one.nonce for name, one in self._sealed.items()}
        parcels = {n: Parcel.of(one.payload, one.envelopes) for n, one in self._sealed.items()}
        roster, given = bytes(32), dict[str, Given]()
        start = time.process_time()
        for keys in held:
            assert keys.pairs is not None
            holder = keys.pairs.hospital
            request = ShareRequest(
                place=PLACE,
                roster=roster,
                contributors=nonces,
                parcels=parcels,
                envelopes={
                    name: one.envelopes[holder]
                    for name, one in self._sealed.items()
                    if holder in one.envelopes
                },
            )
            given[holder] = answer(request, self.plan, keys)
            got = sum(len(one) for one in request.envelopes.values())
            self.received = max(self.received, got / len(nonces))
        seconds = (time.process_time() - start) / len(held)
        answers = {holder: one.answer for holder, one in given.items()}
        self._answers = Answers(roster=roster, by_holder=answers)
        self._answered = max(len(one.answer) + len(one.seeds) for one in given.values())
        return seconds

    def open(self, total: Any) -> np.ndarray:
        nonces = {name: one.nonce for name, one in self._sealed.items()}
        if self.plan.sharing is None:
            return self.opener.open(total, nonces, PLACE)
        return self.opener.open(total, nonces, PLACE, self._answers)

    def size(self, sealed: Any) -> int:
        """All bytes that a hospital sends in a round, but for its header's few hundred."""
        return sealed.size + sum(len(one) for one in sealed.envelopes.values()) + self._answered


def _seeds_shared(hospitals: int, dropouts: int) -> tuple[int, ...]:
    """For each seed of noise that is shared, the most missing hospitals at which it goes."""
    parts = plan_parts(1.0, hospitals=hospitals, dropouts=dropouts, colluders=0)
    return parts.opened_up_to if dropouts and parts else ()


#: Sealers that are kept for the next pass.
_MOST_SEALERS = 100


def _pair_keys(seed: bytes, own: str, names: tuple[str, ...]) -> PairKeys:
    """One hospital's pair keys, as if the offers of a ceremony had made them."""
    roots = {
        other: hmac.digest(seed, "|".join(sorted((own, other))).encode(), "sha256")
        for other in names
    }
    return PairKeys(hospital=own, bind=bytes(32), round=PLACE.round, roots=roots)


class Dopamine(Contender):
    """Malekzadeh et al. 2021: rounded thousandths, one per slot, default coefficient primes."""

    name = "Dopamine's way (BFV 4096, x1000)"
    senders = 2

    def __init__(self) -> None:
        import tenseal

        self.tenseal = tenseal
        self.context = tenseal.context(
            tenseal.SCHEME_TYPE.BFV, poly_modulus_degree=4096, plain_modulus=40961
        )

    def seal(self, vector: np.ndarray) -> bytes:
        integers = np.rint(vector * 1000).astype(np.int64).tolist()
        return self.tenseal.bfv_vector(self.context, integers).serialize()

    def add(self, sealed: list[bytes]) -> bytes:
        total = self.tenseal.bfv_vector_from(self.context, sealed[0])
        for one in sealed[1:]:
            total += self.tenseal.bfv_vector_from(self.context, one)
        return total.serialize()

    def open(self, total: bytes) -> np.ndarray:
        return np.array(self.tenseal.bfv_vector_from(self.context, total).decrypt()) / 1000


class NvflareParameters(Contender):
    """CKKS with NVFlare's parameters, one vector per layer, by TenSEAL directly."""

    name = "NVFlare's parameters (CKKS 8192, per layer)"
    senders = 2

    def __init__(self, layers: list[int]) -> None:
        import tenseal

        self.tenseal = tenseal
        self.context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40]
        )
        self.context.global_scale = 2**40
        self.cuts = np.cumsum(layers)[:-1]

    def seal(self, vector: np.ndarray) -> list[bytes]:
        layers = np.split(vector, self.cuts)
        return [self.tenseal.ckks_vector(self.context, layer).serialize() for layer in layers]

    def add(self, sealed: list[list[bytes]]) -> list[bytes]:
        totals = []
        for layers in zip(*sealed, strict=True):
            total = self.tenseal.ckks_vector_from(self.context, layers[0])
            for layer in layers[1:]:
                total += self.tenseal.ckks_vector_from(self.context, layer)
            totals.append(total.serialize())
        return totals

    def open(self, total: list[bytes]) -> np.ndarray:
        opened = [self.tenseal.ckks_vector_from(self.context, one).decrypt() for one in total]
        return np.concatenate([np.asarray(layer) for layer in opened])

    def size(self, sealed: list[bytes]) -> int:
        return sum(len(layer) for layer in sealed)


class NvflareClasses(Contender):
    """NVFlare's own encryptor, wire codec, aggregation helper and decryptor."""

    name = "NVFlare's own classes"
    senders = 2
    passes = 3

    def __init__(self, layers: list[int]) -> None:
        import tenseal
        from nvflare.apis.fl_context import FLContext
        from nvflare.app_common.aggregators import weighted_aggregation_helper
        from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
        from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
        from nvflare.fuel.utils import fobs

        logging.disable(logging.CRITICAL)
        context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40]
        )
        context.global_scale = 2**40
        self.encryptor, self.decryptor = HEModelEncryptor(), HEModelDecryptor()
        self.encryptor.tenseal_context = self.decryptor.tenseal_context = context
        self.encryptor.encrypt_layers, self.encryptor.n_iter = [True], 1
        self.helper = weighted_aggregation_helper.WeightedAggregationHelper
        self.codec, self.flow, self.count = fobs, FLContext, 1
        self.cuts = np.cumsum(layers)[:-1]

    def seal(self, vector: np.ndarray) -> bytes:
        parts = {str(index): part for index, part in enumerate(np.split(vector, self.cuts))}
        return self.codec.dumps(self.encryptor.encryption(parts, self.flow())[0])

    def add(self, sealed: list[bytes]) -> bytes:
        helper = self.helper(weigh_by_local_iter=False)
        for index, one in enumerate(sealed):
            helper.add(self.codec.loads(one), 1.0, str(index), 0)
        self.count = len(sealed)
        return self.codec.dumps(helper.get_result())

    def open(self, total: bytes) -> np.ndarray:
        layers = self.codec.loads(total)
        opened = self.decryptor.decryption(layers, dict.fromkeys(layers, True), self.flow())
        mean = np.concatenate([np.asarray(opened[str(index)]) for index in range(len(opened))])
        return mean * self.count


class Masks(Contender):
    """Pairwise AES-CTR masks on 32-bit integers that cancel in the sum."""

    name = "pairwise AES-CTR masks (the limit)"

    def __init__(self, values: int, hospitals: int) -> None:
        self.values, self.hospitals = values, hospitals
        self.keys = {
            (one, other): os.urandom(32) for one in range(hospitals) for other in range(one)
        }
        self._turn = 0

    def _mask(self, one: int, other: int) -> np.ndarray:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        key = self.keys[max(one, other), min(one, other)]
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        return np.frombuffer(stream.update(bytes(4 * self.values)), dtype=np.uint32)

    def seal(self, vector: np.ndarray) -> bytes:
        own = self._turn % self.hospitals
        self._turn += 1
        masked = np.rint(vector * 2**20).astype(np.int64).astype(np.uint32)
        for other in range(self.hospitals):
            if other != own:
                mask = self._mask(own, other)
                masked = masked + mask if own > other else masked - mask
        return masked.tobytes()

    def add(self, sealed: list[bytes]) -> bytes:
        total = np.zeros(self.values, dtype=np.uint32)
        for one in sealed:
            total += np.frombuffer(one, dtype=np.uint32)
        return total.tobytes()

    def open(self, total: bytes) -> np.ndarray:
        return np.frombuffer(total, dtype=np.int32) / 2**20


class SealAlone:
    """The calls of SEAL that `bfv` with seeds cannot do without: each on one vector's ciphertexts.

    Nothing of ours is among them: no packing, no tag, no header, no frame, not even a value, since
    noughts are encrypted. What `bfv` takes cannot be less.
    """

    def __init__(self, values: int, hospitals: int) -> None:
        ours = Ours("bfv", "symmetric", 13, values, hospitals)
        self.count, lattice = ours.plan.ciphertexts, lattice_of(ours.plan)
        seal = lattice.seal
        key = lattice.load_key("SecretKey", ours.keys.secret)
        self._context = lattice.context
        self._encryptor = seal.Encryptor(self._context, key)
        self._decryptor = seal.Decryptor(self._context, key)
        self._evaluator = seal.Evaluator(self._context)
        self._one, self._sum = seal.Ciphertext(), seal.Ciphertext()
        self._plaintext = seal.Plaintext()
        with scratch() as file:
            nought = file.written_by(self._encryptor.encrypt_zero_symmetric().save)
            self._seeded = lattice.seeded(*lattice.residues(nought))
            self._sum.load(self._context, file.holding(self._seeded))
            self._whole = lattice.full(*lattice.residues(file.written_by(self._sum.save)))

    def encrypt(self) -> None:
        """What a hospital's sealing takes: encrypt noughts, and write them."""
        with scratch() as file:
            for _ in range(self.count):
                file.written_by(self._encryptor.encrypt_zero_symmetric().save)

    def add(self) -> None:
        """What the server takes for one vector: expand seeds, and add."""
        with scratch() as file:
            path = file.holding(self._seeded)
            for _ in range(self.count):
                self._one.load(self._context, path)
                self._evaluator.add_inplace(self._sum, self._one)

    def decrypt(self) -> None:
        """What opening takes: read sums, and decrypt them."""
        with scratch() as file:
            path = file.holding(self._whole)
            for _ in range(self.count):
                self._one.load(self._context, path)
                self._decryptor.decrypt(self._one, self._plaintext)
