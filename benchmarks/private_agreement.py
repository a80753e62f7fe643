"""Whether a model on shares says what it says in plain, for `private_inference.py`.

All three roles are in one process, and what a dealer makes serves `CHUNK` pictures: with both
shares in one hand there is nobody from whom to hide. As many processes work as this one has cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from private_rows import shared

from clients.prediction.artefact import read_artefact
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import Compiled, compile_model
from clients.tasks.evaluation import probabilities
from crypto.inference.rehearsal import deal, play
from crypto.inference.words import decode

#: Pictures that are compared with one packet, and kept together.
CHUNK = 25
#: Threads of a process's matrix products: the processes share the cores.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@lru_cache(maxsize=1)
def _model(file: Path) -> tuple[Compiled, Predictor]:
    artefact = read_artefact(file)
    return compile_model(artefact), Predictor(artefact)


def compared(file: Path, pictures: list[Any]) -> dict[str, Any]:
    """Return how often the class is the plain one, and the worst error of a probability."""
    compiled, predictor = _model(file)
    dealt, same, worst = deal(compiled.program, compiled.weights), 0, 0.0
    for picture in pictures:
        plain = predictor.chances(picture[None])[0]
        share = shared(compiled, predictor, picture)
        made = play(compiled.program, compiled.weights, dealt, share, np.zeros_like(share))
        private = probabilities(decode(made.answer)[None])[0]
        same += int(private.argmax() == plain.argmax())
        worst = max(worst, float(np.abs(private - plain).max()))
    return {"pictures": len(pictures), "same": same, "worst_error": worst}


def agreement(file: Path, pictures: list[Any], kept: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Compare answers, and yield what is known after each chunk.

    Args:
        file: the model's.
        pictures: all of them.
        kept: what an earlier process found of the same model: its chunks are not done again.
    """
    digest = read_artefact(file).digest
    chunks = dict(kept["chunks"]) if kept.get("model") == digest else {}
    due = [
        start
        for start in range(0, len(pictures), CHUNK)
        if chunks.get(str(start), {}).get("pictures") != len(pictures[start : start + CHUNK])
    ]
    yield _told(digest, chunks)
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # of the processes that begin below
    pool = ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn"))
    try:
        asked = {
            pool.submit(compared, file, pictures[start : start + CHUNK]): str(start)
            for start in due
        }
        for done in as_completed(asked):
            chunks[asked[done]] = done.result()
            yield _told(digest, chunks)
    finally:
        pool.shutdown(cancel_futures=True)


def _told(digest: str, chunks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = list(chunks.values())
    return {
        "model": digest,
        "pictures": sum(one["pictures"] for one in found),
        "same": sum(one["same"] for one in found),
        "worst_error": max((one["worst_error"] for one in found), default=0.0),
        "chunks": chunks,
    }
