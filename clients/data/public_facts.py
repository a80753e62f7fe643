"""What of a data set's description every hospital and the server must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clients.contract.binding import PublicFacts

if TYPE_CHECKING:
    from clients.data.records import DatasetInfo


def public_facts(info: DatasetInfo) -> PublicFacts:
    """Return what is public about a data set, as the terms of a training carry it."""
    return PublicFacts(
        task=info.task,
        shape=tuple(info.shape),
        classes=tuple(str(name) for name in info.classes),
        columns=tuple(getattr(info, "columns", ())),
        ranges=(tuple(map(float, info.input_range)),),  # type: ignore[arg-type]
    )
