"""What a process keeps of one training between messages; all of it can be rebuilt.

Keys and terms are in a hospital's own folder, the replica follows from a snapshot and the sums
since, and input noise from its key. So a process may die, or forget a training, at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clients.site.answers import AnswersInMemory

if TYPE_CHECKING:
    from clients.data import Records
    from clients.site.agreement import Agreement
    from clients.site.membership import Membership


@dataclass(kw_only=True)
class SharedState:
    """One training, as the hospitals of one process know it.

    Attributes:
        agreement: the terms and the session that is made of them; ``None`` before the first of the
            hospitals needs it.
        answers: what simulated hospitals answered last.
        memberships: what each has of its own, by its folder.
        noisy_records: their prepared records behind input noise, by folder and scale.
    """

    agreement: Agreement | None = None
    answers: AnswersInMemory = field(default_factory=AnswersInMemory)
    memberships: dict[Path, Membership] = field(default_factory=dict)
    noisy_records: dict[tuple[Path, float], Records] = field(default_factory=dict)
