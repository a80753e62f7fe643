"""A provider's answers to encrypted rows, computed in a process that may end.

SEAL trusts what it reads: bytes made to hurt can end the process that reads them. So a child reads
them, which has the weights of one linear model and nothing else; where it ends, the patient is told
so and the next row gets another child.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from clients.prediction.private_program import Compiled
from crypto.inference.encrypted import answer_row, chunks_of
from crypto.inference.links import FrameLink
from crypto.inference.weighted import Weights
from crypto.inference.words import FRACTION, Reals, decode
from deployment.inference.servers import Denied

#: Bytes of a public key, of rotation keys and of a piece of a row, at most.
MOST_BYTES = (1 << 20, 1 << 24, 1 << 20)
#: What a child may take for a row: seconds of a processor (a row takes less than one), and memory,
#: most of which libraries reserve and never touch.
MOST_SECONDS, MOST_MEMORY = 60, 16 << 30


def linear_of(compiled: Compiled) -> tuple[Reals, Reals] | None:
    """Return weights [classes, terms] and biases [classes] of a linear model; None for another."""
    kinds = [layer.kind for layer in compiled.program.layers]
    if [kind for kind in kinds if kind != "flattening"] != ["linear", "truncation", "logits"]:
        return None
    ((_, weights),) = compiled.weights.items()
    if not isinstance(weights, Weights):
        return None
    return weights.matrix * 2.0**-FRACTION, decode(weights.bias, 2 * FRACTION)


def _bounded(
    keys: tuple[bytes, bytes], row: list[bytes], weights: Reals, bias: Reals
) -> list[bytes]:
    """Answer a row in this child, which ends where that takes more than it may."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime) + MOST_SECONDS
    bounds = {
        resource.RLIMIT_CPU: most,
        resource.RLIMIT_AS: MOST_MEMORY,
        # What it holds in memory is not written to a disk when it ends.
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        _, hard = resource.getrlimit(kind)
        within = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (within, hard))
    return answer_row(keys, row, weights, bias)


class EncryptedRows:
    """Answers rows of one linear model.

    Args:
        weights: [classes, terms].
        bias: [classes].
    """

    def __init__(self, weights: Reals, bias: Reals) -> None:
        self._model = (weights, bias)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def receive(self, link: FrameLink, sizes: Any) -> tuple[tuple[bytes, bytes], list[bytes]]:
        """Return a patient's keys and row.

        Args:
            link: to the patient.
            sizes: of the frames to come, as the patient said.

        Raises:
            Denied: they are no such sizes.
        """
        pieces = chunks_of(self._model[0].shape[1])
        most = [*MOST_BYTES[:2], *[MOST_BYTES[2]] * pieces]
        good = isinstance(sizes, list) and len(sizes) == len(most)
        if not good or any(
            not isinstance(size, int) or not 0 < size <= limit
            for size, limit in zip(sizes, most, strict=True)
        ):
            raise Denied("size", f"an encrypted row comes as two keys and {pieces} pieces")
        came = [bytes(link.receive(size)) for size in sizes]
        return (came[0], came[1]), came[2:]

    def answer(self, keys: tuple[bytes, bytes], row: list[bytes]) -> list[bytes]:
        """Return the encrypted answers.

        Raises:
            Denied: the child ended over what came.
            EncryptedError: it is none.
        """
        with self._lock:
            if self._pool is None:
                spawning = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=spawning)
            try:
                return self._pool.submit(_bounded, keys, row, *self._model).result()
            except BrokenProcessPool:
                self._pool = None
                raise Denied("encrypted", "what came could not be read") from None

    def close(self) -> None:
        """End the child."""
        if self._pool is not None:
            self._pool.shutdown()
