"""The end of a training at a hospital: nothing is left there that opens what was sent in it.

The server says that nothing will be asked any more; then the book retires the training, and its
keys go. Where no server says it, the hospital's operator does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounting import lines
from clients.contract.ceremony_messages import Named

if TYPE_CHECKING:
    from clients.contract.ceremony_messages import EndRequest
    from clients.site.door import Passage, Release
    from clients.site.hospital import Hospital


def end(passage: Passage[EndRequest], hospital: Hospital) -> Release:
    """Retire the training here and remove what opens anything of it."""
    hospital.book.append(lines.retire(hospital.training, why="it is over"))
    release = passage.answer(Named(name=hospital.site.name))
    hospital.forget_training()
    return release
