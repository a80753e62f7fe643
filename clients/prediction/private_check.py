"""Whether a model on shares says what it says in plain: rehearsed on made-up records.

Shared numbers have a range, as every fixed precision has: 2**30 before a division, 2**15 for a
logit. Beyond it an answer is noise, though it shows no more than another. Which numbers a model
comes to depends on its weights; so it is tried before anybody relies on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.prediction.artefact import Artefact, ArtefactError
from clients.prediction.predictor import Predictor
from clients.prediction.private_program import Compiled
from clients.tasks.evaluation import probabilities
from crypto.inference.rehearsal import rehearse
from crypto.inference.words import decode, encode

#: By how much a probability may differ from the plain one.
MOST_ERROR = 1e-3


def made_up(artefact: Artefact) -> NDArray[np.float32]:
    """Return records [3, *shape] in the public range: the highest value, noise, and a slope."""
    low, high = artefact.info.input_range
    shape = artefact.info.shape
    noise = np.random.default_rng(0).random(shape)
    slope = np.linspace(0.0, 1.0, shape[-1]) * np.ones(shape)
    made = low + (high - low) * np.stack([np.ones(shape), noise, slope])
    return made.astype(np.float32)


def check_compiled(artefact: Artefact, compiled: Compiled) -> float:
    """Return the worst error of a probability on made-up records.

    Where the class alone is opened, it is 0 or the plain probabilities' difference between the two.

    Raises:
        ArtefactError: it is more than `MOST_ERROR`: the model's numbers leave the range.
    """
    predictor = Predictor(artefact)
    worst = 0.0
    for record in made_up(artefact):
        plain = predictor.chances(record[None])[0]
        row = predictor.prepared(record[None])[0] if compiled.features else record
        share = encode(compiled.prepared(row))
        made = rehearse(compiled.program, compiled.weights, share, np.zeros_like(share))
        if compiled.program.layers[-1].kind == "logits":
            found = probabilities(decode(made.answer)[None])[0]
            worst = max(worst, float(np.abs(found - plain).max()))
        else:
            opened = int(made.answer[0])
            chosen = plain[opened] if opened < len(plain) else -1.0
            worst = max(worst, float(plain.max() - chosen))
    if not worst <= MOST_ERROR:
        raise ArtefactError(
            f"computed on shares, a probability is off by {worst:.3g}; expected at most "
            f"{MOST_ERROR:g}: the model's weights lead to numbers too large for shares"
        )
    return worst
