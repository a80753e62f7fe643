"""What a patient who deviates learns of the model, measured: no more than 32 bits a class.

All that the provider sends but the last message is masked by draws of its own (`test_views`). So a
deviating patient's best is to choose what the last message says, bit by bit.
"""

from __future__ import annotations

import numpy as np
from two_parties import play

from crypto.inference.answers import Logits
from crypto.inference.joining import Truncation
from crypto.inference.programs import Program
from crypto.inference.weighted import Linear, Weights
from crypto.inference.words import encode

TERMS, CLASSES = 24, 2


def linear():
    draw = np.random.default_rng(0)
    matrix, bias = draw.uniform(-0.99, 0.99, (CLASSES, TERMS)), np.zeros(CLASSES)
    layers = (
        Linear(inputs=(0,), out=CLASSES),
        Truncation(inputs=(1,), shift=16),
        Logits(inputs=(2,)),
    )
    return Program((TERMS,), layers), Weights.of(matrix, bias, "it")


def test_a_query_of_packed_inputs_yields_one_weight_and_a_half_a_class():
    """Inputs 1 and 2**14 put two weights beside each other: 17 + 15 bits of the 32.

    A weight of 16 bits after the point and a sign takes 17; an honest query of one pixel yields one
    weight. So packing gains less than a factor of two, and n weights a class take n / 2 queries.
    """
    program, weights = linear()
    row = np.zeros(TERMS)
    row[0], row[1] = 1.0, 2.0**14
    answer = play(program, {"1": weights}, row).answer.view(np.int64)
    low = ((answer + 2**13) % 2**14) - 2**13
    # The low 14 bits of the first weight; above them the low 18 of the second, and a carry.
    exact = weights.matrix[:, 0] + weights.matrix[:, 1] * 2**14
    wrapped = (exact + 2**31) % 2**32 - 2**31
    assert np.abs(answer - wrapped).max() <= 1
    assert np.abs(((weights.matrix[:, 0] + 2**13) % 2**14 - 2**13) - low).max() <= 1


def test_whatever_is_sent_the_answer_has_32_bits_a_class():
    program, weights = linear()
    draw = np.random.default_rng(1)
    for _ in range(20):
        odd = draw.integers(0, 2**64, TERMS, dtype=np.uint64)
        made = play(program, {"1": weights}, np.zeros(TERMS), patients=odd)
        assert len(made.patient_got[-1]) == 4 * CLASSES
        assert len(b"".join(made.patient_got[:-1])) == 8 * CLASSES, "the masked round of a division"


def test_a_linear_model_is_copied_by_as_many_queries_as_it_has_inputs():
    """The attack that a limit on queries is for: without one, a linear model is no secret."""
    program, weights = linear()
    stolen = np.zeros((CLASSES, TERMS))
    for place in range(TERMS):
        row = np.zeros(TERMS)
        row[place] = 1.0
        stolen[:, place] = play(program, {"1": weights}, row).reals
    assert np.abs(encode(stolen).view(np.int64) - weights.matrix).max() <= 1
