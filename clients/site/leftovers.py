"""What a training leaves in a hospital's folder, and what goes of it once the training is over.

Keys, the last answers, the replica and whatever else is named for the training go. What stays says
who the others were and what was agreed; none of it is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from accounting.lines import retire
from accounting.states import Phase

if TYPE_CHECKING:
    from accounting.book import Book

#: Name of a file of one training: what it is, then the id; behind a dot where a process that died
#: had not written all of it.
_FILE = re.compile(r"\.?([a-z]+)-([a-z2-7]{40})[-.].*")
#: Trainings that a hospital may have keys of before it spends anything in them.
MOST_UNBEGUN = 64
#: Those that stay: who the others were, and what its audit found.
_STAY = ("terms", "audit")


def forget_trainings(
    folder: Path, trainings: Collection[str], *, stay: Collection[str] = _STAY
) -> None:
    """Remove every file of some trainings of a real hospital but those that hold no secret."""
    for path in folder.iterdir():
        found = _FILE.fullmatch(path.name)
        if found and found[2] in trainings and found[1] not in stay:
            path.unlink(missing_ok=True)


def forget_retired(folder: Path, book: Book) -> None:
    """Remove what a process left that died between a training's last line and this."""
    over = [name for name in book.trainings() if book.state(name).phase is Phase.RETIRED]
    if over:
        forget_trainings(folder, frozenset(over))


def retire_unbegun(folder: Path, book: Book, *, but: str) -> None:
    """Retire the oldest trainings that have spent nothing, where there are too many.

    A training of one hospital takes a server a few messages to begin, and leaves files that every
    later message looks at.

    Args:
        folder: the hospital's.
        book: its own.
        but: id of a training that stays.
    """
    unbegun = [one for one in book.trainings() if book.state(one).takes_keys and one != but]
    over = unbegun[: max(0, len(unbegun) + 1 - MOST_UNBEGUN)]
    if over:
        book.append(*(retire(one, why="too many that never began") for one in over))
        forget_trainings(folder, frozenset(over), stay=())
