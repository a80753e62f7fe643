"""What comes back of a gradient, where it is exact, and how alike two pictures are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clients.models.small import Centre
from simulations.attacks.inversion import Prior, descended, label_of, linear_start
from simulations.attacks.similarity import MOST_DECIBELS, psnr, ssim

SHAPE = (1, 8, 8)


def records(count=200, seed=0):
    """Made pictures: a few blobs each, values between 0 and 1."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:8, 0:8]
    made = np.zeros((count, 1, 8, 8))
    for picture in made:
        for _ in range(2):
            y, x = generator.uniform(1, 7, 2)
            picture[0] += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4)
    return np.clip(made, 0, 1)


def mlp():
    torch.manual_seed(0)
    hidden = [nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)]
    return nn.Sequential(Centre(0.0, 1.0), nn.Flatten(), *hidden)


def convolutions():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 64, 3)]
    return nn.Sequential(Centre(0.0, 1.0), *layers)


def gradient(module, picture, label):
    loss = nn.functional.cross_entropy(
        module(torch.tensor(picture[None], dtype=torch.float32)), torch.tensor([label])
    )
    found = torch.autograd.grad(loss, list(module.parameters()))
    return torch.cat([one.reshape(-1) for one in found]).double().numpy()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_linear_first_layer_gives_the_record_back_however_it_was_clipped(scale):
    module, made = mlp(), records()
    update = scale * gradient(module, made[0], 2)
    found = linear_start(module).inverted(update, 0.0, Prior.of(made[1:]))
    assert np.abs(found - made[0].reshape(-1)).max() < 1e-3
    assert label_of(module, update) == 2


def test_noise_takes_it_away_and_leaves_the_guess():
    module, made = mlp(), records()
    prior, truth = Prior.of(made[1:]), made[0].reshape(-1)
    update = gradient(module, made[0], 1)
    size = float(np.linalg.norm(update))
    errors = []
    for share in (1e-3, 3e-2, 10.0):
        noisy = update + np.random.default_rng(3).normal(size=len(update)) * share * size
        found = linear_start(module).inverted(noisy, share * size, prior)
        errors.append(float(np.mean((found - truth) ** 2)))
    guess = float(np.mean((prior.mean - truth) ** 2))
    assert errors[0] < errors[1] < guess
    assert errors[0] < guess / 10
    assert errors[2] == pytest.approx(guess, rel=1.0)


def test_a_prior_helps_against_noise():
    module, made = mlp(), records()
    prior, truth = Prior.of(made[1:]), made[0].reshape(-1)
    flat = Prior(mean=prior.mean, axes=prior.axes, variances=np.full(64, 1e6))
    update = gradient(module, made[0], 0)
    stddev = 0.05 * float(np.linalg.norm(update))
    noisy = update + np.random.default_rng(4).normal(size=len(update)) * stddev
    start = linear_start(module)
    with_prior, without = (
        float(np.mean((start.inverted(noisy, stddev, one) - truth) ** 2)) for one in (prior, flat)
    )
    assert with_prior < without


def test_descent_gives_the_record_of_a_convolutional_net_back():
    module, made = convolutions(), records()
    assert linear_start(module) is None
    mean = Prior.of(made[2:]).mean
    found = [
        descended(module, 1e-2 * gradient(module, picture, 1), mean, SHAPE, 1.0).reshape(SHAPE)
        for picture in made[:2]
    ]
    for picture, own in zip(made, found, strict=False):
        assert psnr(own, picture, 1.0) > 25 > 20 > psnr(mean.reshape(SHAPE), picture, 1.0)
    assert psnr(found[1], made[0], 1.0) < 20


def test_equal_pictures_are_alike_and_others_less():
    made = records(3)
    assert ssim(made[0], made[0], 1.0) == pytest.approx(1.0)
    assert psnr(made[0], made[0], 1.0) == MOST_DECIBELS
    noisy = made[0] + np.random.default_rng(5).normal(size=SHAPE) * 0.1
    assert ssim(made[0], made[1], 1.0) < ssim(made[0], noisy, 1.0) < 1.0
    assert psnr(made[0], made[0] + 0.1, 1.0) == pytest.approx(20.0)


def test_two_even_pictures_are_as_alike_as_their_brightness():
    first, second = np.full(SHAPE, 0.25), np.full(SHAPE, 0.75)
    c1 = 0.01**2
    expected = (2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1)
    assert ssim(first, second, 1.0) == pytest.approx(expected)
