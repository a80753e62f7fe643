"""What a process keeps of one training between messages; all of it can be rebuilt.

Keys and terms are in a hospital's own folder, the replica follows from a snapshot and the sums
since, and input noise from its key. So a process may die, or forget a training, at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clients.data import Records
    from clients.site.session import Session
    from crypto.keys import Keys


@dataclass(frozen=True, kw_only=True)
class Membership:
    """What a hospital has in a training: its keys, who the others are, and the shared session."""

    keys: Keys
    public_keys: dict[str, bytes]
    session: Session


@dataclass(kw_only=True)
class TrainingState:
    """One training, as the hospitals of one process know it.

    Attributes:
        session: what they share; ``None`` before the first of them needs it.
        memberships: what each has of its own, by its folder.
        noisy_records: their prepared records behind input noise, by folder and scale.
    """

    session: Session | None = None
    memberships: dict[Path, Membership] = field(default_factory=dict)
    noisy_records: dict[tuple[Path, float], Records] = field(default_factory=dict)
