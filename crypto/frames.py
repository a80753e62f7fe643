"""The binary frame of a sealed vector: a fixed head, then one block of bytes per ciphertext.

Nothing in a frame decides how much is read: every size follows from the plan, and a frame of any
other length is refused before a byte of it is interpreted. Ciphertexts travel as bare residues and
seeds; SEAL's own (hostile-input-unsafe) format never crosses the network.

Head, 80 bytes, little-endian: magic, version, scheme, content, zero, parameter id, key id,
contributions, values, ciphertexts, body length.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crypto.errors import (
    ContributionError,
    FrameError,
    KeyMismatchError,
    ParameterMismatchError,
    SchemeMismatchError,
)
from crypto.parameters import HEAD_BYTES
from crypto.plans import (
    FORMAT_VERSION,
    SCHEME_NAMES,
    SealingPlan,
)
from crypto.roles import Sealed

MAGIC = b"ASCL"
KEY_ID_BYTES = 16
_HEAD = struct.Struct("<4sBBBB32s16sIQIQ")


class _Head(NamedTuple):
    magic: bytes
    version: int
    scheme: int
    content: int
    zero: int
    parameters: bytes
    key_id: bytes
    contributions: int
    values: int
    ciphertexts: int
    length: int


class Content(IntEnum):
    """What a frame holds."""

    SINGLE = 1
    TOTAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame whose head and length have been checked."""

    content: Content
    key_id: bytes
    contributions: int
    body: NDArray[np.uint8]

    def blocks(self, count: int) -> NDArray[np.uint8]:
        """The body in `count` equal blocks, one per ciphertext: uint8 `[count, bytes]`."""
        return self.body.reshape(count, -1)


def write_frame(
    plan: SealingPlan,
    *,
    content: Content,
    key_id: bytes,
    contributions: int,
    body: Sequence[bytes | memoryview],
    nonce: bytes = b"",
) -> Sealed:
    """Put a head before a body; the nonce goes beside the frame, not into it."""
    head = _HEAD.pack(
        MAGIC,
        FORMAT_VERSION,
        SCHEME_NAMES.index(plan.scheme),
        content,
        0,
        bytes.fromhex(plan.parameter_id),
        key_id,
        contributions,
        plan.values,
        plan.ciphertexts,
        sum(len(part) for part in body),
    )
    return Sealed(payload=b"".join([head, *body]), nonce=nonce)


def read_frame(
    sealed: Sealed, plan: SealingPlan, *, content: Content, key_id: bytes | None
) -> Frame:
    """Check a frame against the plan before anything else looks at it.

    Args:
        sealed: The frame.
        plan: What it must have been made under.
        content: A single vector or a total.
        key_id: The key ceremony it must be of; None where that is not known yet.

    Raises:
        FrameError: or one of its kind: malformed, other scheme, other parameters.
        KeyMismatchError: Sealed under another ceremony's keys.
        ContributionError: A number of contributions that cannot be.
    """
    payload = sealed.payload
    if not isinstance(payload, bytes) or len(payload) < HEAD_BYTES:
        raise FrameError(f"a frame has at least {HEAD_BYTES} bytes, found {len(payload)}")
    head = _Head._make(_HEAD.unpack_from(payload))
    _check_plan(head, plan)
    if head.content != content:
        raise FrameError(f"frame content {head.content}, expected {content.value} ({content.name})")
    expected = plan.body_bytes(total=content is Content.TOTAL)
    if head.length != expected or len(payload) != HEAD_BYTES + expected:
        raise FrameError(f"body of {len(payload) - HEAD_BYTES} bytes, expected {expected}")
    if key_id is not None and head.key_id != key_id:
        raise KeyMismatchError(
            f"sealed under key {head.key_id.hex()[:16]}, expected {key_id.hex()[:16]}"
        )
    most = 1 if content is Content.SINGLE else plan.hospitals
    if not 1 <= head.contributions <= most:
        raise ContributionError(f"{head.contributions} contributions, expected 1 to {most}")
    return Frame(
        content=content,
        key_id=head.key_id,
        contributions=head.contributions,
        body=np.frombuffer(payload, dtype=np.uint8, offset=HEAD_BYTES),
    )


def _check_plan(head: _Head, plan: SealingPlan) -> None:
    """Refuse a frame of another format, scheme or parameters, or of another number of values."""
    if head.magic != MAGIC or head.version != FORMAT_VERSION or head.zero != 0:
        raise FrameError(
            f"magic {head.magic!r} version {head.version}, expected {MAGIC!r} {FORMAT_VERSION}"
        )
    known = head.scheme < len(SCHEME_NAMES)
    scheme = SCHEME_NAMES[head.scheme] if known else f"number {head.scheme}"
    if scheme != plan.scheme:
        raise SchemeMismatchError(f"sealed by scheme {scheme}, expected {plan.scheme}")
    parameters = head.parameters.hex()
    if parameters != plan.parameter_id:
        raise ParameterMismatchError(
            f"sealed under parameters {parameters[:16]}, expected {plan.parameter_id[:16]}"
        )
    if head.values != plan.values or head.ciphertexts != plan.ciphertexts:
        raise FrameError(
            f"{head.values} values in {head.ciphertexts} ciphertexts, expected {plan.values} in "
            f"{plan.ciphertexts}"
        )
