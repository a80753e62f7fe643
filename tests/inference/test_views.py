"""What each party receives tells two pictures, or two models, apart no better than chance does.

Each test runs one program many times on either of two inputs with fresh randomness, and holds the
bytes that one party got against each other: bit by bit, and by a classifier that was fitted to half
of the runs. The control lets a seed be used twice: then both must find it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from two_parties import play

from clients.prediction.private_program import compile_layers
from crypto.inference.rehearsal import Seeds

#: How often each program runs on either input.
RUNS = pytest.mark.parametrize("runs", [30, pytest.param(240, marks=pytest.mark.exhaustive)])
#: Standard errors that no bit, and no classifier, may be off: by chance once in 10**6 runs.
BITS, GUESSES = 6.5, 5.0


def parts(seed):
    """Return a network with a layer of every kind that opens something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.GroupNorm(2, 4),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 2),
        ]


def bits(views):
    """Return views of equal length as bits, [runs, bits], without those that never change."""
    return np.unpackbits(np.stack([np.frombuffer(view, np.uint8) for view in views]), axis=1)


def worst_bit(first, second):
    """Return by how many standard errors the bit that differs most differs.

    The error is that of a fair bit, the largest: what few runs show of it would be too small for
    some of a million bits.
    """
    apart = np.abs(first.mean(axis=0) - second.mean(axis=0))
    return float(np.max(apart) / np.sqrt(0.5 / len(first)))


def guesses(first, second):
    """Return how many standard errors above chance the nearest mean guesses whose view it is."""
    half = len(first) // 2
    weights = first[:half].mean(axis=0) - second[:half].mean(axis=0)
    middle = (first[:half].mean(axis=0) + second[:half].mean(axis=0)) / 2
    scores = [(views[half:] - middle) @ weights for views in (first, second)]
    right = (scores[0] > 0).sum() + (scores[1] < 0).sum()
    return float((right - half) / np.sqrt(half / 2))


def views(program, weights, picture, of, fixed, count):
    """Return what a party got in each run."""
    once = Seeds.fresh()
    runs = [play(program, weights, picture, seeds=once if fixed else None) for _ in range(count)]
    if of == "provider":
        return bits([b"".join(run.provider_got) for run in runs])
    # The last message is the answer, which is the patient's to have.
    return bits([run.masked + run.tape + b"".join(run.patient_got[:-1]) for run in runs])


@RUNS
@pytest.mark.parametrize("fixed", [False, True], ids=["fresh", "seed used twice"])
def test_the_provider_cannot_tell_two_pictures_apart(fixed, runs):
    model = compile_layers(parts(0), (1, 4, 4))
    black, white = (
        views(model.program, model.weights, np.full((1, 4, 4), value), "provider", fixed, runs)
        for value in (0.0, 1.0)
    )
    assert (worst_bit(black, white) > BITS) == fixed
    assert (guesses(black, white) > GUESSES) == fixed


@RUNS
@pytest.mark.parametrize("fixed", [False, True], ids=["fresh", "seed used twice"])
def test_the_patient_cannot_tell_two_models_apart_before_the_answer(fixed, runs):
    picture = np.random.default_rng(0).random((1, 4, 4))
    one, other = (
        views(made.program, made.weights, picture, "patient", fixed, runs)
        for made in (compile_layers(parts(seed), (1, 4, 4)) for seed in (0, 1))
    )
    assert (worst_bit(one, other) > BITS) == fixed
    assert (guesses(one, other) > GUESSES) == fixed


@RUNS
def test_whatever_a_patient_sends_it_gets_fresh_randomness_before_the_answer(runs):
    """A share of the patient's choosing stands for any deviation: it changes all that is opened."""
    draw = np.random.default_rng(0)
    odd = draw.integers(0, 2**64, (1, 4, 4), dtype=np.uint64)
    seen = []
    for seed in (0, 1):
        made = compile_layers(parts(seed), (1, 4, 4))
        model = (made.program, made.weights, np.zeros((1, 4, 4)))
        played = [play(*model, patients=odd) for _ in range(runs)]
        seen.append(bits([run.tape + b"".join(run.patient_got[:-1]) for run in played]))
    assert worst_bit(*seen) < BITS
    assert guesses(*seen) < GUESSES
