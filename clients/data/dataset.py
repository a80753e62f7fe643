"""A data set: its public facts, the rows to train on, and an official test part if it has one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clients.data.errors import DataError
from clients.data.reading_log import ReadingLog
from clients.data.records import DatasetInfo, LazyTargets, Records
from clients.tasks.question import OF_CLASSES


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory (or lazily on disk): rows to train on, and an official test split.

    Attributes:
        info: the public facts.
        train: rows that become the hospitals' own (less the holdout, if there is no `test`).
        test: the official public test split, or None.
        hospital_names: the real hospital behind each number in `train.hospitals`.
        patient_names: the hospital's own identifier behind each number in `train.patients`; for its
            own log alone.
        log: what could not be read.

    Records without a declared target are left out, lazy ones as they are drawn, and test records of
    patients who are trained on: what a hospital answers must not depend on any one record.
    """

    info: DatasetInfo
    train: Records
    test: Records | None = None
    hospital_names: tuple[str, ...] = ()
    patient_names: tuple[str, ...] = field(default=(), repr=False, compare=False)
    log: ReadingLog = field(default_factory=ReadingLog, repr=False, compare=False)

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            if part is not None and tuple(part.inputs.shape[1:]) != self.info.shape:
                raise DataError(
                    f"{self.info.name}: inputs of shape {tuple(part.inputs.shape[1:])}, "
                    f"expected {self.info.shape}",
                    code="shape",
                )
        object.__setattr__(self, "train", self._with_targets(self.train, "train"))
        if self.test is not None:
            test = self._with_targets(self.test, "test")
            object.__setattr__(self, "test", self._apart(test))

    def _with_targets(self, part: Records, name: str) -> Records:
        """Return the records whose target says something that was declared.

        Raises:
            DataError: `shape`: targets are of another form.
        """
        question = self.info.question
        if part.labels.shape[1:] != question.shape:
            raise DataError(
                f"{self.info.name}: {name} targets of shape {part.labels.shape[1:]} each, expected "
                f"{question.shape} for {question.kind}",
                code="shape",
            )
        if isinstance(part.labels, LazyTargets):
            return part  # which of them say nothing shows as they are drawn
        known = question.known(part.labels)
        if known.all():
            return part
        row = int(np.flatnonzero(~known)[0])
        kind = "no declared class" if question.kind in OF_CLASSES else "no known target"
        found = str(part.labels[row]) if part.labels.ndim < 3 else "a mask"
        self.log.note(
            f"{kind}: the record is out",
            f"{self.info.name}: {name} row {row}: label {found}, expected {question.expected()}",
            count=int((~known).sum()),
        )
        return part.take(np.flatnonzero(known))

    def _apart(self, test: Records) -> Records:
        """Return the test records of patients who are not trained on."""
        both = np.isin(test.patients, self.train.patients)
        if not both.any():
            return test
        row = int(np.flatnonzero(both)[0])
        named = f": patient {self.patient_names[test.patients[row]]}" if self.patient_names else ""
        self.log.note(
            "of a patient who is trained on: the test record is out",
            f"{self.info.name}: test row {row}{named}; a patient's records all belong to one part",
            count=int(both.sum()),
        )
        return test.take(np.flatnonzero(~both))
