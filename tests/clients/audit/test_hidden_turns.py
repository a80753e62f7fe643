"""What is read of sealed vectors without a key: polynomials as they are, and nothing in them."""

from __future__ import annotations

import numpy as np
import pytest

from accounting.audit_turns import turn_gates
from clients.audit.hidden import Shown, coefficients, turns_modulo, turns_of
from crypto.bfv import lattice_of
from crypto.lattice import _filler, scratch
from crypto.parameters import COEFFICIENT_PRIME
from crypto.planning import plan_sealing
from crypto.plans import SealingPlan
from crypto.roles import Place, Quantiser
from crypto.schemes import make_keys, make_sealer

GRID = Quantiser(step=2.0**-10, bound=1.0)


def plan_of(scheme: str, mode: str = "auto") -> SealingPlan:
    return plan_sealing(values=9_000, hospitals=3, grid=GRID, scheme=scheme, key_mode=mode)


def test_values_of_a_polynomial_are_turned_back_into_its_coefficients() -> None:
    lattice = lattice_of(plan_of("ckks"))
    plaintext = lattice.seal.Plaintext()
    lattice.encode(np.random.default_rng(1).uniform(-9.0, 9.0, 2_048), plaintext)
    prime, filler = np.uint64(lattice.prime), _filler(lattice)
    with scratch() as file:
        onto = lattice.seal.Ciphertext()
        onto.load(lattice.context, file.holding(lattice.full(filler, filler)))
        lattice.seal.Evaluator(lattice.context).add_plain_inplace(onto, plaintext)
        first, _ = lattice.residues(file.written_by(onto.save))
    found = coefficients((first + prime - filler) % prime, lattice.prime)
    distance = np.minimum(found, prime - found)
    assert 2**20 < int(distance.max()) < 2**34  # nine times the scale, at the most


def test_turns_modulo_a_scale_are_exact_to_a_millionth() -> None:
    random, scale = np.random.default_rng(2), (1 << 51) + 12_345
    residues = random.integers(COEFFICIENT_PRIME, size=50, dtype=np.uint64)
    exact = [int(one) * scale % COEFFICIENT_PRIME / COEFFICIENT_PRIME for one in residues]
    apart = np.abs(turns_modulo(residues, scale, COEFFICIENT_PRIME) - exact)
    assert float(np.minimum(apart, 1.0 - apart).max()) < 1e-6


@pytest.mark.parametrize(
    ("scheme", "mode"), [("bfv", "symmetric"), ("bfv", "public"), ("ckks", "symmetric")]
)
def test_what_is_sealed_shows_nothing_without_its_key(scheme: str, mode: str) -> None:
    plan = plan_of(scheme, mode)
    keys, values = make_keys(plan), np.full(9_000, 0.25)
    shown = [
        Shown(name, make_sealer(plan, keys, name).seal(values, place).payload, place.round)
        for place in (Place(training="t", round=one, attempt=1) for one in (1, 2))
        for name in ("east", "north", "west")
    ]
    assert all(gate.open(1e-9) for gate in turn_gates(turns_of(shown, plan)))
