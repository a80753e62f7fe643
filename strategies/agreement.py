"""The terms of a training as the server derives them, before any hospital has said a word.

Hospitals derive the same for themselves and compare digests, so the server proposes nothing that
they could not check: not even the training's id, which is made of the terms.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clients.contract.binding import (
    NONCE_BYTES,
    BoundTerms,
    Parameter,
    differing,
    terms_digest,
    training_id,
)
from clients.contract.schedule import failures_allowed, spare_attempts
from clients.contract.terms import Terms, agree_terms
from clients.learning.shapes import dimensions_of, weights_digest
from crypto.rosters import quorum
from strategies.errors import TrainingStopped

if TYPE_CHECKING:
    from clients.contract.settings import Settings
    from strategies.holdout import Holdout
    from strategies.run.journal import Kept


#: An id that is made of terms; any other is a word.
_MADE_OF_TERMS = re.compile(r"[a-z2-7]{40}")


@dataclass(frozen=True, kw_only=True)
class SharedPart:
    """What hospitals train together, as far as the terms name it.

    Attributes:
        parameters: the tensors, in the model's own order.
        message_values: noised values that a hospital sends in a round beside a sum.
    """

    parameters: tuple[Parameter, ...]
    message_values: int = 0

    @property
    def dimensions(self) -> int:
        """How many numbers the tensors hold, d."""
        return dimensions_of(self.parameters)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What all hospitals of a training must agree on, and its id.

    Attributes:
        training: id of the training.
        nonce: random bytes that went into the id; ``b""`` for an id that is a word.
        terms: what follows from the settings and public numbers.
        text: the canonical text of the terms.
        digest: of that text, 32 bytes.
        noise_multiplier: sigma.
        spare_attempts: attempts beyond one for each place that a hospital may be asked for.
    """

    training: str
    nonce: bytes
    terms: Terms
    text: str
    digest: bytes
    noise_multiplier: float
    spare_attempts: int

    @property
    def bind(self) -> str:
        """The digest as every request carries it, hex."""
        return self.digest.hex()

    @property
    def quorum(self) -> int:
        """Hospitals that must have signed a chain of sums before anything made from it leaves."""
        noise = self.terms.noise
        return quorum(self.terms.hospitals, noise.dropouts, noise.colluders)

    @property
    def quorum_note(self) -> str:
        """What to say at the start where more must sign than a round needs; "" where not."""
        if self.quorum <= self.least:
            return ""
        return (
            f"rounds go on with {self.least} of {self.terms.hospitals} hospitals, but a model "
            f"leaves them only once {self.quorum} have signed the sums that it is made of"
        )

    @property
    def least(self) -> int:
        """Hospitals without which no sum is closed, K - d."""
        return self.terms.least


def agree(
    settings: Settings,
    holdout: Holdout,
    shared: SharedPart,
    *,
    noise_multiplier: float,
    kept: Kept | None,
) -> Agreement:
    """Derive the terms and the id of a training; one that goes on must have begun with the same.

    Raises:
        ValueError: no grid, or no sealing parameters, meet the guarantee.
        TrainingStopped: a training that goes on began with other terms.
    """
    terms = agree_terms(
        settings,
        training="unnamed",  # the id is made of the terms, so it is not among them
        dimensions=shared.dimensions,
        patients=holdout.patients,
        largest_hospital=holdout.largest_hospital,
        noise_multiplier=noise_multiplier,
        message_values=shared.message_values,
    )
    text = BoundTerms.of(
        settings,
        terms,
        noise_multiplier=noise_multiplier,
        largest_hospital=holdout.largest_hospital,
        facts=holdout.facts,
        parameters=shared.parameters,
        spare_attempts=spare_attempts(settings),
        failed_openings=failures_allowed(settings),
        weights=weights_digest(settings.model),
    ).text()
    digest = terms_digest(text)
    if kept is not None and kept.terms != text:
        raise TrainingStopped(
            f"training {kept.training} began with other terms; what differs: "
            f"{', '.join(differing(kept.terms, text)) or 'its form'}. Begin a new training."
        )
    training, nonce = (kept.training, kept.nonce) if kept else _name(settings, digest)
    return Agreement(
        training=training,
        nonce=nonce,
        terms=replace(terms, training=training),
        text=text,
        digest=digest,
        noise_multiplier=noise_multiplier,
        spare_attempts=spare_attempts(settings),
    )


def _name(settings: Settings, digest: bytes) -> tuple[str, bytes]:
    """Return a new training's id and the nonce in it.

    An id that was made of terms is not taken up without its nonce, which the journal would hold: a
    run that was stopped before its hospitals had keys begins anew.
    """
    given = settings.run.training_id
    if given and not _MADE_OF_TERMS.fullmatch(given):
        return given, b""
    nonce = os.urandom(NONCE_BYTES)
    return training_id(digest, nonce), nonce
