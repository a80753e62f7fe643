"""One question of the page, asked by the patient's agent: which model there is, and its answer."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

from clients.prediction.asked_pictures import picture_form
from crypto.inference.links import LinkError, Refusal
from crypto.inference.sealed_shares import OVERHEAD, PUBLIC
from deployment.clinic.feature_constants import (
    IN_BROWSERS,
    LEAST_SIDE,
    browser_features,
    constants,
    layout,
)
from deployment.clinic.texts import TEXTS, share_text
from deployment.inference.agents import About, Agent, Answer
from deployment.inference.folders import Folder
from deployment.inference.pictures import info_of

_log = logging.getLogger("asclepias.clinic")
#: Values of the largest picture that a page shares.
MOST_VALUES = 3 * 1024 * 1024


def introduced(folder: Folder, *, patience: float = 60.0) -> dict[str, Any]:
    """Return what the page has to know of the model that is served, JSON-ready.

    Raises:
        LinkError: the provider cannot be reached, or says what cannot be read.
        Refusal: it refuses.
    """
    with Agent(folder, patience=patience) as agent:
        about, shape = agent.about, agent.program.shape
        fault = _fault(about, shape)
        if fault:
            return {"error": fault}
        if len(agent.seal) != 2 * PUBLIC:
            raise LinkError("the provider gives no key for shares of pages")
        return {
            "model": agent.model,
            "seal": agent.seal,
            "left": agent.left,
            "shape": list(shape),
            "features": layout(browser_features(info_of(about))) if about.features else None,
            "gain": about.gain,
            "offset": about.offset,
            "title": info_of(about).title,
            "classes": about.classes,
            "measured": about.threshold is not None,
            "share": share_text(about.coverage),
            **_form(about),
        }


def _fault(about: About, shape: tuple[int, ...]) -> str:
    """Return why a page cannot share what this model takes; "" where it can."""
    info = info_of(about)
    drawn = len(info.shape) == 3 and info.shape[1] == info.shape[2] and info.shape[0] in (1, 3)
    if info.kind != "image" or not drawn or math.prod(info.shape) > MOST_VALUES:
        return "no-pictures"
    if about.features:
        there = about.features in IN_BROWSERS and info.shape[1] >= LEAST_SIDE
        return "" if there and shape == browser_features(info).shape else "features"
    pictures = len(shape) == 3 and shape[0] in (1, 3) and shape[1:] == tuple(info.shape[1:])
    return "" if pictures and math.prod(shape) <= MOST_VALUES else "no-pictures"


def computed_by(folder: Folder, *, patience: float = 60.0) -> bytes:
    """Return the constants by which a page computes features for the model that is served.

    Raises:
        LinkError: the provider cannot be reached, or says what cannot be read.
        Refusal: it refuses, or its model takes no features that a page computes.
    """
    with Agent(folder, patience=patience) as agent:
        about = agent.about
        if not about.features or _fault(about, agent.program.shape):
            raise Refusal("model", "the model that is served takes no features of a page")
        return constants(browser_features(info_of(about)))


def _form(about: About) -> dict[str, Any]:
    """Return to what pictures are brought, and between which values they lie."""
    form = picture_form(info_of(about))
    known = form.range is not None and form.range.high <= 255
    low, high = (form.range.low, form.range.high) if form.range and known else (0.0, 255.0)
    return {"size": form.size, "channels": form.channels, "low": low, "high": high}


def sizes(shape: list[int]) -> tuple[int, int]:
    """Return how many bytes the agent's share has, and the provider's sealed one."""
    share = 8 * math.prod(shape)
    return share, share + OVERHEAD


def asked(
    folder: Folder, model: str, share: bytes, sealed: bytes, *, patience: float = 60.0
) -> Iterator[dict[str, Any]]:
    """Ask about one picture, and yield each step, then the answer or an error; JSON-ready.

    Args:
        folder: the patient's.
        model: the id of the model that the page shared for.
        share: the agent's, uint64 little-endian.
        sealed: the provider's; only the provider can open it.
        patience: seconds that a peer may be silent.
    """
    try:
        with Agent(folder, patience=patience) as agent:
            if agent.model != model:
                raise Refusal("model", "another model is served now")
            if agent.left < 1:
                raise Refusal("limit", "all questions of today are used up")
            words = np.frombuffer(share, dtype="<u8").reshape(agent.program.shape)
            token = agent.deposit(sealed)
            yield {"step": "deposited"}
            agent.prepare()
            yield {"step": "prepared"}
            try:
                answer = agent.predict(words, token)
            finally:
                # At once, whatever came out: the provider sees when the connection ends.
                agent.close()
            yield {"step": "answered"}
            yield {"answer": _told(answer, agent), "sent": list(_sent(agent))}
    except Exception as error:
        yield {"error": code_of(error)}


def code_of(error: Exception) -> str:
    """Return by which word the page knows an error."""
    if isinstance(error, Refusal):
        return error.reason if error.reason in TEXTS["errors"] else "failed"
    if isinstance(error, LinkError):
        return "link"
    # Its text may hold anything: neither a log nor the page gets it.
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("asking failed: %s at\n%s", type(error).__name__, where)
    return "failed"


def _told(answer: Answer, agent: Agent) -> dict[str, Any]:
    chances = None if answer.chances is None else answer.chances.tolist()
    return {
        "favourite": answer.favourite,
        "chances": chances,
        "within": answer.within,
        "left": agent.left,
    }


def _sent(agent: Agent) -> Iterator[list[Any]]:
    """Yield who got what, and how many bytes of it, beside the two shares."""
    rows, traffic = TEXTS["rows"], agent.traffic
    yield [TEXTS["provider"], rows["rounds"], traffic.sent.get("provider", 0)]
    if "dealer" in traffic.sent:
        yield [TEXTS["dealer"], rows["dealer"], traffic.sent["dealer"]]
    here = TEXTS["you"]
    got = traffic.received
    yield [here.format(peer=TEXTS["provider"]), rows["from-provider"], got.get("provider", 0)]
    if "dealer" in got:
        yield [here.format(peer=TEXTS["dealer"]), rows["from-dealer"], got["dealer"]]
