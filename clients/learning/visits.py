"""A model's visit to one hospital: private steps on its patients alone.

Chang et al. (2018), "Distributed deep learning networks among institutions for medical imaging":
in *cyclic* weight transfer the model goes round more than once, in *single* weight transfer once;
in an *ensemble* every hospital starts from the same model and keeps what it learnt. At a visit the
hospital takes its steps as in `gradients`, with its own q*N_k for a denominator and an optimizer
that starts anew, since only the model travels.

Formal guarantee: each step clips a patient by C and takes the hospital's full noise sigma*C before
it moves the weights, so what leaves is private by itself against everybody who sees it later; a
patient's cost composes the steps at their own hospital.

What travels is the vector of trainable parameters, float32, in an envelope under the group key that
is bound to the training, the visit and its maker.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from clients.contract.faults import Code, Fault
from clients.contract.visit_messages import Carried
from clients.learning.dp_sgd import clipped_gradient_sum
from crypto.envelope import unwrap, wrap
from crypto.headers import (
    Header,
    HeaderKind,
    SignedHeader,
    payload_digest,
    sign_header,
    verify_header,
)
from crypto.roles import NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clients.contract.terms import Terms
    from clients.learning.draws import Draws
    from clients.learning.replica import Replica
    from crypto.identity import Identity
    from crypto.roles import Place


def train_here(replica: Replica, draws: Draws, terms: Terms, steps: int) -> None:
    """Take private steps from where the replica is, at this hospital alone."""
    denominator = terms.sampling_rate * max(draws.patients, 1.0)
    for step in range(steps):
        batch = draws.batch(step)
        with draws.phases.measure("gradient"):
            gradient = clipped_gradient_sum(replica.per_sample, batch, l2_clip=terms.l2_clip)
        replica.step(draws.noised(gradient, step) / denominator, "")


def send_on(
    vector: NDArray[np.float64],
    *,
    place: Place,
    previous: Carried,
    parameter_id: str,
    bind: bytes,
    group_key: bytes,
    sender: str,
    identity: Identity,
    witness: Mapping[str, Any],
) -> Carried:
    """Seal a trained model for the next hospital and sign who made it, where, and from what."""
    context = _context(place.training, place.round, sender)
    envelope = wrap(group_key, vector.astype(np.float32).tobytes(), context)
    header = Header(
        kind=HeaderKind.VISIT,
        training=place.training,
        round=place.round,
        attempt=place.attempt,
        sender=sender,
        parameter_id=parameter_id,
        previous=hashlib.sha256(previous.envelope).hexdigest() if previous else "",
        payload=payload_digest(envelope),
        bind=bind,
        nonce=os.urandom(NONCE_BYTES),
        **witness,
    )
    return Carried(envelope=envelope, header=sign_header(header, identity).to_bytes())


def take_over(
    carried: Carried,
    *,
    training: str,
    before: int,
    dimensions: int,
    group_key: bytes,
    public_keys: Mapping[str, bytes],
    bind: bytes,
) -> NDArray[np.float64]:
    """Open a model that another hospital sent on.

    Raises:
        SealingError: it is not signed by a hospital of this training, or does not open.
        Fault: it is of another training, not from before this visit, of another size, or holds a
            number that is none, which no step would mend.
    """
    header = _verified(carried.header, training, public_keys, bind, carried.envelope)
    if not header.round < before:
        raise Fault(Code.STALE_PLACE, f"a model of visit {header.round} came to visit {before}")
    context = _context(training, header.round, header.sender)
    vector = np.frombuffer(unwrap(group_key, carried.envelope, context), dtype=np.float32)
    if len(vector) != dimensions:
        raise Fault(Code.OPENING_REFUSED, f"a model of {len(vector)} values, not {dimensions}")
    if not np.isfinite(vector).all():
        raise Fault(Code.OPENING_REFUSED, "a model with a number that is none")
    return vector.astype(np.float64)


def makers_of(
    trail: Sequence[bytes],
    carried: Carried,
    *,
    training: str,
    public_keys: Mapping[str, bytes],
    bind: bytes,
) -> list[Header]:
    """Return the headers of all that made a model, in order, each made from the one before it.

    Raises:
        SealingError: one is not signed by a hospital of this training.
        Fault: they do not follow from each other, or do not end at this model.
    """
    if not carried:
        return []
    made = [_verified(data, training, public_keys, bind) for data in trail]
    follows = all(
        later.previous == earlier.payload and later.round > earlier.round
        for earlier, later in itertools.pairwise(made)
    )
    whole = bool(made) and made[0].previous == "" and trail[-1] == carried.header
    if not (follows and whole and made[-1].payload == payload_digest(carried.envelope)):
        raise Fault(Code.RELEASE_REFUSED, "the trail of a model's makers has a gap")
    return made


def _verified(
    data: bytes,
    training: str,
    public_keys: Mapping[str, bytes],
    bind: bytes,
    envelope: bytes | None = None,
) -> Header:
    signed = SignedHeader.from_bytes(data)
    header = verify_header(signed, public_keys, kind=HeaderKind.VISIT, payload=envelope, bind=bind)
    if header.training != training:
        raise Fault(Code.STALE_PLACE, f"a model of {header.training!r} came to {training!r}")
    return header


def _context(training: str, visit: int, sender: str) -> bytes:
    return f"visit {training} {visit} {sender}".encode()
