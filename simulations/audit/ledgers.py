"""A hospital's ledger as it is on disk: what was paid for, answered and shown, line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accounting.chain import read_chain
from accounting.errors import LedgerError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Paid:
    """A line of a hospital's ledger that pays for a place.

    Attributes:
        round: or the number of the visit.
        attempt: of the round.
        rounds: that it covers, from its own on.
        uses: messages that it pays for.
        event: what it costs, as the line has it.
        views: noise that each observer has to face, as the line has it.
        end: bytes of the ledger up to the end of the line.
    """

    round: int
    attempt: int
    rounds: int
    uses: int
    event: Mapping[str, Any]
    views: Mapping[str, float | None]
    end: int

    @property
    def place(self) -> tuple[int, int]:
        """Round and attempt."""
        return self.round, self.attempt


@dataclass(frozen=True, kw_only=True)
class Book:
    """One hospital's ledger, as it is on disk after a run.

    Attributes:
        paid: what was paid for, in order.
        answered: (round, attempt) -> digest of what left for good, and the bytes up to that line.
        shown: (round, attempt, turn) -> bytes up to that line.
        public: bytes up to each line that lets figures of public records go.
    """

    paid: list[Paid]
    answered: Mapping[tuple[int, int], tuple[str, int]]
    shown: Mapping[tuple[int, int, int], int]
    public: Sequence[int]


def read_book(path: Path, training: str) -> Book:
    """Read a training's lines; the file is checked as a whole first.

    Raises:
        LedgerError: the file is damaged, or there is none.
    """
    if not path.is_file():
        raise LedgerError(f"{path} is not there, though the hospital answered")
    read_chain(path)
    paid: list[Paid] = []
    answered: dict[tuple[int, int], tuple[str, int]] = {}
    shown: dict[tuple[int, int, int], int] = {}
    public: list[int] = []
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        end += len(line)
        record = json.loads(line)
        if record.get("training") != training:
            continue
        place = record.get("round", 0), record.get("attempt", 0)
        if record["kind"] == "spend":
            paid.append(
                Paid(
                    round=place[0],
                    attempt=place[1],
                    rounds=record.get("rounds", 1),
                    uses=record["uses"],
                    event=record["event"],
                    views=record.get("views", {}),
                    end=end,
                )
            )
        elif record["kind"] == "again":
            raise LedgerError(
                f"{path}: {place} was computed again, as a seeded simulation does that goes on: "
                "what left twice is not one message. Reconcile an unseeded run"
            )
        elif record["kind"] == "seal":
            answered[place] = record["reply"], end
        elif record["kind"] == "show":
            shown[*place, record["turn"]] = end
        elif record["kind"] == "public":
            public.append(end)
    return Book(paid=paid, answered=answered, shown=shown, public=public)
