"""How many predictions each patient gets: counted on disk before anything is computed.

What a patient learns of the model grows with each answer, so answers are few: so many a day and in
all. A prediction that fails on the way counts; one that cannot be counted is not made.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from crypto.whole_file import write_private
from deployment.inference.packets import KEEP_DAYS
from deployment.inference.servers import Denied


class Allowances:
    """The counts of all patients.

    Args:
        folder: where they are kept.
        per_day: predictions of one patient in a day (UTC).
        in_all: predictions of one patient, ever.
    """

    def __init__(self, folder: Path, *, per_day: int, in_all: int) -> None:
        self._folder, self._per_day, self._in_all = folder, per_day, in_all
        self._lock = threading.Lock()

    def left(self, patient: str) -> int:
        """Return how many predictions a patient has left today."""
        today, ever = self._counts(patient)
        return max(min(self._per_day - today, self._in_all - ever), 0)

    def soon(self, patient: str) -> int:
        """Return how many predictions a patient has within the days that a packet is kept for."""
        today, ever = self._counts(patient)
        return max(min(self._per_day * KEEP_DAYS - today, self._in_all - ever), 0)

    def use(self, patient: str) -> int:
        """Count one prediction, on disk, and return how many are left today.

        Raises:
            Denied: there is none left.
        """
        with self._lock:
            today, ever = self._counts(patient)
            if ever >= self._in_all:
                raise Denied("limit", f"all {self._in_all} predictions of {patient} are used up")
            if today >= self._per_day:
                raise Denied("limit", f"{self._per_day} predictions a day are used up; tomorrow")
            count = {"day": _day(), "today": today + 1, "ever": ever + 1}
            write_private(self._path(patient), json.dumps(count).encode())
            return min(self._per_day - today, self._in_all - ever) - 1

    def _counts(self, patient: str) -> tuple[int, int]:
        try:
            said = json.loads(self._path(patient).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0, 0
        # A clock that was set back begins no new day.
        same = str(said["day"]) >= _day()
        return (int(said["today"]) if same else 0), int(said["ever"])

    def _path(self, patient: str) -> Path:
        return self._folder / f"{patient}.json"


def _day() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
