"""The ways of sealing that `sealing_cost.py` times: ours, and its peers."""

# ruff: noqa: D102  (what the methods do is said once, at `Contender`)

from __future__ import annotations

import hmac
import logging
import os
from typing import Any

import numpy as np

from crypto.pairs import PairKeys
from crypto.planning import plan_sealing
from crypto.roles import Place, Quantiser
from crypto.schemes import make_adder, make_keys, make_opener, make_sealer

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

    def open(self, total: Any) -> np.ndarray:
        raise NotImplementedError

    def size(self, sealed: Any) -> int:
        return len(sealed)


class Ours(Contender):
    """This repository's schemes."""

    def __init__(self, scheme: str, mode: str, bits: int, values: int, hospitals: int) -> None:
        half = 2 ** (bits - 1) - 1
        self.plan = plan_sealing(
            values=values,
            hospitals=hospitals,
            grid=Quantiser(step=BOUND / half, bound=BOUND),
            scheme=scheme,
            key_mode=mode,
        )
        named = (f" {self.plan.key_mode}, {bits} bit") if scheme in ("bfv", "one-time") else ""
        self.name = f"ours: {scheme}{named}"
        self.names = tuple(f"hospital-{index}" for index in range(hospitals))
        keys = make_keys(self.plan)
        held = [keys for _ in self.names]
        if scheme == "one-time":
            held = [keys.with_pairs(pairs) for pairs in _pair_keys(self.names)]
        self.sealers = [
            make_sealer(self.plan, own, name) for own, name in zip(held, self.names, strict=True)
        ]
        self.opener = make_opener(self.plan, held[0])
        self._turn = 0
        self._nonces: dict[str, bytes] = {}

    def seal(self, vector: np.ndarray) -> Any:
        turn = self._turn % len(self.sealers)
        self._turn += 1
        sealed = self.sealers[turn].seal(vector, PLACE)
        self._nonces[self.names[turn]] = sealed.nonce
        return sealed

    def add(self, sealed: list[Any]) -> Any:
        adder = make_adder(self.plan)
        for one in sealed:
            adder.add(one)
        return adder.total()

    def open(self, total: Any) -> np.ndarray:
        return self.opener.open(total, self._nonces, PLACE)

    def size(self, sealed: Any) -> int:
        return sealed.size


def _pair_keys(names: tuple[str, ...]) -> list[PairKeys]:
    """Every hospital's pair keys, from one draw: as if the offers of a ceremony had made them."""
    seed, bind = os.urandom(32), bytes(32)
    return [
        PairKeys(
            hospital=own,
            bind=bind,
            round=PLACE.round,
            roots={
                other: hmac.digest(seed, repr(sorted((own, other))).encode(), "sha256")
                for other in names
                if other != own
            },
        )
        for own in names
    ]


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
