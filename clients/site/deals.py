"""Who is in which slot of a pass of shared layers, at one hospital: dealt once, kept until it ends.

Records are read anew for every turn, and may have changed since: a patient withdraws, another one
comes, a file is sorted otherwise. A pass is paid for once, so whoever is in it stays in the slot
that was dealt when it began. Who has left leaves it empty; who comes waits for the next pass. Were
slots dealt again from whoever is there, one patient's leaving would move everybody behind, who
could be shown twice, or three times, for what was paid once.

What is kept is a digest of each patient, slot by slot, under a key of the pass, and random bytes in
the slots that nobody has: the file's size is public. A pass whose deal is lost is dealt, and paid
for, anew.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from accounting.randomness import Stream
from clients.contract.faults import Code, Fault
from clients.learning.slots import deal_slots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clients.site.hospital import Hospital
    from crypto.roles import Place

_MAGIC, _KEY, _MARK = b"ASLT\x02", 32, 16


class Deals:
    """The deals of one hospital's passes in one training.

    Args:
        hospital: whose.
        batches: of a pass.
        size: slots of a batch; public.
    """

    def __init__(self, hospital: Hospital, *, batches: int, size: int) -> None:
        self._hospital = hospital
        self._batches = batches
        self._size = size
        self._file = f"slots-{hospital.training}.key"
        #: Records of a seeded simulation are those of its seed, and so are its deals.
        self._repeats = hospital.site.simulated and hospital.settings.seeded

    def is_lost(self, round: int) -> bool:
        """Whether the deal of a round's pass is not there, or not yet."""
        return not self._repeats and self._read(round) is None

    def draw(self, round: int, patients: NDArray[np.int64]) -> None:
        """Deal a pass: where it begins, or goes on and is paid for anew.

        Nowhere else: who was in a batch that was shown, and is dealt to one that follows, is shown
        more often than a pass pays for.

        Args:
            round: one of the pass.
            patients: who is there, ascending.
        """
        key, known = os.urandom(_KEY), self._hospital.own.identities()
        marks = [os.urandom(_MARK) for _ in range(self._batches * self._size)]
        if len(patients) > len(marks):
            self._hospital.site.log(
                f"{len(patients)} patients are more than the {len(marks)} slots of a pass, which "
                "follow from what is declared: some are left out, and the guarantee of the others "
                "is weaker (docs/security.md); declare more, in a training to come"
            )
        for patient, slot in self._dealt(round, patients).items():
            marks[slot] = _mark(key, known[patient])
        data = self._head(round) + key + b"".join(marks)
        self._hospital.site.write_secret(self._file, data)

    def tell_lost(self, place: Place) -> None:
        """Say in the hospital's own log what a lost deal costs, and what its operator can do."""
        self._hospital.site.log(
            f"round {place.round}: {self._file} is missing, or is not of this pass, so nobody "
            "knows any more in which slots patients were shown. The rest of the pass is dealt, and "
            "paid for, anew, if the training has events left for it (privacy.spare-attempts); "
            "else this hospital answers no more rounds of it (stale-place). Nothing has to be done "
            "here: put no older file back, and see why it was lost"
        )

    def require(self, place: Place) -> None:
        """Insist that a place goes on with the slots that it began with.

        Raises:
            Fault: ``stale-place``: they are lost.
        """
        if self.is_lost(place.round):
            self.tell_lost(place)
            raise Fault(Code.STALE_PLACE, f"the slots of {place} are lost; it is to begin anew")

    def batch(
        self, round: int, patients: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the patients of a round's batch, ascending, and the place of each in it.

        Args:
            round: whose batch it is.
            patients: who is there now, ascending.

        Raises:
            Fault: ``stale-place``: the deal of the pass is lost.
        """
        slots = self._dealt(round, patients) if self._repeats else self._kept(round, patients)
        number = (round - 1) % self._batches
        here = {p: slot for p, slot in sorted(slots.items()) if slot // self._size == number}
        places = [slot % self._size for slot in here.values()]
        return np.array(list(here), dtype=np.int64), np.array(places, dtype=np.int64)

    def _dealt(self, round: int, patients: NDArray[np.int64]) -> Mapping[int, int]:
        """Return a fresh deal of the pass: slots by patient."""
        slots = deal_slots(
            len(patients), batches=self._batches, size=self._size, stream=self._stream(round)
        )
        return dict(zip(patients.tolist(), slots.tolist(), strict=False))

    def _kept(self, round: int, patients: NDArray[np.int64]) -> Mapping[int, int]:
        """Return the deal of the pass as it was kept: slots of those patients who are still here.

        Raises:
            Fault: ``stale-place``: it is lost.
        """
        data = self._read(round)
        if data is None:
            raise Fault(Code.STALE_PLACE, "the slots of this pass are lost")
        key, marks = data[:_KEY], data[_KEY:]
        slots = {marks[at : at + _MARK]: at // _MARK for at in range(0, len(marks), _MARK)}
        known = self._hospital.own.identities()
        found = {p: slots.get(_mark(key, known[p])) for p in patients.tolist()}
        return {patient: slot for patient, slot in found.items() if slot is not None}

    def _stream(self, round: int) -> Stream:
        """Open the stream that deals the slots of a pass."""
        settings = self._hospital.settings
        if not settings.seeded:
            return Stream.fresh()
        return Stream.from_seed(
            settings.run.seed, self._hospital.site.name, "slots", self._pass(round)
        )

    def _read(self, round: int) -> bytes | None:
        """Return key and marks of a pass; None where they are not there."""
        kept, head = self._hospital.site.read_secret(self._file) or b"", self._head(round)
        whole = len(head) + _KEY + _MARK * self._batches * self._size
        return kept[len(head) :] if kept.startswith(head) and len(kept) == whole else None

    def _head(self, round: int) -> bytes:
        return _MAGIC + self._pass(round).to_bytes(8, "big")

    def _pass(self, round: int) -> int:
        return (round - 1) // self._batches


def _mark(key: bytes, identity: bytes) -> bytes:
    return hmac.digest(key, identity, "sha256")[:_MARK]
