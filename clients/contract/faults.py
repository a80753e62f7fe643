"""What a hospital tells the server when it cannot answer: a code, never a reason.

The text of an exception can carry a patient's value, so it stays in the hospital's own log. The
server gets one of the codes below. The list is closed: what goes wrong while a sum is opened is one
code whatever the reason, since the difference could tell of a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from crypto.errors import SealingError


class Code(StrEnum):
    """Everything that a hospital says instead of an answer."""

    MALFORMED = "malformed"
    SETTINGS_REFUSED = "settings-refused"
    NOT_INVITED = "not-invited"
    SEED_REFUSED = "seed-refused"
    SITE_REFUSED = "site-refused"
    TRAINING_BOUND = "training-bound"
    WRONG_EXCHANGE = "wrong-exchange"
    STALE_PLACE = "stale-place"
    KEYS_MISSING = "keys-missing"
    BEHIND = "behind"
    OPENING_REFUSED = "opening-refused"
    SHARE_REFUSED = "share-refused"
    LIMIT_REFUSED = "limit-refused"
    RELEASE_REFUSED = "release-refused"
    NOT_PUBLIC = "not-public"
    LEDGER_BEHIND = "ledger-behind"
    TRAINING_RETIRED = "training-retired"
    DISK_FULL = "disk-full"
    DATA_UNAVAILABLE = "data-unavailable"
    INTERNAL = "internal"


#: code -> what whoever reads it at the server should know. Nothing in here depends on data.
MEANINGS: dict[Code, str] = {
    Code.MALFORMED: "the request has another form than a hospital reads",
    Code.SETTINGS_REFUSED: "the settings of the run are not valid at the hospital, or not for "
    "its app",
    Code.NOT_INVITED: "the node is not one of the hospitals of this training",
    Code.SEED_REFUSED: "seeded runs need test-mode = true in the hospital's own site.toml",
    Code.SITE_REFUSED: "the hospital's own site.toml has faults, or does not fit the run",
    Code.TRAINING_BOUND: "the training's id stands for other terms at the hospital: its records, "
    "what they say of patients, its app or its version are others than the run's",
    Code.WRONG_EXCHANGE: "the training's exchange has no message of this kind",
    Code.STALE_PLACE: "the request belongs to another round or attempt than the hospital's",
    Code.KEYS_MISSING: "the hospital has no keys for this training",
    Code.BEHIND: "the hospital missed sums and needs those after the round it names",
    Code.OPENING_REFUSED: "the hospital does not open this sum",
    Code.SHARE_REFUSED: "the share of the member that it numbers is none (0: of nobody)",
    Code.LIMIT_REFUSED: "the hospital's own limit, which it names, forbids the round",
    Code.RELEASE_REFUSED: "the hospital may not release this model, or not yet",
    Code.NOT_PUBLIC: "per-hospital figures are not released for data that are not declared public",
    Code.LEDGER_BEHIND: "the hospital's ledger is older than what others have seen of it",
    Code.TRAINING_RETIRED: "the hospital has ended its part in this training for good",
    Code.DISK_FULL: "the hospital cannot write to its disk",
    Code.DATA_UNAVAILABLE: "the hospital could not read its own data",
    Code.INTERNAL: "an unexpected error; its traceback is in the hospital's own log",
}

#: The form of what follows the colon, for the only codes that have it.
_PARAMETERS = {
    Code.BEHIND: re.compile(r"0|[1-9][0-9]{0,9}"),
    Code.SHARE_REFUSED: re.compile(r"0|[1-9][0-9]{0,3}"),
    Code.LIMIT_REFUSED: re.compile(r"[a-z]+(-[a-z]+){0,4}"),
}
_LONGEST = 64

#: Flower reserves small numbers for its own error codes.
FLOWER_ERROR_CODE = 1000


class Fault(Exception):
    """A hospital cannot go on.

    Attributes:
        code: what the server is told.
        detail: what the hospital's own log is told.

    Raises:
        ValueError: A code that is not on the list, or with a parameter that does not belong to it.
    """

    def __init__(self, code: Code, detail: str = "", *, parameter: int | str | None = None) -> None:
        known = Code(code)
        text = known.value if parameter is None else f"{known}:{parameter}"
        if read_code(text) is None:
            raise ValueError(f"{text!r} is no code: {known} has another form")
        super().__init__(text)
        self.code = text
        self.detail = detail or MEANINGS[known]
        self.add_note(self.detail)  # tracebacks, which the hospital's own log holds, end with it


def read_code(text: str) -> Code | None:
    """Return the code that a text names, None for a text that no hospital would send."""
    if len(text) > _LONGEST:
        return None
    word, colon, parameter = text.partition(":")
    try:
        code = Code(word)
    except ValueError:
        return None
    form = _PARAMETERS.get(code)
    if form is None:
        return None if colon else code
    return code if colon and form.fullmatch(parameter) else None


@contextmanager
def one_code_for_openings() -> Iterator[None]:
    """Turn whatever a sum, roster or snapshot is refused for into the same fault.

    Raises:
        Fault: opening-refused; the reason is its detail, for the hospital's own log.
    """
    try:
        yield
    except SealingError as error:
        raise Fault(Code.OPENING_REFUSED, f"{error.code}: {error}") from error
