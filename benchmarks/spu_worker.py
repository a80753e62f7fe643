"""One model on SPU (two parties, semi-honest), for `private_inference.py --spu`: a time, as JSON.

It runs in an environment of its own, as SPU needs an older numpy: nothing of this app is imported.
Weights are drawn at random: only shapes matter to the time. Both parties run in this process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu
import spu.utils.simulation as simulation

CLASSES = 5
#: Channels that each fire module squeezes to, and expands to twice.
_FIRES = tuple((q, 4 * q) for q in (16, 16, 32, 32, 48, 48, 64, 64))


def convolution(maps: Any, weights: Any, stride: int = 1, padding: int = 0) -> Any:
    """Return a convolution of maps [1, h, w, c] with weights [k, k, c, o]."""
    return jax.lax.conv_general_dilated(
        maps,
        weights,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def pooled(maps: Any) -> Any:
    """Return the maxima of windows of 3, every second one."""
    return jax.lax.reduce_window(maps, -1e4, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def squeezenet(weights: Any, picture: Any) -> Any:
    """Return SqueezeNet 1.1's logits."""
    left = iter(weights)
    maps = pooled(jax.nn.relu(convolution(picture, next(left), 2)))
    for number in range(8):
        squeezed = jax.nn.relu(convolution(maps, next(left)))
        sides = [convolution(squeezed, next(left)), convolution(squeezed, next(left), 1, 1)]
        maps = jax.nn.relu(jnp.concatenate(sides, axis=3))
        if number in (1, 3):
            maps = pooled(maps)
    return convolution(maps, next(left)).mean(axis=(1, 2))


def squeezenet_weights() -> list[Any]:
    """Return weights of its shapes."""
    shapes = [(3, 3, 3, 64)]
    channels = 64
    for squeezed, expanded in _FIRES:
        shapes += [(1, 1, channels, squeezed), (1, 1, squeezed, expanded)]
        shapes += [(3, 3, squeezed, expanded)]
        channels = 2 * expanded
    shapes.append((1, 1, 512, CLASSES))
    draw = np.random.default_rng(0)
    return [draw.normal(size=one, scale=0.05).astype(np.float32) for one in shapes]


def main() -> int:
    """Time one prediction after one that compiles."""
    model, channels, rows, columns = sys.argv[1], *map(int, sys.argv[2:5])
    draw = np.random.default_rng(1)
    if model == "logistic":
        terms = channels * rows * columns
        weights: Any = draw.normal(size=(terms, CLASSES)).astype(np.float32)
        picture = draw.random((1, terms)).astype(np.float32)

        def run(weights: Any, picture: Any) -> Any:
            return picture @ weights
    elif model == "squeezenet":
        weights, picture = squeezenet_weights(), draw.random((1, rows, columns, 3), np.float32)
        run = squeezenet
    else:
        sys.exit(f"{model} is not written for SPU here")
    simulator = simulation.Simulator.simple(2, spu.ProtocolKind.SEMI2K, spu.FieldType.FM64)
    private = simulation.sim_jax(simulator, run)
    private(weights, picture)
    begun = time.perf_counter()
    private(weights, picture)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - begun}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
