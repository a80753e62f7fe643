"""Chances that are the same in every run of a test, so that what chance decides is decided once.

A test that holds a bound at 95%, or a fault that canaries may or may not show, errs now and then
by itself. With these it errs always or never: whoever makes it err has changed something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest import mock

import numpy as np

from accounting.randomness import Stream


@contextmanager
def same_chances(label: str) -> Iterator[None]:
    """Key what the operating system would key, for noise, samples and coins, by a label instead.

    Keys of sealing, nonces and ids stay random: no value depends on them.
    """
    numbers, generator = count(), np.random.default_rng

    def fresh() -> Stream:
        return Stream.from_key(hashlib.sha256(f"{label} {next(numbers)}".encode()).digest())

    def made(seed: Any = None) -> np.random.Generator:
        return generator([next(numbers), len(label)] if seed is None else seed)

    with (
        mock.patch.object(Stream, "fresh", fresh),
        mock.patch.object(np.random, "default_rng", made),
    ):
        yield
